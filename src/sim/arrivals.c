/* SPDX-License-Identifier: Apache-2.0 */

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "sim/workload.h"

#define FOREIGN_EVERY_MS (10.0 * 60 * 1000)
#define FOREIGN_FOR_MS   (30.0 * 1000)

/* Kinds of programs: parts of what a gpu can give, in thousandths, and mean times. */
static const struct {
    char name[8];
    uint32_t resident, burst, load_peak;
    uint32_t load_ms, run_ms, idle_ms, busy_ms;
    uint32_t share; /* of a hundred arrivals */
    enum claim_priority priority;
} kinds[] = {
    { "llm", 400, 120, 440, 4000, 60000, 15000, 3000, 20, CLAIM_PRIORITY_INTERACTIVE },
    { "speech", 120, 60, 120, 1000, 40000, 12000, 1000, 40, CLAIM_PRIORITY_NORMAL },
    { "image", 280, 220, 300, 3000, 30000, 10000, 4000, 15, CLAIM_PRIORITY_NORMAL },
    { "embed", 50, 20, 50, 500, 20000, 8000, 300, 25, CLAIM_PRIORITY_BACKGROUND },
};

static uint64_t draw(struct sim_arrivals *arrivals)
{
    arrivals->random ^= arrivals->random >> 12;
    arrivals->random ^= arrivals->random << 25;
    arrivals->random ^= arrivals->random >> 27;
    return arrivals->random * UINT64_C(0x2545f4914f6cdd1d) >> 11;
}

static uint64_t draw_below(struct sim_arrivals *arrivals, uint64_t below)
{
    return draw(arrivals) % below;
}

/* Exponentially distributed, at least 1. */
static uint64_t draw_time(struct sim_arrivals *arrivals, double mean_ms)
{
    double share =
        ((double)draw_below(arrivals, UINT64_C(1) << 52) + 1.0) / (double)(UINT64_C(1) << 52);

    return 1 + (uint64_t)(-log(share) * mean_ms);
}

/* Between a half and one and a half of the mean. */
static uint64_t draw_near(struct sim_arrivals *arrivals, uint64_t mean_ms)
{
    return mean_ms / 2 + draw_below(arrivals, mean_ms + 1);
}

void sim_arrivals_init(struct sim_arrivals *arrivals, const struct sim_gpu *gpus,
                       uint32_t gpu_count, uint64_t count, uint32_t load_pct, uint64_t seed)
{
    double resident_ms = 0.0; /* of a mean arrival, as a share of a gpu */

    *arrivals = (struct sim_arrivals){ .left = count,
                                       .random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1,
                                       .most_bytes = UINT64_MAX,
                                       .gpu_count = gpu_count };
    for (uint32_t i = 0; i < gpu_count; i++)
        if (gpus[i].capacity_bytes - gpus[i].reserve_bytes < arrivals->most_bytes)
            arrivals->most_bytes = gpus[i].capacity_bytes - gpus[i].reserve_bytes;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        resident_ms += (double)kinds[i].share / 100.0 * (double)kinds[i].resident / 1000.0 *
                       (double)(kinds[i].load_ms + kinds[i].run_ms);
    arrivals->gap_ms = resident_ms / (double)gpu_count * 100.0 / (double)(load_pct ? load_pct : 1);
    arrivals->foreign_at_ms = draw_time(arrivals, FOREIGN_EVERY_MS);
}

static void make_job(struct sim_arrivals *arrivals, struct sim_job *job)
{
    uint64_t share = draw_below(arrivals, 100), per_mille = arrivals->most_bytes / 1000;
    size_t kind = 0;

    while (share >= kinds[kind].share)
        share -= kinds[kind++].share;
    *job = (struct sim_job){ .claim = { .priority = kinds[kind].priority, .part_count = 1 },
                             .wait_ms = UINT64_C(600000),
                             .load_ms = draw_time(arrivals, kinds[kind].load_ms),
                             .run_ms = draw_time(arrivals, kinds[kind].run_ms),
                             .idle_ms = draw_near(arrivals, kinds[kind].idle_ms),
                             .busy_ms = draw_near(arrivals, kinds[kind].busy_ms) };
    memcpy(job->claim.name, kinds[kind].name, sizeof(kinds[kind].name));
    job->claim.parts[0] =
        (struct claim_part){ .gpu = CLAIM_GPU_ANY,
                             .resident_bytes = kinds[kind].resident * per_mille,
                             .burst_bytes = kinds[kind].burst * per_mille,
                             .load_peak_bytes = kinds[kind].load_peak * per_mille };
    if (draw_below(arrivals, 50) == 0)
        job->run_ms = draw_below(arrivals, job->run_ms) + 1; /* it dies */
}

/* A program comes, or the one that is there goes. */
static void make_foreign(struct sim_arrivals *arrivals, struct sim_item *item)
{
    uint32_t gpu = (uint32_t)draw_below(arrivals, arrivals->gpu_count);
    bool is_there = arrivals->foreign_bytes[gpu] > 0;

    arrivals->foreign_bytes[gpu] =
        is_there ? 0 : arrivals->most_bytes / 100 * (5 + draw_below(arrivals, 25));
    item->kind = SIM_ITEM_FOREIGN;
    item->at_ms = arrivals->foreign_at_ms;
    item->gpu = gpu;
    item->foreign_bytes = arrivals->foreign_bytes[gpu];
    arrivals->foreign_at_ms += draw_time(arrivals, is_there ? FOREIGN_EVERY_MS : FOREIGN_FOR_MS);
}

static int arrivals_next(void *context, struct sim_item *ret_item, struct error *err)
{
    struct sim_arrivals *arrivals = context;

    (void)err;
    if (arrivals->left == 0)
        return 0;
    if (arrivals->foreign_at_ms <= arrivals->now_ms) {
        make_foreign(arrivals, ret_item);
        if (ret_item->at_ms < arrivals->now_ms)
            ret_item->at_ms = arrivals->now_ms;
        return 1;
    }
    arrivals->left--;
    ret_item->kind = SIM_ITEM_JOB;
    ret_item->at_ms = arrivals->now_ms;
    make_job(arrivals, &ret_item->job);
    arrivals->now_ms += draw_time(arrivals, arrivals->gap_ms);
    return 1;
}

struct sim_source sim_arrivals_source(struct sim_arrivals *arrivals)
{
    return (struct sim_source){ .next = arrivals_next, .context = arrivals };
}
