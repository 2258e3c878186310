/* SPDX-License-Identifier: Apache-2.0 */

/* The world's side of each call: the budget is asked, the book notes the answer. */

#include "world.h"

#include <stdio.h>

static const uint64_t capacities[WORLD_GPUS] = { 12282 * MIB, 12282 * MIB, 24564 * MIB,
                                                 12282 * MIB };

void world_init(struct world *world, uint64_t seed)
{
    struct budget_limits limits = BUDGET_LIMITS_DEFAULT;
    uint32_t gpu;

    *world = (struct world){ .random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1, .now_ms = 1000000 };
    world_seed = seed;
    world_must(budget_new(&limits, &world->budget) == 0, "there is memory", world, 0);
    for (uint32_t i = 0; i < WORLD_GPUS; i++) {
        world->gpus[i].capacity_bytes = capacities[i];
        world_must(budget_add_gpu(world->budget, capacities[i], WORLD_RESERVE, &gpu) == 0,
                   "there is memory", world, 0);
    }
}

void world_deinit(struct world *world)
{
    budget_free(world->budget);
}

/* xorshift64*: the same numbers everywhere. */
uint64_t world_pick(struct world *world, uint64_t below)
{
    world->random ^= world->random >> 12;
    world->random ^= world->random << 25;
    world->random ^= world->random >> 27;
    return (world->random * UINT64_C(0x2545f4914f6cdd1d) >> 11) % below;
}

bool world_chance(struct world *world, uint32_t pct)
{
    return world_pick(world, 100) < pct;
}

static void parts_of_claim(struct holder *holder)
{
    const struct claim *claim = &holder->claim;

    holder->part_count = claim->part_count;
    for (uint32_t i = 0; i < claim->part_count; i++) {
        const struct claim_part *part = &claim->parts[i];
        uint64_t load_bytes = part->load_peak_bytes > part->resident_bytes ? part->load_peak_bytes
                                                                           : part->resident_bytes;
        uint64_t total_bytes = part->resident_bytes + part->burst_bytes;

        holder->parts[i] = (struct book_part){ .gpu = part->gpu,
                                               .resident_bytes = part->resident_bytes,
                                               .burst_bytes = part->burst_bytes,
                                               .load_bytes = load_bytes };
        if (claim->is_always_busy) {
            holder->parts[i].resident_bytes = total_bytes > load_bytes ? total_bytes : load_bytes;
            holder->parts[i].load_bytes = holder->parts[i].resident_bytes;
            holder->parts[i].burst_bytes = 0;
        }
    }
}

static struct holder *world_slot(struct world *world)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++)
        if (!world->holders[i].is_here)
            return &world->holders[i];
    return NULL;
}

static bool world_is_fresh(const struct world *world, const struct claim *claim)
{
    for (uint32_t gpu = 0; gpu < WORLD_GPUS; gpu++) {
        bool is_wanted = claim->parts[0].gpu == CLAIM_GPU_ANY;

        for (uint32_t i = 0; i < claim->part_count; i++)
            is_wanted = is_wanted || claim->parts[i].gpu == gpu;
        if (is_wanted && (!world->gpus[gpu].has_facts ||
                          world->now_ms - world->gpus[gpu].facts_at_ms > WORLD_FACTS_MS))
            return false;
    }
    return true;
}

void world_acquire(struct world *world, const struct claim *claim, uint64_t deadline_ms)
{
    struct holder *holder = world_slot(world);
    struct refusal refusal;
    int answer;

    if (!holder)
        return;
    *holder = (struct holder){
        .claim = *claim, .state = LEASE_STATE_QUEUED, .seq = world->seq++, .stop_gpu = UINT32_MAX
    };
    parts_of_claim(holder);
    answer =
        budget_acquire(world->budget, claim, world->now_ms, deadline_ms, &holder->id, &refusal);
    if (answer == BUDGET_GRANTED) {
        holder->is_here = true;
        world->grants++;
        book_enter(world, holder,
                   claim->is_always_busy && !claim->is_load_alone ? LEASE_STATE_BUSY
                                                                  : LEASE_STATE_LOADING);
    } else if (answer == BUDGET_QUEUED) {
        holder->is_here = true;
        holder->state = LEASE_STATE_QUEUED;
        book_wait(world, holder, deadline_ms);
        world_must(deadline_ms > world->now_ms || !world_is_fresh(world, claim),
                   "who does not wait is queued for facts only", world, holder->id);
    } else {
        world_must(answer == BUDGET_REFUSED && refusal.kind != REFUSAL_NONE,
                   "a refusal has a reason", world, 0);
        world_must(refusal.kind == REFUSAL_NEVER_FITS || refusal.kind == REFUSAL_BAD_CLAIM ||
                       deadline_ms <= world->now_ms,
                   "who waits is not refused at once", world, 0);
        world_must(refusal.kind != REFUSAL_STALE_FACTS, "nobody is refused for old facts", world,
                   0);
        world->refusals++;
    }
    book_close(world);
}

void world_ready(struct world *world, struct holder *holder)
{
    world_must(budget_ready(world->budget, holder->id, world->now_ms) == BUDGET_GRANTED,
               "who loads gets ready", world, holder->id);
    book_set_state(world, holder,
                   holder->claim.is_always_busy ? LEASE_STATE_BUSY : LEASE_STATE_IDLE);
    book_close(world);
}

