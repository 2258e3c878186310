/* SPDX-License-Identifier: Apache-2.0 */

/* The protocol with one worker: what is sent to it, and what follows from its lines. */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/size.h"
#include "batch/answer.h"
#include "batch/output.h"
#include "batch/run.h"

#define CLOSED_GRACE_MS 5000 /* from the end of its channel to SIGKILL */
/* For a flush, where the batch has no limit for a segment: 100 GB to the host and back take a
 * minute. */
#define FLUSH_LIMIT_MS UINT64_C(300000)

static void fail_for_memory(struct worker *worker)
{
    struct error err = { 0 };

    (void)error_set(&err, -ENOMEM, "out of memory");
    run_fail(worker->run, -ENOMEM, &err);
}

/* Takes the line. A worker that is going has closed its end: its exit tells the rest. */
static void send_line(struct worker *worker, char *take_line)
{
    OWNED(freep) char *line = take_line;
    int r = line ? 0 : -ENOMEM;

    if (line && channel_is_open(&worker->channel))
        r = channel_send(&worker->channel, line);
    if (r == -ENOMEM)
        fail_for_memory(worker);
    else if (r < 0)
        worker->stop_deadline_ms = clock_now_ms() + CLOSED_GRACE_MS;
}

void talk_send_segment(struct worker *worker)
{
    const struct stack_batch *spec = worker->run->spec;
    char id[OUTPUT_ID_BYTES];

    worker->wait = WORKER_WAIT_NONE;
    worker->heard_ms = clock_now_ms();
    worker->segment_deadline_ms =
        spec->timeout_ms ? clock_after_ms(worker->heard_ms, spec->timeout_ms) : CLOCK_NEVER_MS;
    send_line(worker, request_segment(worker->segment, output_id(worker->segment, id),
                                      worker->run->input.texts[worker->segment],
                                      spec->input == STACK_INPUT_JSONL, worker->attempt_path));
    CRASH_POINT(batch_sent);
}

void talk_stop(struct worker *worker, const char *why)
{
    if (channel_is_open(&worker->channel))
        send_line(worker, request_stop(why));
}

static uint64_t flush_limit_ms(const struct worker *worker)
{
    const uint64_t timeout_ms = worker->run->spec->timeout_ms;

    return timeout_ms ? timeout_ms : FLUSH_LIMIT_MS;
}

static void restart_unflushed(struct worker *worker, const char *what)
{
    report_line(worker->run, "worker %u %s and is restarted", worker->number, what);
    worker_stop(worker, "it could not flush");
    worker->is_restarting = true;
}

void talk_on_flush_late(struct worker *worker)
{
    char what[WORKER_REASON_BYTES], duration[DURATION_TEXT_BYTES];

    worker->wait = WORKER_WAIT_NONE;
    (void)snprintf(what, sizeof(what), "has not flushed in %s",
                   duration_format(flush_limit_ms(worker), duration));
    restart_unflushed(worker, what);
}

void talk_flush(struct worker *worker)
{
    const enum stack_flush by = worker->run->spec->flush_by;

    worker->wants_flush = false;
    worker->done_since_flush = 0;
    worker->run->tally.flushes++;
    if (by == STACK_FLUSH_WORKER && !worker->can_flush)
        report_line(worker->run, "worker %u has not said that it can flush and is restarted",
                    worker->number);
    if (by != STACK_FLUSH_RESTART && worker->can_flush) {
        worker->wait = WORKER_WAIT_FLUSHED;
        worker->flush_deadline_ms = clock_after_ms(clock_now_ms(), flush_limit_ms(worker));
        send_line(worker, request_flush());
        return;
    }
    worker_stop(worker, "it is started again to give its memory back whole");
    worker->is_restarting = true;
}

/* ---- bursts ---- */

void talk_on_burst(struct worker *worker)
{
    const enum worker_wait wait = worker->wait;

    worker->wait = WORKER_WAIT_NONE;
    worker->heard_ms = clock_now_ms();
    if (wait == WORKER_WAIT_BURST_TO_SPAWN)
        worker_spawn(worker);
    else if (wait == WORKER_WAIT_BURST_TO_SEND)
        talk_send_segment(worker);
    else if (wait == WORKER_WAIT_BURST_ASKED)
        send_line(worker, request_granted(worker->burst_bytes));
}

void talk_on_burst_refused(struct worker *worker, const char *why)
{
    const enum worker_wait wait = worker->wait;

    if (wait != WORKER_WAIT_BURST_ASKED)
        return; /* the stop reason takes it from here */
    worker->wait = WORKER_WAIT_NONE;
    worker->heard_ms = clock_now_ms();
    send_line(worker, request_refused(why));
}

static void refuse_burst(struct worker *worker, uint64_t bytes)
{
    char asked[SIZE_TEXT_BYTES], claimed[SIZE_TEXT_BYTES], text[200];

    (void)snprintf(text, sizeof(text),
                   "asked for a burst of %s, but the batch's claim has %s; raise burst in vram",
                   size_format(bytes, asked), size_format(worker->run->spec->burst_bytes, claimed));
    send_line(worker, request_refused(text));
}

