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

/* Of a job that does what it once did, one by one. */
struct sim_burst {
    uint64_t after_ms; /* from its being ready, or from the burst before */
    uint64_t for_ms;
    uint64_t bytes;   /* 0: the claim's burst */
    uint64_t wait_ms; /* it goes on without it after that; CLOCK_NEVER_MS: it waits */
};

struct sim_job {
    struct claim claim; /* of one part */
    uint64_t wait_ms;   /* it gives up after that; CLOCK_NEVER_MS: never */
    uint64_t load_ms;   /* from its grant until it is ready */
    uint64_t run_ms;    /* from then until it ends, or dies: at whatever it does then */
    uint64_t idle_ms;   /* between two bursts */
    uint64_t busy_ms;   /* of a burst; 0: it has none */
    /* Instead of the last three: each burst, and how long after the last one it ends. */
    struct sim_burst *bursts; /* owned by whoever has the item; NULL: not so */
    uint32_t burst_count;
    uint64_t rest_ms;
};

enum sim_item_kind {
    SIM_ITEM_JOB = 1,
    SIM_ITEM_FOREIGN,
    SIM_ITEM_GPU, /* these three are of traces only, and go no further than its reader */
    SIM_ITEM_BURST,
    SIM_ITEM_END,
};

struct sim_item {
    enum sim_item_kind kind;
    uint64_t at_ms;
    struct sim_job job;
    uint32_t gpu;                           /* FOREIGN: where; GPU: its number */
    uint64_t foreign_bytes;                 /* how much is taken there from now on */
    uint64_t capacity_bytes, reserve_bytes; /* GPU */
    struct sim_burst burst;                 /* BURST; END: after_ms */
    bool has_habits;                        /* JOB: its run, busy or idle was written */
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

#endif
