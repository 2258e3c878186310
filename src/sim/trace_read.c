/* SPDX-License-Identifier: Apache-2.0 */

/* A trace as a source: lines to items, a job with the bursts below it. What is wrong is said with
 * its file and line. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "sim/trace.h"

#define BURSTS_MAX (UINT32_C(1) << 20) /* of one job */

static int check_gpu(struct sim_trace *trace, const struct sim_item *item, struct error *err)
{
    if (trace->is_past_gpus)
        return error_set(err, -EINVAL, "gpus come before all else");
    if (item->gpu != trace->gpus_seen)
        return error_set(err, -EINVAL, "this is gpu %" PRIu32 ", not %" PRIu32, trace->gpus_seen,
                         item->gpu);
    trace->gpus_seen++;
    return 1;
}

static int check(struct sim_trace *trace, const struct sim_item *item, struct error *err)
{
    uint32_t gpu = item->kind == SIM_ITEM_JOB ? item->job.claim.parts[0].gpu : item->gpu;

    if (item->kind == SIM_ITEM_BURST || item->kind == SIM_ITEM_END)
        return 1;
    if (item->at_ms < trace->last_ms)
        return error_set(err, -EINVAL, "times must not go back");
    trace->last_ms = item->at_ms;
    if (item->kind == SIM_ITEM_GPU)
        return check_gpu(trace, item, err);
    trace->is_past_gpus = true;
    if (gpu != CLAIM_GPU_ANY && gpu >= trace->gpu_count)
        return error_set(err, -EINVAL, "there is no gpu %" PRIu32 "; name more by --gpu", gpu);
    return 1;
}

static int say_where(const struct sim_trace *trace, int r, struct error *err)
{
    char where[512];

    (void)snprintf(where, sizeof(where), "%s:%zu", trace->path, trace->number);
    error_wrap(err, where);
    return r;
}

/* The next item, be it a part of one. */
static int next_line_item(struct sim_trace *trace, struct sim_item *ret_item, struct error *err)
{
    const char *line;
    int r = 0;

    if (trace->has_ahead) {
        *ret_item = trace->ahead;
        trace->has_ahead = false;
        return 1;
    }
    while (r == 0) {
        r = trace->line(trace->context, &line, err);
        if (r <= 0)
            return r;
        trace->number++;
        r = sim_trace_parse(line, ret_item, err);
        if (r > 0)
            r = check(trace, ret_item, err);
    }
    return r < 0 ? say_where(trace, r, err) : r;
}

static int add_burst(const struct sim_trace *trace, struct sim_job *job,
                     const struct sim_burst *burst, struct error *err)
{
    uint32_t count = job->burst_count;

    if (burst->bytes > job->claim.parts[0].burst_bytes)
        return say_where(
            trace, error_set(err, -EINVAL, "more than burst=… of job %s", job->claim.name), err);
    if (job->claim.parts[0].burst_bytes == 0)
        return say_where(trace, error_set(err, -EINVAL, "job %s has no burst=…", job->claim.name),
                         err);
    if (count == BURSTS_MAX)
        return say_where(trace, error_set(err, -E2BIG, "more than %u bursts", BURSTS_MAX), err);
    if (count == 0 || (count >= 8 && (count & (count - 1)) == 0)) {
        struct sim_burst *grown =
            reallocarray(job->bursts, count ? 2 * (size_t)count : 8, sizeof(*grown));

        if (!grown)
            return error_set(err, -ENOMEM, "no memory for the trace");
        job->bursts = grown;
    }
    job->bursts[job->burst_count++] = *burst;
    return 1;
}

/* The lines that belong to a job. */
static int read_bursts(struct sim_trace *trace, struct sim_item *job_item, struct error *err)
{
    struct sim_job *job = &job_item->job;
    struct sim_item item;
    int r;

    while ((r = next_line_item(trace, &item, err)) > 0 && item.kind == SIM_ITEM_BURST)
        if (add_burst(trace, job, &item.burst, err) < 0)
            return -EINVAL;
    if (r < 0)
        return r;
    if (job->bursts && job_item->has_habits)
        return say_where(trace,
                         error_set(err, -EINVAL,
                                   "job %s has run, busy or idle, and bursts of its own: one or "
                                   "the other",
                                   job->claim.name),
                         err);
    if (r > 0 && item.kind == SIM_ITEM_END && job->bursts) {
        job->rest_ms = item.burst.after_ms;
        return 1;
    }
    if (job->bursts)
        return say_where(
            trace, error_set(err, -EINVAL, "the bursts of job %s lack their end", job->claim.name),
            err);
    if (r > 0) {
        trace->ahead = item;
        trace->has_ahead = true;
    }
    return 1;
}

static int trace_next(void *context, struct sim_item *ret_item, struct error *err)
{
    struct sim_trace *trace = context;
    struct sim_item item = { 0 };
    int r;

    do
        r = next_line_item(trace, &item, err);
    while (r > 0 && item.kind == SIM_ITEM_GPU);
    if (r > 0 && (item.kind == SIM_ITEM_BURST || item.kind == SIM_ITEM_END))
        return say_where(trace,
                         error_set(err, -EINVAL, "%s without a job that has a burst above",
                                   item.kind == SIM_ITEM_END ? "an end" : "a burst"),
                         err);
    if (r > 0 && item.kind == SIM_ITEM_JOB)
        r = read_bursts(trace, &item, err);
    if (r > 0)
        *ret_item = item;
    else if (r < 0)
        free(item.job.bursts);
    return r;
}

int sim_trace_gpus(struct sim_trace *trace, struct sim_gpu gpus[SIM_GPU_MAX], uint32_t *ret_count,
                   struct error *err)
{
    struct sim_item item;
    int r;

    trace->gpu_count = SIM_GPU_MAX;
    while ((r = next_line_item(trace, &item, err)) > 0 && item.kind == SIM_ITEM_GPU)
        gpus[item.gpu] = (struct sim_gpu){ item.capacity_bytes, item.reserve_bytes };
    if (r < 0)
        return r;
    if (r > 0) {
        trace->ahead = item;
        trace->has_ahead = true;
    }
    trace->gpu_count = trace->gpus_seen;
    *ret_count = trace->gpus_seen;
    return 0;
}

struct sim_source sim_trace_source(struct sim_trace *trace)
{
    return (struct sim_source){ .next = trace_next, .context = trace };
}
