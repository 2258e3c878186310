/* SPDX-License-Identifier: Apache-2.0 */

/* What a batch tells: lines for people and the log, the bar on a terminal, the summary file. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "batch/run.h"

#define DRAW_MS    100   /* a bar is drawn at most so often */
#define LINE_MS    10000 /* a line elsewhere */
#define LINE_PCT   10    /* or after so much of the whole, */
#define SOON_MS    1000  /* but not sooner */
#define LINE_BYTES 1024
#define COLUMNS    80

/* A log or a terminal that cannot be written to has nowhere to complain to, and is no reason to
 * stop eight hours of work: what these writes return is dropped. */

static void write_log(struct run *run, const char *line)
{
    char text[LINE_BYTES + 40], stamp[32];
    struct timespec now = { 0 };
    struct tm utc = { 0 };

    if (run->log_fd < 0)
        return;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    (void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &utc);
    const int length = snprintf(text, sizeof(text), "%s %s\n", stamp, line);
    (void)fd_write_all(run->log_fd, text, (size_t)length);
}

static void erase_bar(struct run *run)
{
    static const char erase[] = "\r\033[K";

    if (run->progress.is_drawn)
        (void)fd_write_all(STDERR_FILENO, erase, sizeof(erase) - 1);
    run->progress.is_drawn = false;
}

void report_line(struct run *run, const char *format, ...)
{
    char line[LINE_BYTES], text[LINE_BYTES + 80];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    for (char *at = line; *at; at++) { /* parts of it come from workers and from the daemon */
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = ' ';
    }
    write_log(run, line);
    if (run->options->is_detached)
        return;
    erase_bar(run);
    const int length = snprintf(text, sizeof(text), "%s: %s\n", run->spec->name, line);
    (void)fd_write_all(STDERR_FILENO, text, (size_t)length);
}

static unsigned terminal_columns(void)
{
    struct winsize size = { 0 };

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col - 1U
                                                                            : COLUMNS;
}

static const char *waiting_text(const struct run *run)
{
    for (unsigned i = 0; i < STACK_WORKER_MAX && pool_alive(run) == 0; i++) {
        if (run->workers[i].state == WORKER_QUEUED)
            return "waiting for memory";
    }
    return NULL;
}

static void draw_bar(struct run *run, const struct progress_facts *facts, uint64_t now_ms)
{
    char text[PROGRESS_TEXT_BYTES], line[PROGRESS_TEXT_BYTES + 8];

    (void)progress_bar(facts, terminal_columns(), text);
    const int length = snprintf(line, sizeof(line), "\r%s\033[K", text);
    (void)fd_write_all(STDERR_FILENO, line, (size_t)length);
    run->progress.is_drawn = true;
    run->progress.drawn_ms = now_ms;
    run->progress.drawn_done = facts->done;
    run->progress.drawn_workers = facts->workers;
}

void report_progress(struct run *run, bool is_last)
{
    const uint64_t now_ms = clock_now_ms();
    struct progress *progress = &run->progress;
    const struct progress_facts facts = {
        .name = run->spec->name,
        .waits_for = waiting_text(run),
        .total = run->input.count,
        .done = run->tally.done,
        .failed = run->tally.failed,
        .done_now = run->tally.done - run->tally.done_before,
        .elapsed_ms = now_ms - run->started_ms,
        .workers = pool_alive(run),
    };
    const uint64_t step = facts.total / (100 / LINE_PCT) + 1;
    char text[PROGRESS_TEXT_BYTES];

    if (progress->is_terminal) {
        if (is_last)
            erase_bar(run);
        else if (now_ms - progress->drawn_ms >= DRAW_MS)
            draw_bar(run, &facts, now_ms);
        return;
    }
    const uint64_t quiet_ms = now_ms - progress->drawn_ms;
    if (is_last || quiet_ms < SOON_MS ||
        (quiet_ms < LINE_MS && facts.done - progress->drawn_done < step))
        return;
    if (facts.done != progress->drawn_done || facts.workers != progress->drawn_workers)
        report_line(run, "%s", progress_line(&facts, text));
    progress->drawn_ms = now_ms;
    progress->drawn_done = facts.done;
    progress->drawn_workers = facts.workers;
}

static const char *end_name(enum batch_end end)
{
    switch (end) {
    case BATCH_END_DONE:
        return "done";
    case BATCH_END_INCOMPLETE:
        return "incomplete";
    case BATCH_END_INTERRUPTED:
        return "interrupted";
    case BATCH_END_NEVER_FITS:
        return "never_fits";
    }
    return "failed";
}

static json_t *summary_object(const struct run *run, const struct batch_result *result)
{
    const struct tally *tally = &run->tally;
    const char *end = run->failure < 0 && !run->is_never_fits ? "failed" : end_name(result->end);

    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:I, s:I, s:I, s:f}", "name",
                     run->spec->name, "end", end, "segments_total", (json_int_t)run->input.count,
                     "segments_done", (json_int_t)tally->done, "segments_done_before",
                     (json_int_t)tally->done_before, "segments_failed", (json_int_t)tally->failed,
                     "segments_retried", (json_int_t)tally->retried, "workers_max",
                     (int)tally->workers_max, "workers_min", (int)tally->workers_min,
                     "workers_crashed", (json_int_t)tally->crashes, "refusals",
                     (json_int_t)tally->refusals, "flushes", (json_int_t)tally->flushes, "wall_s",
                     (double)(clock_now_ms() - run->started_ms) / 1000.0);
}

/* Beside the place, then renamed over it: who reads it finds the whole or nothing. */
int report_summary(const struct run *run, const struct batch_result *result, struct error *err)
{
    const char *path = run->options->summary_path;
    OWNED(fd_close) int fd = -1;
    OWNED(freep) char *beside = NULL;
    OWNED(freep) char *text = NULL;
    OWNED(freep) char *line = NULL;
    json_t *object = NULL;
    int r = 0;

    if (!path)
        return 0;
    object = summary_object(run, result);
    text = object ? json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(object);
    if (!text || asprintf(&line, "%s\n", text) < 0 || asprintf(&beside, "%s.new", path) < 0)
        return error_set(err, -ENOMEM, "cannot write %s: out of memory", path);
    fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    r = fd < 0 ? -errno : fd_write_all(fd, line, strlen(line));
    /* Where no summary is worth more than half of one, a power cut must not put a name to nothing.
     */
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    CRASH_POINT(batch_finished);
    if (r == 0 && rename(beside, path) < 0)
        r = -errno;
    return r < 0 ? error_set(err, r, "cannot write the summary %s: %s", path, strerror(-r)) : 0;
}
