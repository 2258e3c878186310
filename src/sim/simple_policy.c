/* SPDX-License-Identifier: Apache-2.0 */

/* The two policies beside the budget: each job holds its peak for life, so bursts are always
 * granted; what a foreign program takes is not there for newcomers, and nobody is asked to leave.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "sim/policy.h"
#include "sim/sim.h"

struct simple {
    struct sim *sim; /* borrowed */
    bool is_fcfs;
    uint64_t held_bytes[SIM_GPU_MAX];
    struct sim_live *first, *last; /* borrowed: who waits, in the order of arrival */
    struct heap deadlines;
};

static uint64_t peak_bytes(const struct sim_live *live)
{
    const struct claim_part *part = &live->job.claim.parts[0];
    uint64_t bytes = part->resident_bytes + part->burst_bytes;

    return part->load_peak_bytes > bytes ? part->load_peak_bytes : bytes;
}

static uint64_t free_bytes(const struct simple *simple, uint32_t gpu)
{
    const struct sim_gpu *card = &simple->sim->gpus[gpu];
    uint64_t taken_bytes =
        card->reserve_bytes + simple->sim->foreign_bytes[gpu] + simple->held_bytes[gpu];

    return taken_bytes < card->capacity_bytes ? card->capacity_bytes - taken_bytes : 0;
}

/* The gpu where it fits best; UINT32_MAX: none. */
static uint32_t best_gpu(const struct simple *simple, const struct sim_live *live)
{
    const uint64_t bytes = peak_bytes(live);
    uint32_t wanted = live->job.claim.parts[0].gpu, best = UINT32_MAX;
    uint64_t best_bytes = UINT64_MAX;

    for (uint32_t gpu = 0; gpu < simple->sim->gpu_count; gpu++) {
        const uint64_t gpu_bytes = free_bytes(simple, gpu);

        if ((wanted != CLAIM_GPU_ANY && wanted != gpu) || gpu_bytes < bytes ||
            gpu_bytes >= best_bytes)
            continue;
        best = gpu;
        best_bytes = gpu_bytes;
    }
    return best;
}

static bool ever_fits(const struct simple *simple, const struct sim_live *live)
{
    uint32_t wanted = live->job.claim.parts[0].gpu;

    for (uint32_t gpu = 0; gpu < simple->sim->gpu_count; gpu++) {
        const struct sim_gpu *card = &simple->sim->gpus[gpu];

        if ((wanted == CLAIM_GPU_ANY || wanted == gpu) &&
            peak_bytes(live) <= card->capacity_bytes - card->reserve_bytes)
            return true;
    }
    return false;
}

static void unlink_waiter(struct simple *simple, struct sim_live *live)
{
    *(live->prev ? &live->prev->next : &simple->first) = live->next;
    *(live->next ? &live->next->prev : &simple->last) = live->prev;
    heap_remove(&simple->deadlines, &live->timer);
}

static struct sim_live *pick_largest(const struct simple *simple)
{
    struct sim_live *best = NULL;
    uint64_t best_bytes = 0, most_bytes = 0;

    for (uint32_t gpu = 0; gpu < simple->sim->gpu_count; gpu++)
        if (free_bytes(simple, gpu) > most_bytes)
            most_bytes = free_bytes(simple, gpu);
    for (struct sim_live *live = simple->first; live; live = live->next) {
        const uint64_t bytes = peak_bytes(live);

        if (bytes <= best_bytes || bytes > most_bytes || best_gpu(simple, live) == UINT32_MAX)
            continue;
        best = live;
        best_bytes = bytes;
    }
    return best;
}

static void let_in(struct simple *simple, struct sim_live *live, uint32_t gpu)
{
    unlink_waiter(simple, live);
    live->gpu = gpu;
    simple->held_bytes[gpu] += peak_bytes(live);
    sim_grant(simple->sim, live);
}

/* Something was freed. */
static void admit(struct simple *simple)
{
    struct sim_live *live;

    while ((live = simple->is_fcfs ? simple->first : pick_largest(simple))) {
        uint32_t gpu = best_gpu(simple, live);

        if (gpu == UINT32_MAX)
            return;
        let_in(simple, live, gpu);
    }
}

