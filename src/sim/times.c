/* SPDX-License-Identifier: Apache-2.0 */

#include "sim/sim.h"

/* 0 … 15 exactly; above, four bits below the leading one. */
static uint32_t bucket_of(uint64_t ms)
{
    uint32_t shift;

    if (ms < 16)
        return (uint32_t)ms;
    shift = 59 - (uint32_t)__builtin_clzll(ms);
    return (shift + 1) * 16 + (uint32_t)((ms >> shift) & 15);
}

static uint64_t bucket_end(uint32_t bucket)
{
    uint32_t shift;

    if (bucket < 16)
        return bucket;
    shift = bucket / 16 - 1;
    return ((UINT64_C(16) + bucket % 16 + 1) << shift) - 1;
}

void sim_times_add(struct sim_times *times, uint64_t ms)
{
    times->counts[bucket_of(ms)]++;
    times->count++;
    if (ms > times->most_ms)
        times->most_ms = ms;
}

uint64_t sim_times_per_mille(const struct sim_times *times, uint32_t per_mille)
{
    uint64_t wanted = (uint64_t)((double)times->count * per_mille / 1000.0 + 0.5), seen = 0;

    for (uint32_t i = 0; i < SIM_TIMES_BUCKETS; i++) {
        seen += times->counts[i];
        if (seen >= wanted && seen > 0)
            return bucket_end(i) < times->most_ms ? bucket_end(i) : times->most_ms;
    }
    return times->most_ms;
}
