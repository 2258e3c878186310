/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/worker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "batch/run.h"

#define MEASURE_MS  250 /* the daemon's figures are no fresher */
#define GROWN_COUNT 3
#define RETRY_MS    1000

void worker_init(struct worker *worker, struct run *run, unsigned number)
{
    *worker = (struct worker){
        .run = run,
        .number = number,
        .segment_deadline_ms = CLOCK_NEVER_MS,
        .stop_deadline_ms = CLOCK_NEVER_MS,
    };
    keeper_child_init(&worker->child);
    channel_init(&worker->channel);
    (void)snprintf(worker->log_path, sizeof(worker->log_path), "%s/" BATCH_WORKER_LOG_NAME,
                   run->options->dir, number);
}

/* ---- the lease ---- */

/* Both only note it: they run inside of a dispatch, and worker_step() does what follows. */

static uint64_t on_trim(brim_lease *lease, uint64_t wanted_bytes, void *user)
{
    struct worker *worker = user;

    (void)lease;
    (void)wanted_bytes;
    worker->wants_flush = true;
    return 0; /* nothing yet: the flush comes at the segment's end */
}

static void on_stop(brim_lease *lease, const char *reason, void *user)
{
    struct worker *worker = user;

    (void)lease;
    if (worker->stop_reason[0] != '\0')
        return;
    (void)snprintf(worker->stop_reason, sizeof(worker->stop_reason), "%s",
                   reason[0] ? reason : "brimd wants the memory back");
    report_line(worker->run, "worker %u ends at the segment's end: %s", worker->number,
                worker->stop_reason);
}

/* Until it is known that this program asks for its bursts, the claim's load peak holds one: the
 * first segment is worked on before anybody can tell. */
static uint64_t load_peak_bytes(const struct run *run, bool is_covered)
{
    const struct stack_batch *spec = run->spec;
    const uint64_t busy_bytes = spec->resident_bytes + spec->burst_bytes;

    return is_covered && busy_bytes > spec->load_peak_bytes ? busy_bytes : spec->load_peak_bytes;
}

int worker_ask(struct worker *worker)
{
    const struct run *run = worker->run;
    const struct stack_batch *spec = run->spec;
    char name[STACK_NAME_BYTES];
    brim_lease *lease = NULL;

    worker->is_covered =
        spec->burst_bytes > 0 && run->asks != RUN_ASKS_YES && spec->protocol != STACK_PROTOCOL_EACH;
    (void)snprintf(name, sizeof(name), "%.58s-%u", spec->name, worker->number);
    const struct brim_claim claim = {
        .struct_bytes = sizeof(claim),
        .priority = (uint32_t)spec->priority,
        .name = name,
        .gpu = spec->gpu,
        .resident_bytes = spec->resident_bytes,
        .burst_bytes = spec->burst_bytes,
        .load_peak_bytes = load_peak_bytes(run, worker->is_covered),
        .max_wait_ms = BRIM_WAIT_FOREVER,
    };
    const int r = brim_acquire_start(&claim, &lease);
    if (r < 0)
        return r;
    worker->lease = lease;
    worker->state = WORKER_QUEUED;
    worker->wait = WORKER_WAIT_NONE;
    worker->is_loaded = false;
    worker->has_burst = false;
    worker->wants_flush = false;
    worker->stop_reason[0] = '\0';
    worker->asked_ms = clock_now_ms();
    brim_on_trim(lease, on_trim, worker);
    brim_on_stop(lease, on_stop, worker);
    worker_on_lease(worker);
    return 0;
}

void worker_release(struct worker *worker)
{
    brim_release(worker->lease);
    worker->lease = NULL;
    worker->state = WORKER_NONE;
    worker->wait = WORKER_WAIT_NONE;
    worker->has_burst = false;
}

/* The reason in one line: a person reads it in a log. A batch waits by itself, so it leaves out the
 * advice to wait. */
static const char *wait_text(const struct brim_refusal *refusal, char text[WORKER_REASON_BYTES])
{
    const char *from = refusal && refusal->text ? refusal->text : "";
    size_t used = 0;

    for (; *from && used < WORKER_REASON_BYTES - 3; from++) {
        if (*from != '\n') {
            text[used++] = *from;
            continue;
        }
        const char *line = from + strspn(from, "\n ");
        if (strncmp(line, "wait with --max-wait", strlen("wait with --max-wait")) == 0) {
            from = line + strcspn(line, "\n") - 1;
            continue;
        }
        text[used++] = ';';
        text[used++] = ' ';
        from = line - 1;
    }
    text[used] = '\0';
    return text;
}