/* There was no room for those who wait already. */
static void admit_newcomer(struct simple *simple, struct sim_live *live)
{
    uint32_t gpu = simple->is_fcfs && simple->first != live ? UINT32_MAX : best_gpu(simple, live);

    if (gpu != UINT32_MAX)
        let_in(simple, live, gpu);
}

static int simple_open(struct sim *sim, bool is_fcfs, void **ret_state)
{
    struct simple *simple = calloc(1, sizeof(*simple));

    if (!simple)
        return -ENOMEM;
    simple->sim = sim;
    simple->is_fcfs = is_fcfs;
    *ret_state = simple;
    return 0;
}

static int fcfs_open(struct sim *sim, void **ret_state)
{
    return simple_open(sim, true, ret_state);
}

static int largest_open(struct sim *sim, void **ret_state)
{
    return simple_open(sim, false, ret_state);
}

static void simple_close(void *state)
{
    struct simple *simple = state;

    heap_deinit(&simple->deadlines);
    free(simple);
}

static int simple_arrive(void *state, struct sim_live *live)
{
    struct simple *simple = state;
    uint64_t deadline_ms = clock_after_ms(simple->sim->now_ms, live->job.wait_ms);

    if (!ever_fits(simple, live))
        return SIM_NEVER_FITS;
    if (heap_reserve(&simple->deadlines, simple->deadlines.count + 1) < 0)
        return -ENOMEM;
    /* Who waits has no step of its own: its timer tells when it gives up. */
    heap_push(&simple->deadlines, &live->timer, UINT64_MAX - deadline_ms);
    live->prev = simple->last;
    live->next = NULL;
    *(simple->last ? &simple->last->next : &simple->first) = live;
    simple->last = live;
    admit_newcomer(simple, live);
    return SIM_QUEUED;
}

static void simple_ready(void *state, struct sim_live *live)
{
    (void)state;
    (void)live;
}

static int simple_burst_begin(void *state, struct sim_live *live)
{
    (void)state;
    (void)live;
    return SIM_GRANTED;
}

static void simple_leave(void *state, struct sim_live *live)
{
    struct simple *simple = state;

    simple->held_bytes[live->gpu] -= peak_bytes(live);
    admit(simple);
}

static void simple_foreign(void *state, uint32_t gpu)
{
    (void)gpu;
    admit(state);
}

static uint64_t simple_next_ms(const void *state)
{
    const struct simple *simple = state;

    return simple->deadlines.count > 0 ? UINT64_MAX - heap_top_key(&simple->deadlines)
                                       : CLOCK_NEVER_MS;
}

static void simple_advance(void *state)
{
    struct simple *simple = state;

    while (simple_next_ms(simple) <= simple->sim->now_ms && simple->deadlines.count > 0) {
        struct sim_live *live = heap_top(&simple->deadlines)->owner;

        unlink_waiter(simple, live);
        sim_give_up(simple->sim, live);
    }
    admit(simple);
}

const struct sim_policy sim_policy_fcfs = {
    .name = "fcfs",
    .title = "first come first served, each its peak for life",
    .open = fcfs_open,
    .close = simple_close,
    .arrive = simple_arrive,
    .ready = simple_ready,
    .burst_begin = simple_burst_begin,
    .burst_end = simple_ready,
    .leave = simple_leave,
    .foreign = simple_foreign,
    .next_ms = simple_next_ms,
    .advance = simple_advance,
};

const struct sim_policy sim_policy_largest = {
    .name = "largest",
    .title = "the largest that fits, each its peak for life",
    .open = largest_open,
    .close = simple_close,
    .arrive = simple_arrive,
    .ready = simple_ready,
    .burst_begin = simple_burst_begin,
    .burst_end = simple_ready,
    .leave = simple_leave,
    .foreign = simple_foreign,
    .next_ms = simple_next_ms,
    .advance = simple_advance,
};
