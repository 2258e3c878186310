/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/run.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "batch/output.h"
#include "batch/prepare.h"

#define TICK_MS UINT64_C(1000)

/* What one descriptor of poll() belongs to. */
enum watch_kind {
    WATCH_SIGNALS,
    WATCH_LEASE,
    WATCH_CHANNEL,
    WATCH_CHANNEL_OUT, /* a pipe of its own */
    WATCH_EXIT,
};

#define WATCH_MAX (1 + STACK_WORKER_MAX * 4)

struct watches {
    struct pollfd polled[WATCH_MAX];
    enum watch_kind kinds[WATCH_MAX];
    struct worker *workers[WATCH_MAX];
    nfds_t count;
};

uint64_t run_left(const struct run *run)
{
    return run->input.count - run->tally.done - run->tally.failed;
}

void run_fail(struct run *run, int code, const struct error *err)
{
    if (run->failure == 0) {
        run->failure = code;
        run->reason = *err;
    }
    run->is_ending = true;
    run->is_killing = true;
}

/* ---- signals ---- */

static void flush_all(struct run *run)
{
    report_line(run, "flush: every worker at its segment's end");
    for (unsigned i = 0; i < STACK_WORKER_MAX; i++)
        run->workers[i].wants_flush = true;
}

static void end_by_signal(struct run *run, int signal_number)
{
    if (run->is_ending && run->signal_number != 0) {
        report_line(run, "ending at once; what is done stays done");
        run->is_killing = true;
        return;
    }
    run->signal_number = signal_number;
    run->is_ending = true;
    report_line(run,
                "ending when the segments in work are finished (%" PRIu64
                "); once more to end at once",
                run->running_count);
}

static void on_signals(struct run *run)
{
    struct signalfd_siginfo info;

    while (read(run->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGUSR1:
            flush_all(run);
            break;
        case SIGINT:
        case SIGTERM:
            end_by_signal(run, (int)info.ssi_signo);
            break;
        default: /* SIGHUP: a closed terminal does not end a night's work */
            break;
        }
    }
}

/* ---- the loop ---- */

static void add_watch(struct watches *watches, enum watch_kind kind, struct worker *worker, int fd,
                      short events)
{
    if (fd < 0 || events == 0)
        return;
    watches->polled[watches->count] = (struct pollfd){ .fd = fd, .events = events };
    watches->kinds[watches->count] = kind;
    watches->workers[watches->count++] = worker;
}

static void collect(struct run *run, struct watches *watches)
{
    watches->count = 0;
    add_watch(watches, WATCH_SIGNALS, NULL, run->signal_fd, POLLIN);
    for (unsigned i = 0; i < STACK_WORKER_MAX; i++) {
        struct worker *worker = &run->workers[i];
        const struct channel *channel = &worker->channel;
        const short out = channel->out_bytes > 0 ? POLLOUT : 0;
        const bool is_socket = channel->read_fd == channel->write_fd;
        if (worker->lease)
            add_watch(watches, WATCH_LEASE, worker, brim_lease_fd(worker->lease), POLLIN);
        add_watch(watches, WATCH_CHANNEL, worker, channel->read_fd,
                  (short)(POLLIN | (is_socket ? out : 0)));
        if (!is_socket)
            add_watch(watches, WATCH_CHANNEL_OUT, worker, channel->write_fd, out);
        add_watch(watches, WATCH_EXIT, worker, worker->child.pidfd, POLLIN);
    }
}

static void flush_channel(struct worker *worker)
{
    /* A reader that is gone shows at its end of the channel, or by its exit. */
    if (channel_is_open(&worker->channel) && channel_flush(&worker->channel) < 0)
        channel_close(&worker->channel);
}

/* An earlier event of the same round may have closed what this one was about. */
static void handle(struct run *run, enum watch_kind kind, struct worker *worker, short revents)
{
    switch (kind) {
    case WATCH_SIGNALS:
        on_signals(run);
        break;
    case WATCH_LEASE:
        if (worker->lease)
            worker_on_lease(worker);
        break;
    case WATCH_CHANNEL:
        if (revents & POLLOUT)
            flush_channel(worker);
        if ((revents & (POLLIN | POLLHUP | POLLERR)) && channel_is_open(&worker->channel))
            talk_on_readable(worker);
        break;
    case WATCH_CHANNEL_OUT:
        flush_channel(worker);
        break;
    case WATCH_EXIT:
        if (worker->child.pid > 0)
            worker_on_exit(worker);
        break;
    }
}

/* The fewest count only while there is work and after the first worker came. */
static void tally_workers(struct run *run)
{
    struct tally *tally = &run->tally;
    const unsigned alive = pool_alive(run);

    if (alive > tally->workers_max)
        tally->workers_max = alive;
    if (alive > 0 && !tally->has_started) {
        tally->has_started = true;
        tally->workers_min = alive;
    }
    if (tally->has_started && alive < tally->workers_min && run_left(run) > 0 && !run->is_ending)
        tally->workers_min = alive;
}