static void tell_wait(struct worker *worker, const struct brim_refusal *refusal)
{
    struct run *run = worker->run;
    char text[WORKER_REASON_BYTES];

    if (run->has_told_wait)
        return;
    run->has_told_wait = true;
    run->tally.refusals++;
    if (refusal && refusal->id)
        report_line(run, "worker %u waits: %s (brim why r%llu)", worker->number,
                    wait_text(refusal, text), (unsigned long long)refusal->id);
    else
        report_line(run, "worker %u waits: %s", worker->number, wait_text(refusal, text));
}

static void on_refused(struct worker *worker)
{
    struct run *run = worker->run;
    const struct brim_refusal *refusal = brim_lease_refusal(worker->lease);
    const int code = refusal ? refusal->code : BRIM_ERR_SYSTEM;
    char text[WORKER_REASON_BYTES];
    struct error err = { 0 };

    (void)wait_text(refusal, text);
    run->tally.refusals++;
    if (code == BRIM_ERR_NEVER_FITS)
        run->is_growth_over = true;
    if (pool_alive(run) > 0 || code == BRIM_ERR_NO_ROOM || code == BRIM_ERR_LIMIT ||
        code == BRIM_ERR_CANCELLED) {
        report_line(run, "worker %u is refused: %s", worker->number, text);
        run->not_before_ms = clock_now_ms() + RETRY_MS;
        worker_release(worker);
        return;
    }
    run->is_never_fits = code == BRIM_ERR_NEVER_FITS;
    (void)error_set(&err, -1, "no worker can start: %s", text[0] ? text : brim_strerror(code));
    worker_release(worker);
    run_fail(run, -1, &err);
}

static void on_granted(struct worker *worker)
{
    worker->run->has_told_wait = false;
    worker->state = WORKER_HELD;
    /* Without a protocol nobody tells when loading is over; each process loads under a burst. */
    if (worker->run->spec->protocol == STACK_PROTOCOL_EACH)
        worker_set_loaded(worker);
}

static void on_lost(struct worker *worker)
{
    const struct brim_refusal *refusal = brim_lease_refusal(worker->lease);
    char text[WORKER_REASON_BYTES];

    report_line(worker->run, "worker %u has lost its lease: %s", worker->number,
                wait_text(refusal, text));
    (void)snprintf(worker->stop_reason, sizeof(worker->stop_reason), "its lease was taken away");
    if (worker->child.pid > 0)
        worker_kill(worker, NULL);
}

static void check_burst(struct worker *worker, enum brim_lease_state state)
{
    const struct brim_refusal *refusal = brim_lease_refusal(worker->lease);
    char text[WORKER_REASON_BYTES];

    if (state == BRIM_LEASE_BUSY) {
        worker->has_burst = true;
        talk_on_burst(worker);
    } else if (refusal && refusal->code != 0) {
        /* The reason would look like that of the next burst, too: this lease ends here. */
        (void)snprintf(worker->stop_reason, sizeof(worker->stop_reason), "its burst was refused");
        talk_on_burst_refused(worker, wait_text(refusal, text));
    }
}

static bool waits_for_burst(const struct worker *worker)
{
    return worker->wait == WORKER_WAIT_BURST_ASKED || worker->wait == WORKER_WAIT_BURST_TO_SEND ||
           worker->wait == WORKER_WAIT_BURST_TO_SPAWN;
}

void worker_on_lease(struct worker *worker)
{
    enum brim_lease_state state = BRIM_LEASE_LOST;

    (void)brim_dispatch(worker->lease); /* what it came to shows in the state */
    state = brim_lease_state(worker->lease);
    if (worker->state == WORKER_QUEUED) {
        if (state == BRIM_LEASE_LOADING || state == BRIM_LEASE_IDLE || state == BRIM_LEASE_BUSY)
            on_granted(worker);
        else if (state != BRIM_LEASE_QUEUED)
            on_refused(worker);
        else if (brim_lease_refusal(worker->lease))
            tell_wait(worker, brim_lease_refusal(worker->lease));
        return;
    }
    if (state == BRIM_LEASE_LOST || state == BRIM_LEASE_REFUSED) {
        if (worker->stop_reason[0] == '\0')
            on_lost(worker);
        return;
    }
    if (waits_for_burst(worker))
        check_burst(worker, state);
}

