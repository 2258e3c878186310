/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <brim/brim.h>

#include "narrator.h"

static int library_error(struct error *err, int code, const char *what)
{
    return error_set(err, -EIO, "%s: %s", what, brim_strerror(code));
}

static int on_flush(brim_worker *worker, void *user)
{
    (void)worker;
    struct narrator *narrator = user;
    struct error err = { 0 };
    if (model_flush(&narrator->model, &err) != 0) {
        fprintf(stderr, "narrator: flush: %s\n", err.message);
        return -1;
    }
    return diary_flush(&narrator->diary, narrator->done_count) < 0 ? -1 : 0;
}

static int segment_fail(brim_worker *worker, const char *reason, struct error *err)
{
    int r = brim_worker_failed(worker, reason);
    return r < 0 ? library_error(err, r, "answer the batch") : 0;
}

/* The burst is asked for before anything is allocated; the batch gives it back at the answer. */
static int segment_work(struct narrator *narrator, brim_worker *worker,
                        const struct brim_segment *segment, struct error *err)
{
    struct voice_result result;
    int r = diary_begin(&narrator->diary, segment->index, segment->out);
    if (r < 0)
        return error_set(err, r, "write the log: %s", strerror(-r));
    uint64_t burst_bytes = model_work_bytes(strlen(segment->input), narrator->work_bytes);
    r = brim_worker_burst(worker, burst_bytes);
    if (r < 0)
        return segment_fail(worker, brim_strerror(r), err);
    struct error reason = { 0 };
    r = narrator_speak(narrator, segment->input, segment->out, &result, &reason);
    if (r == -EBADMSG)
        return error_set(err, r, "segment %" PRIu64 ": %s", segment->index, reason.message);
    if (r != 0)
        return segment_fail(worker, reason.message, err);
    r = diary_done(&narrator->diary, segment->index, &result, segment->out);
    if (r < 0)
        return error_set(err, r, "write the log: %s", strerror(-r));
    narrator->done_count++;
    r = brim_worker_done(worker);
    return r < 0 ? library_error(err, r, "answer the batch") : 0;
}

int worker_run(struct narrator *narrator, struct error *err)
{
    brim_worker *worker = NULL;
    int r = brim_worker_open(&worker);
    if (r < 0)
        return error_set(err, -EINVAL, "not started by a batch ($BRIM_FD): %s; or use --naive",
                         brim_strerror(r));
    r = brim_worker_on_flush(worker, on_flush, narrator);
    int status = r < 0 ? library_error(err, r, "announce the flush") : 0;
    struct brim_segment segment;
    while (status == 0 && (r = brim_worker_next(worker, &segment)) == 1)
        status = segment_work(narrator, worker, &segment, err);
    if (status == 0 && r < 0)
        status = library_error(err, r, "wait for a segment");
    brim_worker_close(worker);
    return status == 0 ? model_check(&narrator->model, err) : status;
}
