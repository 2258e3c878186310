/* SPDX-License-Identifier: Apache-2.0 */

/* How many workers: what fits now. One claim more than there are workers always waits at the daemon
 * while there are segments for it, so that memory that comes back is used at once. */

#include "base/clock.h"
#include "batch/run.h"

/* A claim that waits for long makes others wait behind it. While workers run it gives way now and
 * then: time enough to be let in (the daemon closes its queue for it after 30 s), not for ever. */
#define GROWTH_RENEW_MS UINT64_C(45000)
#define RETRY_MS        1000

static unsigned count_state(const struct run *run, enum worker_state state)
{
    unsigned count = 0;

    for (unsigned i = 0; i < STACK_WORKER_MAX; i++)
        count += run->workers[i].state == state;
    return count;
}

unsigned pool_alive(const struct run *run)
{
    return count_state(run, WORKER_HELD) + count_state(run, WORKER_RUNNING) +
           count_state(run, WORKER_STOPPING);
}

/* Of those that are there, how many take segments. */
static unsigned count_working(const struct run *run)
{
    unsigned count = 0;

    for (unsigned i = 0; i < STACK_WORKER_MAX; i++) {
        const struct worker *worker = &run->workers[i];
        if (worker->stop_reason[0] == '\0' &&
            (worker->state == WORKER_HELD || worker->state == WORKER_RUNNING ||
             (worker->state == WORKER_STOPPING && worker->is_restarting)))
            count++;
    }
    return count;
}

static unsigned least(uint64_t left, uint64_t right)
{
    return (unsigned)(left < right ? left : right);
}

/* How many claims should wait now. */
static unsigned wanted_waiting(const struct run *run)
{
    const unsigned alive = pool_alive(run), working = count_working(run);
    const unsigned room = run->spec->workers_max > alive ? run->spec->workers_max - alive : 0;
    unsigned wanted = working < run->spec->workers_min ? run->spec->workers_min - working : 1;

    if (run->is_ending || (run->is_growth_over && alive > 0))
        return 0;
    return least(wanted, least(room, run->queue_count));
}

static void drop_waiting(struct run *run, unsigned keep)
{
    for (unsigned i = 0; i < STACK_WORKER_MAX; i++) {
        struct worker *worker = &run->workers[i];
        if (worker->state != WORKER_QUEUED)
            continue;
        if (keep > 0)
            keep--;
        else
            worker_release(worker);
    }
}

void pool_ask_anew(struct run *run)
{
    run->has_told_wait = false;
    drop_waiting(run, 0);
}

static void renew_growth(struct run *run, uint64_t now_ms)
{
    for (unsigned i = 0; i < STACK_WORKER_MAX; i++) {
        struct worker *worker = &run->workers[i];
        if (worker->state == WORKER_QUEUED && now_ms - worker->asked_ms > GROWTH_RENEW_MS)
            worker_release(worker);
    }
}

static void ask_one(struct run *run, uint64_t now_ms)
{
    struct error err = { 0 };
    struct worker *worker = run->workers;

    while (worker->state != WORKER_NONE)
        worker++; /* there is one: fewer than workers_max are taken */
    const int r = worker_ask(worker);
    if (r == 0)
        return;
    run->not_before_ms = now_ms + RETRY_MS;
    if (pool_alive(run) > 0)
        return;
    (void)error_set(&err, -1, "cannot ask for memory: %s", brim_strerror(r));
    run_fail(run, -1, &err);
}

void pool_step(struct run *run)
{
    const uint64_t now_ms = clock_now_ms();
    const unsigned wanted = wanted_waiting(run);
    unsigned waiting = count_state(run, WORKER_QUEUED);

    if (waiting > wanted)
        drop_waiting(run, wanted);
    else if (waiting > 0 && pool_alive(run) > 0)
        renew_growth(run, now_ms);
    waiting = count_state(run, WORKER_QUEUED);
    while (waiting < wanted && now_ms >= run->not_before_ms) {
        ask_one(run, now_ms);
        waiting++;
    }
}