void worker_set_loaded(struct worker *worker)
{
    if (worker->is_loaded)
        return;
    worker->is_loaded = true;
    (void)brim_ready(worker->lease); /* a lease that is lost says so by itself */
}

int worker_take_burst(struct worker *worker, uint64_t bytes)
{
    const int r = brim_burst_start(worker->lease, bytes, BRIM_WAIT_FOREVER);

    if (r == 0)
        worker->has_burst = true;
    return r < 0 ? r : r == 0;
}

void worker_end_burst(struct worker *worker)
{
    if (!worker->has_burst && !waits_for_burst(worker))
        return;
    worker->has_burst = false;
    if (waits_for_burst(worker))
        worker->wait = WORKER_WAIT_NONE;
    (void)brim_burst_end(worker->lease);
}

/* ---- what follows from the facts ---- */

/* A burst that it waits for may never come now: the segment goes back untouched. */
static void stop_while_waiting(struct worker *worker)
{
    const bool was_to_spawn = worker->wait == WORKER_WAIT_BURST_TO_SPAWN;

    worker_end_burst(worker);
    if (worker->has_segment)
        work_give_back(worker->run, worker);
    if (!was_to_spawn)
        worker_stop(worker, worker->stop_reason[0] ? worker->stop_reason : "the batch ends");
}

static void step_held(struct worker *worker)
{
    struct run *run = worker->run;
    const bool is_each = run->spec->protocol == STACK_PROTOCOL_EACH;
    const uint64_t peak_bytes =
        is_each ? run->spec->resident_bytes + run->spec->burst_bytes
                : load_peak_bytes(run, run->spec->burst_bytes > 0 && run->asks != RUN_ASKS_YES);
    int r = 1;

    if (worker->stop_reason[0] != '\0' || run->is_ending || run->queue_count == 0) {
        worker_release(worker);
        return;
    }
    /* The first process under a lease is covered by its load peak; a successor by a burst, and
     * where that is too small, by a new lease. */
    if (worker->is_loaded && peak_bytes > run->spec->resident_bytes + run->spec->burst_bytes) {
        worker_release(worker);
        return;
    }
    if (is_each && !work_take(run, worker))
        return;
    if (worker->is_loaded && peak_bytes > run->spec->resident_bytes)
        r = worker_take_burst(worker, 0);
    if (r == 0) {
        worker->wait = WORKER_WAIT_BURST_TO_SPAWN;
        worker_on_lease(worker);
    } else if (r > 0) {
        worker_spawn(worker);
    } else {
        if (worker->has_segment)
            work_give_back(run, worker);
        worker_release(worker);
    }
}

/* Memory that creeps up: several segments in a row after which it holds more than its share. */
static void watch_growth(struct worker *worker)
{
    struct run *run = worker->run;
    const struct stack_batch *spec = run->spec;
    const uint64_t now_ms = clock_now_ms();
    char held[SIZE_TEXT_BYTES], claimed[SIZE_TEXT_BYTES];
    uint64_t bytes = 0;

    if (spec->flush_growth_pct == 0 || !run->options->measure || worker->done_since_flush == 0 ||
        now_ms - worker->measured_ms < MEASURE_MS)
        return;
    worker->measured_ms = now_ms;
    if (run->options->measure(brim_lease_id(worker->lease), &bytes) < 0)
        return;
    const uint64_t limit_bytes =
        spec->resident_bytes + spec->resident_bytes / 100 * spec->flush_growth_pct;
    worker->grown_count = bytes > limit_bytes ? worker->grown_count + 1 : 0;
    if (worker->grown_count < GROWN_COUNT)
        return;
    report_line(run, "worker %u holds %s, more than %u%% over its %s, after %d segments: flush",
                worker->number, size_format(bytes, held), spec->flush_growth_pct,
                size_format(spec->resident_bytes, claimed), GROWN_COUNT);
    worker->grown_count = 0;
    worker->wants_flush = true;
}

static bool flush_is_due(const struct worker *worker)
{
    const uint32_t every = worker->run->spec->flush_every;

    return worker->done_since_flush > 0 &&
           (worker->wants_flush || (every > 0 && worker->done_since_flush >= every));
}

