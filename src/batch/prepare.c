/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "batch/output.h"
#include "keeper/journal.h"

int run_take_signals(struct run *run, sigset_t *ret_before, struct error *err)
{
    const struct sigaction ignore = { .sa_handler = SIG_IGN };
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGUSR1);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigaction(SIGPIPE, &ignore, NULL); /* a worker that is gone is an error of write() */
    (void)sigprocmask(SIG_BLOCK, &signals, ret_before);
    run->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (run->signal_fd >= 0)
        return 0;
    const int r = error_set(err, -errno, "cannot take signals: %s", strerror(errno));
    (void)sigprocmask(SIG_SETMASK, ret_before, NULL);
    return r;
}

/* ---- what is done already ---- */

struct survey {
    struct run *run;
    uint64_t missing_count; /* done, but their output is gone or of another size */
    int failure;
};

static int on_row(const struct segment_row *row, void *user)
{
    struct survey *survey = user;
    struct run *run = survey->run;
    struct work *work = &run->works[row->index];
    OWNED(freep) char *path = output_path(run->spec->output, row->index);

    if (!path)
        return -ENOMEM;
    *work = (struct work){ .state = row->state, .tries = row->tries, .attempts = row->attempts };
    if (row->state == SEGMENT_DONE && !output_is_there(path, row->out_bytes)) {
        work->state = SEGMENT_PENDING;
        survey->missing_count++;
    }
    if (work->state != SEGMENT_DONE && row->attempts > 0)
        output_remove_attempts(path, row->attempts);
    if (work->state == SEGMENT_DONE)
        run->tally.done++;
    else
        work_push(run, row->index);
    return 0;
}

static int survey_segments(struct run *run, struct survey *survey, struct error *err)
{
    const int r = segments_each(run->segments, on_row, survey, err);

    if (r == -ENOMEM)
        return error_set(err, r, "out of memory");
    run->tally.done_before = run->tally.done;
    return r;
}

static void tell_beginning(struct run *run, const struct segments_change *change,
                           const struct survey *survey)
{
    const uint64_t total = run->input.count, done = run->tally.done;

    if (change->changed_count > 0)
        report_line(run, "%" PRIu64 " segments changed since the last run and run again",
                    change->changed_count);
    if (change->dropped_count > 0)
        report_line(run, "%" PRIu64 " segments are no longer in the input; their outputs stay",
                    change->dropped_count);
    if (survey->missing_count > 0)
        report_line(run, "%" PRIu64 " outputs are gone or were changed; their segments run again",
                    survey->missing_count);
    if (done == total)
        report_line(run, "all %" PRIu64 " segments are done already; --again starts over", total);
    else if (done > 0)
        report_line(run, "goes on: %" PRIu64 " of %" PRIu64 " segments are done", done, total);
    else
        report_line(run, "%" PRIu64 " segments", total);
}

/* ---- --again ---- */

static int move_aside(struct run *run, uint64_t index, uint64_t generation, struct error *err)
{
    OWNED(freep) char *path = output_path(run->spec->output, index);
    OWNED(freep) char *old = path ? output_old_path(path, generation) : NULL;

    if (!old)
        return error_set(err, -ENOMEM, "out of memory");
    if (rename(path, old) < 0 && errno != ENOENT)
        return error_set(err, -errno, "cannot move %s to %s: %s", path, old, strerror(errno));
    return 0;
}

static int sync_moved(const struct run *run, uint64_t total, struct error *err)
{
    OWNED(freep) char *synced = NULL;
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < total; i++) {
        char *path = output_path(run->spec->output, i);
        if (!path)
            return error_set(err, -ENOMEM, "out of memory");
        if (!synced || !output_share_dir(synced, path))
            r = output_sync_dir(path);
        if (r == -ENOENT) /* nothing was there to be moved */
            r = 0;
        free(synced);
        synced = path;
    }
    return r < 0 ? error_set(err, r, "cannot make the names of the old outputs durable: %s",
                             strerror(-r))
                 : 0;
}

/* Outputs first: if that is interrupted, the next run finds them missing and nothing is
 * overwritten. */
static int start_over(struct run *run, struct error *err)
{
    struct segments_info info = { 0 };
    int r = segments_read_info(run->segments, &info, err);

    for (uint64_t i = 0; r == 0 && i < info.total; i++)
        r = move_aside(run, i, info.generation + 1, err);
    if (r == 0)
        r = sync_moved(run, info.total, err);
    if (r < 0)
        return r;
    if (info.done > 0)
        report_line(run, "starts over; old outputs have .old-%" PRIu64 " in their names",
                    info.generation + 1);
    return segments_clear(run->segments, err);
}

/* ---- the beginning ---- */

static int allocate(struct run *run)
{
    run->works = calloc(run->input.count, sizeof(*run->works));
    run->queue = calloc(run->input.count, sizeof(*run->queue));
    return run->works && run->queue ? 0 : -ENOMEM;
}

static int open_log(struct run *run, struct error *err)
{
    char path[PATHS_BYTES];
    off_t start = 0;
    const int r = paths_join(path, sizeof(path), run->options->dir, BATCH_LOG_NAME, err);

    if (r < 0)
        return r;
    run->log_fd = keeper_journal_open(path, &start, err);
    return run->log_fd < 0 ? run->log_fd : 0;
}

static int fill(struct run *run, struct error *err)
{
    const struct stack_batch *spec = run->spec;
    struct segments_change change = { 0 };
    struct survey survey = { .run = run };
    OWNED(freep) char *first = output_path(spec->output, 0);
    int r = first ? output_make_dir(first, err) : error_set(err, -ENOMEM, "out of memory");

    if (r == 0)
        r = output_sync_dir_name(first, err);
    if (r == 0)
        r = run_check_output(run->options, spec->output, err);
    if (r == 0)
        r = input_read(spec, &run->input, err);
    if (r == 0)
        r = segments_open(run->options->dir, spec->output, &run->segments, err);
    if (r == 0)
        r = open_log(run, err);
    if (r == 0 && run->options->starts_over)
        r = start_over(run, err);
    if (r == 0)
        r = segments_load(run->segments, run->input.hashes, run->input.count, true, &change, err);
    if (r == 0 && allocate(run) < 0)
        r = error_set(err, -ENOMEM, "out of memory");
    if (r == 0)
        r = survey_segments(run, &survey, err);
    if (r == 0)
        tell_beginning(run, &change, &survey);
    return r;
}

int run_prepare(const struct stack_batch *spec, const struct batch_options *options,
                struct run **ret_run, struct error *err)
{
    struct run *run = calloc(1, sizeof(*run));

    if (!run)
        return error_set(err, -ENOMEM, "out of memory");
    run->spec = spec;
    run->options = options;
    run->log_fd = run->signal_fd = -1;
    run->started_ms = clock_now_ms();
    run->progress.is_terminal = !options->is_detached && isatty(STDERR_FILENO);
    run->progress.drawn_ms = run->started_ms;
    for (unsigned i = 0; i < STACK_WORKER_MAX; i++)
        worker_init(&run->workers[i], run, i + 1);
    *ret_run = run; /* also on failure: the caller ends it */
    return fill(run, err);
}