static const char *on_burst_asked(struct worker *worker, uint64_t bytes)
{
    struct run *run = worker->run;
    int r = 1;

    if (!worker->has_segment)
        return "asked for a burst without a segment";
    if (worker->wait != WORKER_WAIT_NONE)
        return "asked for a burst while it waits for one";
    run->asks = RUN_ASKS_YES;
    worker->has_asked = true;
    worker_set_loaded(worker);
    if (bytes > run->spec->burst_bytes || run->spec->burst_bytes == 0) {
        refuse_burst(worker, bytes);
        return NULL;
    }
    worker->burst_bytes = bytes ? bytes : run->spec->burst_bytes;
    worker->wait = WORKER_WAIT_BURST_ASKED;
    if (!worker->has_burst)
        r = worker_take_burst(worker, bytes);
    if (r > 0)
        talk_on_burst(worker);
    else if (r == 0)
        worker_on_lease(worker);
    else
        talk_on_burst_refused(worker, brim_strerror(r));
    return NULL;
}

/* ---- answers ---- */

static void on_ready(struct worker *worker, const struct answer *answer)
{
    struct run *run = worker->run;

    worker->can_flush = answer->can_flush;
    worker->has_heartbeat = answer->has_heartbeat && run->spec->heartbeat_ms > 0;
    if (answer->asks)
        run->asks = RUN_ASKS_YES;
    /* Who may not ask works on its first segment under what covers it: the load peak, or the burst
     * that it was started with. */
    if (run->asks != RUN_ASKS_YES && run->spec->burst_bytes > 0)
        return;
    worker_set_loaded(worker);
    worker_end_burst(worker);
}

static const char *on_answered(struct worker *worker, const struct answer *answer)
{
    struct run *run = worker->run;

    if (!worker->has_segment || answer->number != worker->segment)
        return "answered a segment that it does not have";
    if (worker->wait != WORKER_WAIT_NONE)
        return "answered a segment while it waits for a burst";
    worker_set_loaded(worker);
    if (run->asks == RUN_ASKS_UNKNOWN && !worker->has_asked)
        run->asks = RUN_ASKS_NO;
    worker->done_count++;
    worker->done_since_flush++;
    worker_end_burst(worker);
    if (answer->kind == ANSWER_DONE)
        work_done(run, worker);
    else
        work_failed(run, worker, answer->reason[0] ? answer->reason : "the worker gave no reason");
    return NULL;
}

static const char *on_flushed(struct worker *worker, bool is_good)
{
    if (worker->wait != WORKER_WAIT_FLUSHED)
        return "answered a flush that nobody asked for";
    worker->wait = WORKER_WAIT_NONE;
    if (!is_good)
        restart_unflushed(worker, "could not flush");
    return NULL;
}

/* NULL, or what it did wrong. */
static const char *on_answer(struct worker *worker, const struct answer *answer)
{
    switch (answer->kind) {
    case ANSWER_READY:
        on_ready(worker, answer);
        return NULL;
    case ANSWER_BURST:
        return on_burst_asked(worker, answer->number);
    case ANSWER_DONE:
    case ANSWER_FAILED:
        return on_answered(worker, answer);
    case ANSWER_FLUSHED:
        return on_flushed(worker, answer->is_good);
    case ANSWER_HEARTBEAT:
        return NULL;
    }
    return "sent an answer of an unknown kind";
}

static void break_off(struct worker *worker, const char *what)
{
    char text[WORKER_REASON_BYTES];

    const bool is_stdio = worker->run->spec->protocol == STACK_PROTOCOL_STDIO;

    (void)snprintf(text, sizeof(text), "broke the protocol: %.280s%s", what,
                   is_stdio ? " (prints belong on standard error)" : "");
    channel_close(&worker->channel);
    worker_kill(worker, text);
}

static void take_lines(struct worker *worker)
{
    const char *line = NULL;
    struct answer answer;
    struct error err = { 0 };

    while (channel_is_open(&worker->channel)) {
        const long line_bytes = channel_take_line(&worker->channel, &line);
        if (line_bytes == -ENOMEM)
            fail_for_memory(worker);
        if (line_bytes < 0)
            return;
        worker->heard_ms = clock_now_ms();
        /* What it says of a segment that went back while it was being stopped is nobody's. */
        if (worker->state == WORKER_STOPPING && !worker->has_segment)
            continue;
        const int r = answer_parse(line, (size_t)line_bytes, &answer, &err);
        if (r == -ENOMEM)
            fail_for_memory(worker);
        else if (r < 0)
            break_off(worker, err.message);
        if (r < 0)
            return;
        const char *fault = on_answer(worker, &answer);
        if (fault)
            break_off(worker, fault);
    }
}

void talk_on_readable(struct worker *worker)
{
    char text[96];
    const int r = channel_fill(&worker->channel);

    take_lines(worker);
    if (!channel_is_open(&worker->channel) || r > 0)
        return;
    if (r == -ENOMEM) {
        fail_for_memory(worker);
        return;
    }
    if (r == -EMSGSIZE) {
        (void)snprintf(text, sizeof(text), "more than %zu KiB without a newline came",
                       ANSWER_LINE_MAX_BYTES >> 10);
        break_off(worker, text);
        return;
    }
    /* The end: it is about to exit, or has given its channel up, which is the same to us. */
    channel_close(&worker->channel);
    if (worker->stop_deadline_ms == CLOCK_NEVER_MS)
        worker->stop_deadline_ms = clock_now_ms() + CLOSED_GRACE_MS;
}

void talk_drain(struct worker *worker)
{
    struct pollfd watch = { .events = POLLIN };

    /* A child of it may hold the other end and write for ever: only what is there now. */
    for (int i = 0; i < 64 && channel_is_open(&worker->channel); i++) {
        watch.fd = worker->channel.read_fd;
        if (poll(&watch, 1, 0) <= 0 || !(watch.revents & (POLLIN | POLLHUP)))
            return;
        talk_on_readable(worker);
    }
}