/* It stands at a segment's boundary. */
static void step_idle(struct worker *worker)
{
    struct run *run = worker->run;
    int r = 1;

    watch_growth(worker);
    if (worker->stop_reason[0] != '\0')
        worker_stop(worker, worker->stop_reason);
    else if (run->is_ending)
        worker_stop(worker, "the batch ends");
    else if (run->queue_count == 0)
        worker_stop(worker, "no segment is left");
    else if (flush_is_due(worker))
        talk_flush(worker);
    else if (work_take(run, worker)) {
        /* A program that does not ask works under a burst that the batch took. */
        if (worker->is_loaded && run->spec->burst_bytes > 0 && !worker->has_burst &&
            !worker->has_asked && run->asks != RUN_ASKS_YES)
            r = worker_take_burst(worker, 0);
        if (r == 0) {
            worker->wait = WORKER_WAIT_BURST_TO_SEND;
            worker_on_lease(worker);
        } else if (r > 0) {
            talk_send_segment(worker);
        } else {
            work_give_back(run, worker);
            worker_stop(worker, brim_strerror(r));
        }
    }
}

void worker_step(struct worker *worker)
{
    struct run *run = worker->run;
    const bool must_end = worker->stop_reason[0] != '\0' || run->is_ending;

    if (run->is_killing && worker->child.pid > 0) {
        if (!worker->is_lost)
            worker_kill(worker, NULL);
        return;
    }
    if (worker->state == WORKER_QUEUED && run->is_ending) {
        worker_release(worker);
    } else if (waits_for_burst(worker) && must_end) {
        stop_while_waiting(worker);
    }
    if (worker->state == WORKER_HELD && worker->wait == WORKER_WAIT_NONE)
        step_held(worker);
    else if (worker->state == WORKER_RUNNING && worker->wait == WORKER_WAIT_NONE &&
             !worker->has_segment && run->spec->protocol != STACK_PROTOCOL_EACH)
        step_idle(worker);
}

/* ---- deadlines ---- */

static uint64_t heartbeat_deadline_ms(const struct worker *worker)
{
    /* Whoever waits for our answer is not expected to tell that it lives. */
    if (!worker->has_heartbeat || worker->state != WORKER_RUNNING ||
        worker->wait != WORKER_WAIT_NONE)
        return CLOCK_NEVER_MS;
    return clock_after_ms(worker->heard_ms, worker->run->spec->heartbeat_ms);
}

/* An answer that came together with the question shows in the state, and never at the descriptor.
 */
static bool is_answered(const struct worker *worker)
{
    return worker->state == WORKER_QUEUED && brim_lease_state(worker->lease) != BRIM_LEASE_QUEUED;
}

static uint64_t flush_deadline_ms(const struct worker *worker)
{
    return worker->wait == WORKER_WAIT_FLUSHED ? worker->flush_deadline_ms : CLOCK_NEVER_MS;
}

uint64_t worker_deadline_ms(const struct worker *worker)
{
    uint64_t next_ms = worker->stop_deadline_ms;

    if (is_answered(worker))
        return 0;
    if (worker->child.pid <= 0)
        return CLOCK_NEVER_MS;
    if (heartbeat_deadline_ms(worker) < next_ms)
        next_ms = heartbeat_deadline_ms(worker);
    if (flush_deadline_ms(worker) < next_ms)
        next_ms = flush_deadline_ms(worker);
    /* 0: has passed already; it only waits for the process to end. */
    if (!waits_for_burst(worker) && worker->segment_deadline_ms != 0 &&
        worker->segment_deadline_ms < next_ms)
        next_ms = worker->segment_deadline_ms;
    return next_ms;
}

void worker_on_time(struct worker *worker, uint64_t now_ms)
{
    char text[WORKER_REASON_BYTES], duration[DURATION_TEXT_BYTES];

    if (is_answered(worker)) {
        worker_on_lease(worker);
    } else if (now_ms >= worker->stop_deadline_ms) {
        report_line(worker->run, "worker %u does not end and is killed", worker->number);
        worker->stop_deadline_ms = CLOCK_NEVER_MS;
        keeper_signal(&worker->child, SIGKILL);
    } else if (now_ms >= flush_deadline_ms(worker)) {
        talk_on_flush_late(worker);
    } else if (now_ms >= heartbeat_deadline_ms(worker)) {
        (void)snprintf(text, sizeof(text), "sent no heartbeat for %s",
                       duration_format(worker->run->spec->heartbeat_ms, duration));
        worker_kill(worker, text);
    } else if (worker->segment_deadline_ms != 0 && now_ms >= worker->segment_deadline_ms) {
        (void)snprintf(text, sizeof(text), "took longer than %s",
                       duration_format(worker->run->spec->timeout_ms, duration));
        worker->segment_deadline_ms = 0;
        worker_kill(worker, text);
    }
}
