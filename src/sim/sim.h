/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
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
    uint64_t jobs, granted, never_fit, gave_up;
    uint64_t stuck;                /* they still waited when nothing happened any more */
    uint64_t evicted, trims_asked; /* holders that were asked to leave, and did; to trim */
    uint64_t bursts, bursts_refused;
    uint64_t overfull; /* how often foreign growth left a gpu with more used than it has */
    struct sim_times waits, burst_waits;
    uint64_t worst_passed; /* the most later jobs that came in before one that waited */
    uint64_t events;       /* arrivals, steps of jobs, waits given up, foreign changes */
    uint64_t end_ms;
    double used_pct; /* of all gpus' bytes, over the time */
};

struct sim_policy; /* sim/policy.h */
const char *sim_policy_name(const struct sim_policy *policy);

extern const struct sim_policy sim_policy_brim, sim_policy_fcfs, sim_policy_largest;

int sim_run(const struct sim_policy *policy, const struct sim_gpu *gpus, uint32_t gpu_count,
            const struct sim_source *source, struct sim_result *ret_result, struct error *err);

#endif
