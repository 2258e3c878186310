/* SPDX-License-Identifier: Apache-2.0 */

/* One random step of the world: anything may happen at any time. */

#include <stdio.h>

#include "world.h"

static uint64_t pick_bytes(struct world *world, uint64_t most_bytes)
{
    /* Whole 64 MiB half of the time, so that sums meet a limit exactly now and then. */
    uint64_t bytes = world_pick(world, most_bytes + 1);

    return world_chance(world, 50) ? bytes - bytes % (64 * MIB) : bytes;
}

static uint64_t pick_deadline(struct world *world)
{
    switch (world_pick(world, 4)) {
    case 0:
        return world->now_ms; /* does not wait */
    case 1:
        return CLOCK_NEVER_MS;
    case 2:
        return world->now_ms + 1 + world_pick(world, 2000);
    default:
        return world->now_ms + 1 + world_pick(world, 200000);
    }
}

static void pick_part(struct world *world, struct claim_part *part)
{
    uint64_t most_bytes = world_chance(world, 15) ? 11 * GIB : 3 * GIB;

    part->gpu = (uint32_t)world_pick(world, WORLD_GPUS);
    part->resident_bytes = 1 + pick_bytes(world, most_bytes);
    part->burst_bytes = world_chance(world, 70) ? pick_bytes(world, 3 * GIB) : 0;
    if (world_chance(world, 30))
        part->load_peak_bytes = part->resident_bytes + pick_bytes(world, 3 * GIB);
    if (world_chance(world, 1))
        part->burst_bytes = UINT64_MAX - world_pick(world, 4 * GIB);
}

static void step_acquire(struct world *world)
{
    struct claim claim = { .name = "holder",
                           .priority = (enum claim_priority)world_pick(world, 3),
                           .is_pinned = world_chance(world, 10),
                           .is_load_alone = world_chance(world, 10),
                           .is_always_busy = world_chance(world, 15),
                           .part_count = world_chance(world, 15) ? 2 : 1 };

    pick_part(world, &claim.parts[0]);
    if (claim.part_count == 2) {
        pick_part(world, &claim.parts[1]);
        claim.parts[1].gpu = (claim.parts[0].gpu + 1) % WORLD_GPUS;
    } else if (world_chance(world, 30)) {
        claim.parts[0].gpu = CLAIM_GPU_ANY;
    }
    world_acquire(world, &claim, pick_deadline(world));
}

/* A holder may take more than it claimed; what drains goes bit by bit. */
static void step_truth(struct world *world, struct holder *holder)
{
    struct book_part *part = &holder->parts[world_pick(world, holder->part_count)];

    if (holder->state == LEASE_STATE_QUEUED)
        return;
    if (holder->state == LEASE_STATE_DRAINING) {
        part->actual_bytes =
            world_chance(world, 70) ? 0 : world_pick(world, part->actual_bytes + 1);
        return;
    }
    part->actual_bytes = world_pick(world, book_claimed_bytes(holder, part) + 1);
    if (!world->is_calm && world_chance(world, 10))
        part->actual_bytes += pick_bytes(world, 2 * GIB);
}

static void step_foreign(struct world *world)
{
    uint32_t gpu = (uint32_t)world_pick(world, WORLD_GPUS);

    if (world->is_calm)
        return;
    world->gpus[gpu].foreign_bytes =
        world_chance(world, 50) ? 0 : pick_bytes(world, world_chance(world, 20) ? 11 * GIB : GIB);
}

static void step_idle(struct world *world, struct holder *holder)
{
    if (holder->is_burst_waiting) {
        if (world_chance(world, 10))
            world_burst_end(world, holder);
    } else if (world_chance(world, 10)) {
        world_resize(world, holder, 1 + pick_bytes(world, 4 * GIB), pick_bytes(world, 2 * GIB));
    } else if (holder->parts[0].burst_bytes > 0) {
        uint64_t bytes = 1 + world_pick(world, holder->parts[0].burst_bytes);

        world_burst_begin(world, holder, world_chance(world, 50) ? 0 : bytes, pick_deadline(world));
    }
}

static void step_holder(struct world *world, struct holder *holder)
{
    if (world_chance(world, holder->is_stop_asked ? 30 : 4)) {
        if (holder->state != LEASE_STATE_DRAINING)
            world_release(world, holder);
        return;
    }
    if (world_chance(world, 30)) {
        step_truth(world, holder);
        return;
    }
    switch (holder->state) {
    case LEASE_STATE_LOADING:
        world_ready(world, holder);
        return;
    case LEASE_STATE_IDLE:
        step_idle(world, holder);
        return;
    case LEASE_STATE_BUSY:
        if (!holder->claim.is_always_busy)
            world_burst_end(world, holder);
        else if (world_chance(world, 10))
            world_release(world, holder);
        return;
    case LEASE_STATE_QUEUED:
        if (world_chance(world, 5))
            world_release(world, holder);
        return;
    case LEASE_STATE_PARKED:
    case LEASE_STATE_DRAINING:
        step_truth(world, holder);
        return;
    }
}

void world_step(struct world *world)
{
    uint64_t kind = world_pick(world, 100);
    struct holder *holder = &world->holders[world_pick(world, WORLD_HOLDERS)];

    if (kind < 15) {
        step_acquire(world);
    } else if (kind < 18) {
        step_foreign(world);
    } else if (kind < 40) {
        world_observe(world, (uint32_t)world_pick(world, WORLD_GPUS));
    } else if (kind < 50) {
        world_advance(world, world_pick(world, world_chance(world, 3) ? 40000 : 100));
    } else if (holder->is_here) {
        step_holder(world, holder);
    }
}