static void run_step(struct run *run)
{
    const uint64_t now_ms = clock_now_ms();

    for (unsigned i = 0; i < STACK_WORKER_MAX; i++) {
        struct worker *worker = &run->workers[i];
        if (worker_deadline_ms(worker) <= now_ms)
            worker_on_time(worker, now_ms);
    }
    tally_workers(run);
    for (unsigned i = 0; i < STACK_WORKER_MAX; i++) {
        if (run->workers[i].state != WORKER_NONE)
            worker_step(&run->workers[i]);
    }
    tally_workers(run);
    pool_step(run);
}

static bool is_over(const struct run *run)
{
    if (pool_alive(run) > 0)
        return false;
    return run->is_ending || (run->queue_count == 0 && run->running_count == 0);
}

/* Milliseconds until something is due even if nothing happens. */
static int wait_ms(const struct run *run)
{
    const uint64_t now_ms = clock_now_ms();
    uint64_t next_ms = now_ms + TICK_MS;

    for (unsigned i = 0; i < STACK_WORKER_MAX; i++) {
        const uint64_t deadline_ms = worker_deadline_ms(&run->workers[i]);
        next_ms = deadline_ms < next_ms ? deadline_ms : next_ms;
    }
    if (run->not_before_ms > now_ms && run->not_before_ms < next_ms)
        next_ms = run->not_before_ms;
    return next_ms > now_ms ? (int)(next_ms - now_ms) : 0;
}

static int loop(struct run *run, struct error *err)
{
    struct watches *watches = calloc(1, sizeof(*watches));
    int r = 0;

    if (!watches)
        return error_set(err, -ENOMEM, "out of memory");
    run_step(run);
    while (!is_over(run)) {
        collect(run, watches);
        r = poll(watches->polled, watches->count, wait_ms(run));
        if (r < 0 && errno != EINTR) {
            r = error_set(err, -errno, "cannot wait for events: %s", strerror(errno));
            break;
        }
        for (nfds_t i = 0; r > 0 && i < watches->count; i++) {
            if (watches->polled[i].revents)
                handle(run, watches->kinds[i], watches->workers[i], watches->polled[i].revents);
        }
        r = 0;
        run_step(run);
        report_progress(run, false);
    }
    free(watches);
    return r;
}

/* ---- the whole ---- */

static void close_run(struct run *run)
{
    for (unsigned i = 0; i < STACK_WORKER_MAX; i++) {
        struct worker *worker = &run->workers[i];
        int status = 0;
        /* Only after a failed loop one is left: its death signal would come with our end, too. */
        keeper_signal(&worker->child, SIGKILL);
        (void)!keeper_reap(&worker->child, &status);
        channel_close(&worker->channel);
        if (worker->lease)
            worker_release(worker);
        free(worker->attempt_path);
        free(worker->path);
    }
    segments_close(run->segments);
    input_deinit(&run->input);
    free(run->works);
    free(run->queue);
    fd_close(&run->log_fd);
    fd_close(&run->signal_fd);
    free(run);
}

static void free_run(struct run **run)
{
    if (*run)
        close_run(*run);
    *run = NULL;
}

static enum batch_end conclude(struct run *run)
{
    char wall[DURATION_TEXT_BYTES];
    const struct tally *tally = &run->tally;

    (void)duration_format(clock_now_ms() - run->started_ms, wall);
    report_progress(run, true);
    if (tally->done_before == run->input.count)
        return BATCH_END_DONE; /* that was the first line already */
    if (run->failure < 0)
        report_line(run, "ends: %s; %" PRIu64 " of %" PRIu64 " done", run->reason.message,
                    tally->done, run->input.count);
    else if (run_left(run) == 0 && tally->failed == 0)
        report_line(run, "all %" PRIu64 " segments done in %s", run->input.count, wall);
    else if (run_left(run) == 0)
        report_line(run,
                    "%" PRIu64 " of %" PRIu64 " segments done in %s, %" PRIu64
                    " set aside; brim batch show %s tells why",
                    tally->done, run->input.count, wall, tally->failed, run->spec->name);
    else
        report_line(run,
                    "stopped after %s: %" PRIu64 " of %" PRIu64
                    " done; the same command goes on from here",
                    wall, tally->done, run->input.count);
    if (run->is_never_fits)
        return BATCH_END_NEVER_FITS;
    if (run_left(run) > 0)
        return BATCH_END_INTERRUPTED;
    return tally->failed > 0 ? BATCH_END_INCOMPLETE : BATCH_END_DONE;
}

static void tell_ready(const struct run *run)
{
    if (run->options->ready_fd >= 0)
        (void)fd_write_all(run->options->ready_fd, "", 1);
}

int batch_run(const struct stack_batch *spec, const struct batch_options *options,
              struct batch_result *ret_result, struct error *err)
{
    OWNED(free_run) struct run *run = NULL;
    struct batch_result result = { 0 };
    sigset_t before;
    int r = run_prepare(spec, options, &run, err);

    if (r < 0)
        return r;
    r = run_take_signals(run, &before, err);
    if (r < 0)
        return r;
    tell_ready(run);
    CRASH_POINT(batch_prepared);
    r = loop(run, err);
    if (r == 0) {
        result.is_told = run->failure < 0;
        result.end = conclude(run);
        result.signal_number = run->signal_number;
        r = report_summary(run, &result, err);
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    if (r == 0 && run->failure < 0) {
        *err = run->reason;
        r = run->is_never_fits ? 0 : run->failure;
    }
    *ret_result = result;
    return r;
}
