/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_TRACE_H
#define SIM_TRACE_H

#include <stdbool.h>
#include <stddef.h>

#include "sim/workload.h"

/*
 * Trace: a workload as text, one item a line, in the order of time; '#' begins a comment:
 *
 *     0s     gpu 0 11.99GiB reserve=800MiB
 *     0s     job chat resident=5.2GiB burst=2.1GiB run=10m busy=2s idle=8s
 *     12.5s  job tts resident=1.5GiB burst=512MiB gpu=0 priority=interactive wait=30s load=2s
 *            burst after=3.1s for=800ms
 *            burst after=12s for=2s bytes=256MiB wait=5s
 *            end after=4s
 *     15m    foreign gpu=0 2GiB
 *
 * The gpus it was recorded on come first, and may be missing. A job takes, beside what is shown,
 * load_peak=SIZE and the words pin, alone, always-busy. Lines that begin with burst or end belong
 * to the job above them, and stand instead of its run, busy and idle: what it did, one by one, in
 * times from one to the next, so that a wait moves all that comes after it.
 */

/* One line. 1: an item; 0: an empty line or a comment; negative: it is wrong. A job's bursts are
 * items of their own here. */
int sim_trace_parse(const char *line, struct sim_item *ret_item, struct error *err);

/* The words of a job behind its name; what they leave out is as sim_trace_job_init() sets it. */
void sim_trace_job_init(struct sim_item *item, const char *name);
int sim_trace_parse_fields(char *words, struct sim_item *item, struct error *err);

/* Reads lines from somewhere and gives whole items: a source. */
struct sim_trace {
    const char *path; /* borrowed: for what is wrong, with the line's number */
    /* 1: *ret_line, borrowed until the next call; 0: that was all; negative: an error. */
    int (*line)(void *context, const char **ret_line, struct error *err);
    void *context;      /* borrowed */
    uint32_t gpu_count; /* that there are; a higher number is wrong */
    /* The rest is its own. */
    size_t number; /* of the last line */
    uint64_t last_ms;
    uint32_t gpus_seen;
    bool is_past_gpus, has_ahead;
    struct sim_item ahead; /* read already */
};

/* The gpus that it names, before anything else is read; *ret_count may be 0. Sets gpu_count. */
int sim_trace_gpus(struct sim_trace *trace, struct sim_gpu gpus[SIM_GPU_MAX], uint32_t *ret_count,
                   struct error *err);
struct sim_source sim_trace_source(struct sim_trace *trace);

#endif
