/* SPDX-License-Identifier: Apache-2.0 */

/* How a worker's process ends, and what that means for its segment, its lease and its successor. */

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "batch/run.h"
#include "keeper/journal.h"

#define STOP_GRACE_MS     10000 /* from "stop" to SIGKILL */
#define QUICK_CRASH_MS    2000  /* after its start: the next one waits longer and longer */
#define BACKOFF_FIRST_MS  UINT64_C(100)
#define BACKOFF_DOUBLINGS 8 /* 25 s */
#define START_DEATHS_MAX  3

void worker_stop(struct worker *worker, const char *why)
{
    worker->state = WORKER_STOPPING;
    worker->stop_deadline_ms = clock_now_ms() + STOP_GRACE_MS;
    talk_stop(worker, why);
}

void worker_kill(struct worker *worker, const char *fault)
{
    if (fault && worker->fault[0] == '\0')
        (void)snprintf(worker->fault, sizeof(worker->fault), "%s", fault);
    if (!fault)
        worker->is_lost = true;
    worker->state = WORKER_STOPPING;
    worker->is_restarting = false;
    worker->stop_deadline_ms = CLOCK_NEVER_MS;
    keeper_signal(&worker->child, SIGKILL);
}

/* "worker 2 was killed by signal 9 (Killed): last words" */
static const char *death_text(const struct worker *worker, int status,
                              char text[WORKER_REASON_BYTES])
{
    char how[KEEPER_STATUS_BYTES], last[200];

    (void)keeper_status_text(status, how);
    (void)keeper_journal_tail(worker->log_path, worker->log_start, last, sizeof(last));
    if (worker->fault[0] != '\0')
        (void)snprintf(text, WORKER_REASON_BYTES, "worker %u %.380s", worker->number,
                       worker->fault);
    else
        (void)snprintf(text, WORKER_REASON_BYTES, "worker %u %s%s%s", worker->number, how,
                       last[0] ? "; its last lines: " : "", last);
    return text;
}

static void back_off(struct run *run, const struct worker *worker)
{
    const uint64_t now_ms = clock_now_ms();

    if (now_ms - worker->spawned_ms > QUICK_CRASH_MS)
        return;
    const unsigned doublings =
        run->crash_streak < BACKOFF_DOUBLINGS ? run->crash_streak : BACKOFF_DOUBLINGS;
    /* The first one is taken for an accident. */
    if (run->crash_streak > 0)
        run->not_before_ms = now_ms + (BACKOFF_FIRST_MS << doublings);
    run->crash_streak++;
}

/* It died, and nobody has answered a segment yet: perhaps nobody ever will. */
static void count_start_death(struct run *run, const char *text)
{
    struct error err = { 0 };

    run->start_deaths++;
    report_line(run, "%s", text);
    if (run->start_deaths < START_DEATHS_MAX)
        return;
    (void)error_set(&err, -1, "workers died %d times before they finished any segment; %s",
                    START_DEATHS_MAX, text);
    run_fail(run, -1, &err);
}

static void on_unasked_exit(struct worker *worker, int status)
{
    struct run *run = worker->run;
    const bool is_own_end = WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
                            worker->fault[0] == '\0' && worker->done_count > 0;
    const bool is_timeout = worker->segment_deadline_ms == 0;
    char text[WORKER_REASON_BYTES];

    if (is_own_end) { /* it has done its share and wants to be replaced */
        if (worker->has_segment)
            work_give_back(run, worker);
        return;
    }
    (void)death_text(worker, status, text);
    run->tally.crashes++;
    back_off(run, worker);
    if (run->tally.answered == 0 && !is_timeout) {
        if (worker->has_segment)
            work_give_back(run, worker);
        count_start_death(run, text);
    } else if (worker->has_segment) {
        work_failed(run, worker, text);
    } else {
        report_line(run, "%s", text);
    }
}

/* --each: the process was one segment, its status is the answer. */
static void on_each_exit(struct worker *worker, int status)
{
    char text[WORKER_REASON_BYTES];

    worker_end_burst(worker);
    if (!worker->has_segment)
        return;
    if (worker->is_lost)
        work_give_back(worker->run, worker);
    else if (status == 0 && worker->fault[0] == '\0')
        work_done(worker->run, worker);
    else
        work_failed(worker->run, worker, death_text(worker, status, text));
}

static void on_protocol_exit(struct worker *worker, int status, bool was_asked)
{
    if (worker->is_lost || (was_asked && worker->fault[0] == '\0')) {
        if (worker->has_segment)
            work_give_back(worker->run, worker);
    } else {
        on_unasked_exit(worker, status);
    }
}

void worker_on_exit(struct worker *worker)
{
    struct run *run = worker->run;
    const bool was_asked = worker->state == WORKER_STOPPING;
    const bool is_each = run->spec->protocol == STACK_PROTOCOL_EACH;
    int status = 0;

    talk_drain(worker);
    if (keeper_reap(&worker->child, &status) != 1)
        return;
    channel_close(&worker->channel);
    worker->stop_deadline_ms = CLOCK_NEVER_MS;
    if (is_each)
        on_each_exit(worker, status);
    else
        on_protocol_exit(worker, status, was_asked);
    worker->segment_deadline_ms = CLOCK_NEVER_MS;
    /* Also where a successor follows at once, as in a flush by restart: the dead one's bytes may
     * come back late, and the same lease cannot hold both. Who asks anew waits for them in turn. */
    worker_release(worker);
    /* Others wait for what this one held, or for what it fell to: their reason is another now. */
    if (!was_asked || worker->stop_reason[0] != '\0' || worker->fault[0] != '\0')
        pool_ask_anew(run);
}
