/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Properties of the budget over random histories: each runs a while at random, then is pushed to
 * where it could get stuck, and at last is let go until nobody is left.
 *   usage: test_budget_property STEPS [SEED]
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "world.h"

static void observe_all(struct world *world)
{
    for (uint32_t gpu = 0; gpu < WORLD_GPUS; gpu++)
        world_observe(world, gpu);
}

/* What drains is gone, and the samples say so. */
static void drain_all(struct world *world)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++)
        for (uint32_t k = 0; k < world->holders[i].part_count; k++)
            if (world->holders[i].is_here && world->holders[i].state == LEASE_STATE_DRAINING)
                world->holders[i].parts[k].actual_bytes = 0;
    world_advance(world, WORLD_DRAIN_MS);
    observe_all(world);
}

static void ready_all(struct world *world)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++)
        if (world->holders[i].is_here && world->holders[i].state == LEASE_STATE_LOADING)
            world_ready(world, &world->holders[i]);
}

static void burst_all(struct world *world)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        struct holder *holder = &world->holders[i];

        if (holder->is_here && holder->state == LEASE_STATE_IDLE && !holder->is_burst_waiting)
            world_burst_begin(world, holder, 0, CLOCK_NEVER_MS);
    }
}

static void end_bursts(struct world *world)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        struct holder *holder = &world->holders[i];

        if (holder->is_here && holder->state == LEASE_STATE_BUSY && !holder->claim.is_always_busy)
            world_burst_end(world, holder);
    }
}

static uint32_t count_waiting(const struct world *world)
{
    uint32_t count = 0;

    for (size_t i = 0; i < WORLD_HOLDERS; i++)
        count += world->holders[i].is_here && world->holders[i].is_burst_waiting;
    return count;
}

/* What ends by itself. The always busy, and the idle who want nothing, do not. */
static bool holder_moves(const struct holder *holder)
{
    if (!holder->is_here || holder->state == LEASE_STATE_QUEUED || holder->is_burst_waiting)
        return false;
    return holder->state == LEASE_STATE_DRAINING || holder->state == LEASE_STATE_LOADING ||
           holder->is_stop_asked ||
           (holder->state == LEASE_STATE_BUSY && !holder->claim.is_always_busy);
}

static uint32_t holder_gpus(const struct holder *holder)
{
    uint32_t gpus = 0;

    for (uint32_t k = 0; k < holder->part_count; k++)
        if (holder->parts[k].gpu != CLAIM_GPU_ANY)
            gpus |= UINT32_C(1) << holder->parts[k].gpu;
    return gpus;
}

/* Does anybody move on these gpus, or on gpus tied to them: by a holder, or by a claim of both, for
 * which bursts may wait until it is in? */
static bool anybody_moves(const struct world *world, uint32_t gpus)
{
    for (int round = 0; round < WORLD_GPUS; round++)
        for (size_t i = 0; i < WORLD_HOLDERS; i++) {
            const struct holder *holder = &world->holders[i];

            if (!holder->is_here || (holder_gpus(holder) & gpus) == 0)
                continue;
            if (holder_moves(holder))
                return true;
            gpus |= holder_gpus(holder);
        }
    return false;
}

/* Nobody is left on some gpu of its who could be asked to go, and foreign programs fill it. */
static bool waits_for_foreign(const struct world *world, const struct holder *waiter)
{
    for (uint32_t k = 0; k < waiter->part_count; k++) {
        bool is_anybody_left = false;

        if (world_gpu_holds(world, waiter->parts[k].gpu))
            continue;
        for (size_t i = 0; i < WORLD_HOLDERS; i++) {
            const struct holder *other = &world->holders[i];

            for (uint32_t m = 0; m < other->part_count; m++)
                if (holder_is_held(other) && other->parts[m].gpu == waiter->parts[k].gpu)
                    is_anybody_left |= !other->claim.is_pinned;
        }
        if (!is_anybody_left)
            return true;
    }
    return false;
}

static void check_progress(const struct world *world)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        const struct holder *holder = &world->holders[i];

        if (holder->is_here && holder->is_burst_waiting)
            world_must(anybody_moves(world, holder_gpus(holder)) ||
                           waits_for_foreign(world, holder),
                       "progress: every holder waits", world, holder->id);
    }
}

/* Who was asked to leave does so, once it is not held in a call. */
static void obey_stops(struct world *world)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++)
        if (world->holders[i].is_stop_asked && holder_is_held(&world->holders[i]) &&
            !world->holders[i].is_burst_waiting)
            world_release(world, &world->holders[i]);
}

/* Everybody wants its burst at once, again and again, and a foreign program comes in between. Then
 * nobody wants another: with fresh facts somebody must be at work, or be leaving, or be asked to
 * leave, until only those wait who wait for foreign programs, with none but the pinned beside them.
 */
