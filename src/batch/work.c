/* SPDX-License-Identifier: Apache-2.0 */

/* The queue of segments, and what becomes of the one that a worker has. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash.h"
#include "batch/output.h"
#include "batch/run.h"

void work_push(struct run *run, uint64_t index)
{
    run->queue[(run->queue_first + run->queue_count) % run->input.count] = index;
    run->queue_count++;
}

static void forget_segment(struct worker *worker)
{
    worker->has_segment = false;
    worker->segment_deadline_ms = CLOCK_NEVER_MS;
    worker->run->running_count--;
    if (worker->run->works[worker->segment].state != SEGMENT_DONE)
        (void)unlink(
            worker->attempt_path); /* a late writer makes it again: the next run removes it */
    free(worker->attempt_path);
    free(worker->path);
    worker->attempt_path = NULL;
    worker->path = NULL;
}

bool work_take(struct run *run, struct worker *worker)
{
    struct error err = { 0 };
    const uint64_t index = run->queue[run->queue_first];
    struct work *work = &run->works[index];
    int r = 0;

    worker->path = output_path(run->spec->output, index);
    worker->attempt_path =
        worker->path ? output_attempt_path(worker->path, work->attempts + 1) : NULL;
    if (!worker->attempt_path)
        r = error_set(&err, -ENOMEM, "out of memory");
    if (r == 0)
        r = output_make_dir(worker->path, &err);
    if (r == 0)
        r = segments_begin(run->segments, index, work->attempts + 1, &err);
    if (r < 0) {
        free(worker->path);
        free(worker->attempt_path);
        worker->path = NULL;
        worker->attempt_path = NULL;
        run_fail(run, r, &err);
        return false;
    }
    run->queue_first = (run->queue_first + 1) % run->input.count;
    run->queue_count--;
    run->running_count++;
    /* Attempts that a power cut took from the store may have left a file under this number. */
    (void)unlink(worker->attempt_path);
    CRASH_POINT(batch_begun);
    work->attempts++;
    work->state = SEGMENT_RUNNING;
    worker->has_segment = true;
    worker->segment = index;
    return true;
}

void work_give_back(struct run *run, struct worker *worker)
{
    struct work *work = &run->works[worker->segment];

    /* In the store it stays RUNNING, which is PENDING to the next run: nothing to write. */
    work->state = SEGMENT_PENDING;
    work_push(run, worker->segment);
    forget_segment(worker);
}

/* On a full disk a failure is not the segment's, and what is said to be done may be cut short: few
 * programs check their last write. Neither counts. */
static bool stop_for_full_disk(struct run *run, struct worker *worker)
{
    struct error err = { 0 };

    if (!output_is_full(worker->path))
        return false;
    (void)error_set(&err, -ENOSPC,
                    "no space is left where %s belongs; make room and run the batch again: what is "
                    "done stays done",
                    worker->path);
    work_give_back(run, worker);
    run_fail(run, -ENOSPC, &err);
    return true;
}

void work_failed(struct run *run, struct worker *worker, const char *reason)
{
    struct work *work = &run->works[worker->segment];
    struct error err = { 0 };
    char id[OUTPUT_ID_BYTES];
    int r = 0;

    run->tally.answered++;
    if (stop_for_full_disk(run, worker))
        return;
    work->tries++;
    (void)output_id(worker->segment, id);
    if (work->tries > run->spec->retries) {
        work->state = SEGMENT_FAILED;
        run->tally.failed++;
        r = segments_fail(run->segments, worker->segment, work->tries, reason, &err);
        report_line(run, "segment %s is set aside after %" PRIu32 " %s: %s", id, work->tries,
                    work->tries == 1 ? "try" : "tries", reason);
        forget_segment(worker);
    } else {
        run->tally.retried++;
        r = segments_retry(run->segments, worker->segment, work->tries, reason, &err);
        report_line(run, "segment %s failed and is tried again: %s", id, reason);
        work_give_back(run, worker);
    }
    if (r < 0)
        run_fail(run, r, &err);
}

static int commit(struct run *run, struct worker *worker, struct error *err)
{
    unsigned char hash[DIGEST_BYTES];
    uint64_t bytes = 0;
    const int r = output_commit(worker->attempt_path, worker->path, &bytes, hash, err);

    return r < 0 ? r : segments_done(run->segments, worker->segment, bytes, hash, err);
}

void work_done(struct run *run, struct worker *worker)
{
    struct error err = { 0 };
    int r = 0;

    CRASH_POINT(batch_answer_read);
    if (stop_for_full_disk(run, worker))
        return;
    r = commit(run, worker, &err);
    if (r == -ENOENT || r == -EINVAL) {
        work_failed(run, worker, err.message);
        return;
    }
    if (r < 0) {
        work_give_back(run, worker);
        run_fail(run, r, &err);
        return;
    }
    CRASH_POINT(batch_committed);
    run->works[worker->segment].state = SEGMENT_DONE;
    run->tally.done++;
    run->tally.answered++;
    run->crash_streak = 0;
    run->start_deaths = 0;
    forget_segment(worker);
}
