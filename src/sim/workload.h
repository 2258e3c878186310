/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_WORKLOAD_H
#define SIM_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "budget/claim.h"

/*
 * Workload: what happens to a machine from outside, in the order of time. Jobs arrive, each with
 * its claim and its habits; foreign programs take and give back memory. It comes from a trace or
 * from a generator; the same workload is given to each policy.
 */

struct sim_job {
    struct claim claim; /* of one part */
    uint64_t wait_ms;   /* it gives up after that; CLOCK_NEVER_MS: never */
    uint64_t load_ms;   /* from its grant until it is ready */
    uint64_t run_ms;    /* from then until it ends, or dies: at whatever it does then */
    uint64_t idle_ms;   /* between two bursts */
    uint64_t busy_ms;   /* of a burst; 0: it has none */
};

enum sim_item_kind {
    SIM_ITEM_JOB = 1,
    SIM_ITEM_FOREIGN,
};

struct sim_item {
    enum sim_item_kind kind;
    uint64_t at_ms;
    struct sim_job job;
    uint32_t gpu;           /* FOREIGN: where */
    uint64_t foreign_bytes; /* how much is taken there from now on */
};

/* 1: *ret_item is the next, not before the last one; 0: that was all; negative: an error. */
struct sim_source {
    int (*next)(void *context, struct sim_item *ret_item, struct error *err);
    void *context; /* borrowed */
};

struct sim_gpu {
    uint64_t capacity_bytes, reserve_bytes;
};
#define SIM_GPU_MAX 16

/* A generator: four kinds of programs, sized by the smallest gpu, arrive at random times and live
 * for random times; one in fifty dies early; foreign programs come and go. */
struct sim_arrivals {
    uint64_t left;       /* jobs still to come */
    uint64_t random;     /* the seed, not 0 */
    uint64_t most_bytes; /* what the smallest gpu can give */
    double gap_ms;       /* the mean time between two arrivals */
    uint32_t gpu_count;
    uint64_t now_ms, foreign_at_ms;
    uint64_t foreign_bytes[SIM_GPU_MAX];
};

/* load_pct: how much of the gpus the residents would fill on average if nobody had to wait. */
void sim_arrivals_init(struct sim_arrivals *arrivals, const struct sim_gpu *gpus,
                       uint32_t gpu_count, uint64_t count, uint32_t load_pct, uint64_t seed);
struct sim_source sim_arrivals_source(struct sim_arrivals *arrivals);

/*
 * A trace is text, one item a line, in the order of time; '#' begins a comment:
 *     12.5s job NAME resident=5.2GiB [burst=2.1GiB] [load_peak=6GiB] [gpu=0] [priority=normal]
 *           [wait=10m] [load=2s] [run=5m] [busy=800ms] [idle=2s] [pin] [alone] [always-busy]
 *     15m foreign gpu=0 2GiB
 */
/* 1: an item; 0: an empty line or a comment; negative: it is wrong. */
int sim_trace_parse(const char *line, struct sim_item *ret_item, struct error *err);

#endif