void world_burst_begin(struct world *world, struct holder *holder, uint64_t bytes,
                       uint64_t deadline_ms)
{
    struct refusal refusal;
    int answer;

    holder->seq = world->seq++;
    holder->burst_bytes = bytes;
    answer =
        budget_burst_begin(world->budget, holder->id, bytes, world->now_ms, deadline_ms, &refusal);
    if (answer == BUDGET_GRANTED) {
        world->burst_grants++;
        book_take_burst(world, holder, bytes);
    } else if (answer == BUDGET_QUEUED) {
        holder->is_burst_waiting = true;
        book_wait(world, holder, deadline_ms);
    } else {
        world_must(deadline_ms <= world->now_ms, "a burst that waits is not refused at once", world,
                   holder->id);
        world_must(refusal.kind != REFUSAL_STALE_FACTS, "nobody is refused for old facts", world,
                   holder->id);
    }
    book_close(world);
}

void world_burst_end(struct world *world, struct holder *holder)
{
    bool was_waiting = holder->is_burst_waiting;

    world_must(budget_burst_end(world->budget, holder->id, world->now_ms) == BUDGET_GRANTED,
               "a burst can be ended", world, holder->id);
    holder->is_burst_waiting = false;
    for (uint32_t i = 0; i < holder->part_count; i++)
        holder->parts[i].taken_bytes = 0;
    if (!was_waiting)
        book_set_state(world, holder, LEASE_STATE_IDLE);
    book_close(world);
}

void world_resize(struct world *world, struct holder *holder, uint64_t resident_bytes,
                  uint64_t burst_bytes)
{
    struct refusal refusal;
    bool is_growing = false;
    int answer = budget_resize(world->budget, holder->id, resident_bytes, burst_bytes,
                               world->now_ms, &refusal);

    for (uint32_t i = 0; i < holder->part_count && answer == BUDGET_GRANTED; i++) {
        struct book_part *part = &holder->parts[i];
        struct claim_part *claim = &holder->claim.parts[i];
        bool is_always = holder->claim.is_always_busy;

        is_growing = is_growing || resident_bytes > claim->resident_bytes ||
                     burst_bytes > claim->burst_bytes;
        claim->resident_bytes = resident_bytes;
        claim->burst_bytes = burst_bytes;
        part->resident_bytes = is_always ? resident_bytes + burst_bytes : resident_bytes;
        part->burst_bytes = is_always ? 0 : burst_bytes;
        if (part->load_bytes < part->resident_bytes || holder->state != LEASE_STATE_LOADING)
            part->load_bytes = part->resident_bytes;
    }
    if (answer == BUDGET_GRANTED) {
        holder->seq = world->seq++;
        if (is_growing)
            book_note_grant(world, holder, false);
        book_set_state(world, holder, holder->state);
    } else {
        world_must(refusal.kind != REFUSAL_NONE, "a refusal has a reason", world, holder->id);
    }
    book_close(world);
}

void world_release(struct world *world, struct holder *holder)
{
    world_must(budget_release(world->budget, holder->id, world->now_ms) == BUDGET_GRANTED,
               "a lease can be given back", world, holder->id);
    holder->is_burst_waiting = false;
    if (holder->state == LEASE_STATE_QUEUED) {
        holder->is_here = false;
    } else {
        for (uint32_t i = 0; i < holder->part_count; i++)
            holder->parts[i].drain_bytes = book_claimed_bytes(holder, &holder->parts[i]);
        book_set_state(world, holder, LEASE_STATE_DRAINING);
    }
    book_close(world);
}

void world_observe(struct world *world, uint32_t gpu)
{
    struct budget_measure measured[WORLD_HOLDERS];
    struct budget_facts facts = { .used_bytes = world->gpus[gpu].foreign_bytes,
                                  .has_process_bytes = gpu != WORLD_NO_PIDS,
                                  .measured = measured };

    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        const struct holder *holder = &world->holders[i];

        if (!holder->is_here || holder->state == LEASE_STATE_QUEUED)
            continue;
        for (uint32_t k = 0; k < holder->part_count; k++) {
            uint64_t bytes = holder->parts[k].actual_bytes;

            if (holder->parts[k].gpu != gpu)
                continue;
            facts.used_bytes += bytes;
            if (bytes > 0 && facts.has_process_bytes)
                measured[facts.measured_count++] =
                    (struct budget_measure){ .lease_id = holder->id, .bytes = bytes };
        }
    }
    world_must(budget_observe(world->budget, gpu, &facts, world->now_ms) == 0,
               "a sample is taken in", world, gpu);
    book_observe(world, gpu, facts.used_bytes);
    book_close(world);
}

/* Whoever is past its deadline is gone, unless no facts have come since it asked. */
static void check_deadlines(struct world *world)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        const struct holder *holder = &world->holders[i];
        bool has_facts = true;

        if (!holder_waits(holder) || holder->deadline_ms > world->now_ms)
            continue;
        for (uint32_t gpu = 0; gpu < WORLD_GPUS; gpu++)
            if (!world->gpus[gpu].has_facts ||
                world->gpus[gpu].facts_at_ms + WORLD_FACTS_MS < holder->queued_ms)
                has_facts = false;
        world_must(!has_facts, "a deadline passed without an answer", world, holder->id);
        world_must(holder->deadline_ms + WORLD_GRACE_MS > world->now_ms ||
                       holder->queued_ms + WORLD_GRACE_MS > world->now_ms,
                   "a deadline passed long ago without an answer", world, holder->id);
    }
}

void world_advance(struct world *world, uint64_t ms)
{
    world->now_ms += ms;
    budget_advance(world->budget, world->now_ms);
    book_close(world);
    check_deadlines(world);
    world_must(budget_next_wakeup_ms(world->budget) > 0, "the next wake-up is known", world, 0);
}