static void rush(struct world *world)
{
    uint32_t gpu = (uint32_t)world_pick(world, WORLD_GPUS);
    uint64_t foreign_bytes = world->gpus[gpu].foreign_bytes;

    ready_all(world);
    observe_all(world);
    burst_all(world);
    if (!world->is_calm)
        world->gpus[gpu].foreign_bytes += world_pick(world, 4 * GIB);
    for (int i = 0; i < 6; i++) {
        world_advance(world, 1);
        observe_all(world);
        ready_all(world);
        end_bursts(world);
        burst_all(world);
    }
    for (uint32_t round = 0; count_waiting(world) > 0 && round < 2 * WORLD_HOLDERS; round++) {
        drain_all(world);
        observe_all(world);
        check_progress(world);
        ready_all(world);
        end_bursts(world);
        obey_stops(world);
    }
    world->gpus[gpu].foreign_bytes = foreign_bytes;
}

/* Those who wait for their burst all get it, when the others end theirs. */
static void serve_bursts(struct world *world)
{
    for (uint32_t round = 0; count_waiting(world) > 0; round++) {
        world_must(round < 2 * WORLD_HOLDERS, "liveness: a burst is never served", world, 0);
        end_bursts(world);
        ready_all(world);
        world_advance(world, 10);
        observe_all(world);
        end_bursts(world);
        drain_all(world);
    }
}

static void calm_down(struct world *world)
{
    for (uint32_t gpu = 0; gpu < WORLD_GPUS; gpu++)
        world->gpus[gpu].foreign_bytes = 0;
    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        struct holder *holder = &world->holders[i];

        for (uint32_t k = 0; holder->is_here && k < holder->part_count; k++)
            if (holder->state != LEASE_STATE_QUEUED && holder->state != LEASE_STATE_DRAINING)
                holder->parts[k].actual_bytes =
                    world_pick(world, book_claimed_bytes(holder, &holder->parts[k]) + 1);
    }
    observe_all(world);
    drain_all(world);
}

/* Whoever is resident leaves, one by one: everybody who waits must come in at last. */
static void let_go(struct world *world)
{
    for (uint32_t round = 0;; round++) {
        struct holder *leaving = NULL;
        bool is_anybody_here = false;

        for (size_t i = 0; i < WORLD_HOLDERS; i++) {
            struct holder *holder = &world->holders[i];

            is_anybody_here = is_anybody_here || holder->is_here;
            if (holder_is_held(holder) && !holder->is_burst_waiting)
                leaving = holder;
        }
        if (!is_anybody_here)
            break;
        world_must(round < 8 * WORLD_HOLDERS, "liveness: a claim is never granted", world, 0);
        ready_all(world);
        end_bursts(world);
        if (leaving)
            world_release(world, leaving);
        drain_all(world);
    }
    for (uint32_t gpu = 0; gpu < WORLD_GPUS; gpu++) {
        struct budget_gpu_view view;

        budget_view_gpu(world->budget, gpu, &view);
        world_must(view.charged_bytes == 0 && view.draining_bytes == 0,
                   "3: nobody is left, and nothing is charged", world, gpu);
    }
}

struct totals {
    uint64_t steps, grants, bursts, refusals, stops, overdrafts, passes, worst_passes;
};

static void run_history(uint64_t seed, struct totals *totals)
{
    static struct world world;

    world_init(&world, seed);
    world.is_calm = seed % 4 == 0;
    for (int chapter = 0; chapter < 4; chapter++) {
        for (int i = 0; i < 2500; i++)
            world_step(&world);
        rush(&world);
        if (chapter & 1) {
            calm_down(&world);
            serve_bursts(&world);
            let_go(&world);
        }
    }
    totals->steps += world.steps;
    totals->grants += world.grants;
    totals->bursts += world.burst_grants;
    totals->refusals += world.refusals;
    totals->stops += world.stops;
    totals->overdrafts += world.overdrafts;
    totals->passes += world.passes;
    if (world.worst_passes > totals->worst_passes)
        totals->worst_passes = world.worst_passes;
    world_deinit(&world);
}

int main(int argc, char **argv)
{
    uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct totals totals = { 0 };
    uint64_t start_ns = clock_now_ns(), first = seed;

    printf("1..1\n");
    do
        run_history(seed++, &totals);
    while (totals.steps < steps);
    printf("# seeds %" PRIu64 " to %" PRIu64 ": %" PRIu64 " steps in %.1f s, each checked\n", first,
           seed - 1, totals.steps, (double)(clock_now_ns() - start_ns) / 1e9);
    printf("# %" PRIu64 " grants, %" PRIu64 " bursts, %" PRIu64 " refusals, %" PRIu64
           " asked to stop, %" PRIu64 " overdrafts, passed %" PRIu64 " times, one at most %" PRIu64
           "\n",
           totals.grants, totals.bursts, totals.refusals, totals.stops, totals.overdrafts,
           totals.passes, totals.worst_passes);
    printf("ok 1 - the laws hold after every step of every history\n");
    return EXIT_SUCCESS;
}
