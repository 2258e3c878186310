/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PLAN_H
#define CLI_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/sim.h"

/* brim plan, in parts: the options (plan.c), playing (plan_play.c), what is shown (plan_view.c),
 * and recording (plan_record.c). */

struct plan {
    const char *trace, *record; /* of the arguments; both NULL: arrivals */
    uint64_t arrivals, load_pct, seed;
    uint64_t for_ms; /* how long to record; CLOCK_NEVER_MS: until it is interrupted */
    uint64_t reserve_bytes;
    bool has_reserve, is_json;
    bool is_past; /* record what the daemon has kept, not what happens */
    struct sim_gpu gpus[SIM_GPU_MAX];
    char names[SIM_GPU_MAX][64];
    uint32_t gpu_count; /* 0: as the trace says */
};

#define PLAN_POLICY_COUNT 3
extern const struct sim_policy *const plan_policies[PLAN_POLICY_COUNT];

struct plan_run {
    struct sim_result results[PLAN_POLICY_COUNT];
    double policy_s[PLAN_POLICY_COUNT]; /* of a processor */
    uint64_t peak_bytes;                /* the most memory that this process had */
};

/* Fills in the gpus where the trace says which, then plays all policies. */
int plan_play(struct plan *plan, struct plan_run *ret_run, struct error *err);
int plan_show(const struct plan *plan, const struct plan_run *run, struct error *err);
int plan_record(const struct plan *plan);

/* The daemon's kept events as steps, oldest first: plan_past.c. take: as for api_follow(). */
struct sim_step;
int plan_past(int (*take)(void *user, const struct sim_step *step), void *user, struct error *err);

#endif
