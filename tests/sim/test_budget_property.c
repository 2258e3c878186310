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

struct crowd {
    uint32_t waiting, working, going, pinned;
};

static struct crowd count_holders(const struct world *world)
{
    struct crowd crowd = { 0 };

    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        const struct holder *holder = &world->holders[i];

        if (!holder->is_here || holder->state == LEASE_STATE_QUEUED)
            continue;
        if (holder->state == LEASE_STATE_DRAINING || holder->is_stop_asked)
            crowd.going++;
        else if (holder->is_burst_waiting)
            crowd.waiting++;
        else
            crowd.working++;
        crowd.pinned += holder->claim.is_pinned;
    }
    return crowd;
}

static bool all_laws_hold(const struct world *world)
{
    for (uint32_t gpu = 0; gpu < WORLD_GPUS; gpu++)
        if (!world_gpu_holds(world, gpu))
            return false;
    return true;
}

/* Everybody wants its burst at once. With fresh facts somebody must be at work, or be leaving, or
 * be asked to leave; where only the pinned are left, foreign programs are what they wait for. */
static void rush(struct world *world)
{
    struct crowd crowd;

    ready_all(world);
    observe_all(world);
    ready_all(world);
    burst_all(world);
    for (int i = 0; i < 4; i++) {
        world_advance(world, 1);
        observe_all(world);
    }
    crowd = count_holders(world);
    world_must(crowd.waiting == 0 || crowd.working > 0 || crowd.going > 0 ||
                   (crowd.pinned > 0 && !all_laws_hold(world)),
               "progress: every holder waits", world, crowd.waiting);
}

static void end_bursts(struct world *world)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        struct holder *holder = &world->holders[i];

        if (holder->is_here && holder->state == LEASE_STATE_BUSY && !holder->claim.is_always_busy)
            world_burst_end(world, holder);
    }
}

/* Those who wait for their burst all get it, when the others end theirs. */
static void serve_bursts(struct world *world)
{
    for (uint32_t round = 0; count_holders(world).waiting > 0; round++) {
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
