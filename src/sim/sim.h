/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "budget/waitlist.h"
#include "sim/workload.h"

/*
 * Simulation: a workload played through a policy that shares gpus. Memory is that of the jobs that
 * are there at a time, whatever the length of the workload; the same workload gives the same
 * figures.
 *
 * Policies: `brim` is the budget itself, with samples of what the jobs use. The two beside it know
 * neither bursts nor facts: each job holds its peak, resident and burst, for life.
 *   fcfs     first come first served: nobody passes the first of the line
 *   largest  of those who wait the largest that fits
 */

/* Times, in buckets a sixteenth of their size wide. */
#define SIM_TIMES_BUCKETS (64 * 16)
struct sim_times {
    uint64_t counts[SIM_TIMES_BUCKETS];
    uint64_t count, most_ms;
};
void sim_times_add(struct sim_times *times, uint64_t ms);
/* What so many of a thousand do not exceed: a bucket's upper end. */
uint64_t sim_times_per_mille(const struct sim_times *times, uint32_t per_mille);

struct sim_result {
    uint64_t jobs, granted, never_fit, gave_up, evicted;
    uint64_t bursts, bursts_refused;
    uint64_t overfull; /* how often foreign growth left a gpu with more used than it has */
    struct sim_times waits, burst_waits;
    uint64_t worst_passed; /* the most later jobs that came in before one that waited */
    uint64_t events, end_ms;
    double used_pct; /* of all gpus' bytes, over the time */
};

enum sim_answer {
    SIM_GRANTED = 0,
    SIM_QUEUED = 1,
    SIM_NEVER_FITS = 2,
};

enum sim_state {
    SIM_WAITING = 1,
    SIM_LOADING,
    SIM_IDLE,
    SIM_BURST_WAITING,
    SIM_BUSY,
};

/* A job that is there. */
struct sim_live {
    struct sim_job job;
    enum sim_state state;
    uint32_t gpu;
    bool is_stopping;
    uint64_t asked_ms; /* for its grant, or for its burst */
    uint64_t end_ms;   /* once it is ready */
    uint64_t used_bytes;
    uint64_t lease_id;            /* the policy's */
    struct sim_live *next, *prev; /* the policy's lists; next: of the unused */
    struct sim_live *all_next;    /* all that were ever made */
    struct heap_node timer;       /* what it does next */
    struct waiter place;          /* in the line of arrivals */
};

struct sim;

struct sim_policy {
    const char *name, *title;
    int (*open)(struct sim *sim, void **ret_state);
    void (*close)(void *state);
    /* enum sim_answer, or -ENOMEM. GRANTED: live->gpu is set. */
    int (*arrive)(void *state, struct sim_live *live);
    void (*ready)(void *state, struct sim_live *live);
    int (*burst_begin)(void *state, struct sim_live *live);
    void (*burst_end)(void *state, struct sim_live *live);
    void (*leave)(void *state, struct sim_live *live);
    void (*foreign)(void *state, uint32_t gpu);
    uint64_t (*next_ms)(const void *state);
    void (*advance)(void *state);
};

extern const struct sim_policy sim_policy_brim, sim_policy_fcfs, sim_policy_largest;

int sim_run(const struct sim_policy *policy, const struct sim_gpu *gpus, uint32_t gpu_count,
            const struct sim_source *source, struct sim_result *ret_result, struct error *err);

/* For policies. */
uint64_t sim_now_ms(const struct sim *sim);
uint32_t sim_gpu_count(const struct sim *sim);
const struct sim_gpu *sim_gpu(const struct sim *sim, uint32_t gpu);
uint64_t sim_foreign_bytes(const struct sim *sim, uint32_t gpu);
void sim_grant(struct sim *sim, struct sim_live *live); /* one that waited; live->gpu is set */
void sim_give_up(struct sim *sim, struct sim_live *live);
void sim_burst_grant(struct sim *sim, struct sim_live *live);
void sim_burst_refuse(struct sim *sim, struct sim_live *live);
void sim_stop(struct sim *sim, struct sim_live *live); /* ends when its burst does */

#endif
