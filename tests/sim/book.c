/* SPDX-License-Identifier: Apache-2.0 */

/* The second book: written from the laws, with plain loops, to be compared with the first. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "world.h"

uint64_t world_seed;

void world_must(bool holds, const char *what, const struct world *world, uint64_t id)
{
    if (holds)
        return;
    printf("Bail out! seed %" PRIu64 " step %" PRIu64 " at %" PRIu64 " ms, lease or gpu %" PRIu64
           ": %s\n",
           world_seed, world->steps, world->now_ms, id, what);
    exit(EXIT_FAILURE);
}

static uint64_t largest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

bool holder_is_held(const struct holder *holder)
{
    return holder->is_here && holder->state >= LEASE_STATE_LOADING &&
           holder->state <= LEASE_STATE_BUSY;
}

bool holder_waits(const struct holder *holder)
{
    return holder->is_here && (holder->state == LEASE_STATE_QUEUED || holder->is_burst_waiting);
}

uint64_t book_claimed_bytes(const struct holder *holder, const struct book_part *part)
{
    if (holder->state == LEASE_STATE_LOADING)
        return part->load_bytes;
    if (holder->state == LEASE_STATE_IDLE)
        return part->resident_bytes;
    if (holder->state == LEASE_STATE_BUSY)
        return part->resident_bytes + part->taken_bytes;
    return holder->state == LEASE_STATE_DRAINING ? part->drain_bytes : 0;
}

static uint64_t book_charge_bytes(const struct holder *holder, const struct book_part *part)
{
    return largest(book_claimed_bytes(holder, part), part->measured_bytes);
}

struct sums {
    uint64_t charged_bytes, draining_bytes, resident_bytes, extra_bytes;
    bool is_loading;
};

static void sums_add(struct sums *sums, const struct holder *holder, const struct book_part *part)
{
    uint64_t charge_bytes = book_charge_bytes(holder, part);
    uint64_t extra_bytes = part->burst_bytes;

    if (holder->state == LEASE_STATE_DRAINING) {
        sums->draining_bytes += charge_bytes;
        return;
    }
    sums->charged_bytes += charge_bytes;
    sums->resident_bytes += part->resident_bytes + part->overdraft_bytes;
    if (holder->state == LEASE_STATE_LOADING) {
        extra_bytes = largest(extra_bytes, part->load_bytes - part->resident_bytes);
        sums->is_loading = true;
    }
    if (holder->state == LEASE_STATE_BUSY)
        extra_bytes = largest(extra_bytes, part->taken_bytes);
    sums->extra_bytes = largest(sums->extra_bytes, extra_bytes);
}

static struct sums world_sums(const struct world *world, uint32_t gpu)
{
    struct sums sums = { 0 };

    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        const struct holder *holder = &world->holders[i];

        if (!holder->is_here || holder->state == LEASE_STATE_QUEUED)
            continue;
        for (uint32_t k = 0; k < holder->part_count; k++)
            if (holder->parts[k].gpu == gpu && !holder->parts[k].is_gone)
                sums_add(&sums, holder, &holder->parts[k]);
    }
    return sums;
}

static bool law_1_holds(const struct world *world, uint32_t gpu, const struct sums *sums)
{
    return WORLD_RESERVE + world->gpus[gpu].seen_foreign_bytes + sums->charged_bytes +
               sums->draining_bytes <=
           world->gpus[gpu].capacity_bytes;
}

static bool law_2_holds(const struct world *world, uint32_t gpu, const struct sums *sums)
{
    return WORLD_RESERVE + world->gpus[gpu].seen_foreign_bytes + sums->resident_bytes +
               sums->extra_bytes + sums->draining_bytes <=
           world->gpus[gpu].capacity_bytes;
}

bool world_gpu_holds(const struct world *world, uint32_t gpu)
{
    struct sums sums = world_sums(world, gpu);

    return law_1_holds(world, gpu, &sums) && law_2_holds(world, gpu, &sums);
}

/* Whoever waits for the gpu, as the book sees it: "any" waits where it could ever fit. */
static bool holder_wants(const struct world *world, const struct holder *holder, uint32_t gpu)
{
    const struct book_part *part = &holder->parts[0];

    if (holder->state == LEASE_STATE_QUEUED && holder->claim.parts[0].gpu == CLAIM_GPU_ANY)
        return largest(part->resident_bytes + part->burst_bytes, part->load_bytes) <=
               world->gpus[gpu].capacity_bytes - WORLD_RESERVE;
    for (uint32_t i = 0; i < holder->part_count; i++)
        if (holder->parts[i].gpu == gpu)
            return true;
    return false;
}

/* A burst that would not fit even if all others had ended is not delayed by who passes it. */
static bool burst_is_hopeless(const struct world *world, const struct holder *waiter)
{
    for (uint32_t i = 0; waiter->is_burst_waiting && i < waiter->part_count; i++) {
        const struct book_part *part = &waiter->parts[i];
        const struct world_gpu *gpu = &world->gpus[part->gpu];
        struct sums sums = world_sums(world, part->gpu);
        uint64_t bytes = waiter->burst_bytes == 0 || waiter->burst_bytes > part->burst_bytes
                             ? part->burst_bytes
                             : waiter->burst_bytes;

        if (bytes > 0 && WORLD_RESERVE + gpu->seen_foreign_bytes + sums.resident_bytes +
                                 sums.draining_bytes + bytes >
                             gpu->capacity_bytes)
            return true;
    }
    return false;
}

static void note_pass(struct world *world, struct holder *waiter)
{
    if (burst_is_hopeless(world, waiter))
        return;
    waiter->passed++;
    world->passes++;
    if (waiter->passed > world->worst_passes)
        world->worst_passes = waiter->passed;
    world_must(waiter->passed <= WORLD_PASS_MAX, "law 4: passed too often", world, waiter->id);
    world_must(world->now_ms - waiter->queued_ms < WORLD_PASS_MS, "law 4: passed for too long",
               world, waiter->id);
}

/* Whoever loads alone has the gpu to itself: nothing is granted beside it, and it waits for what
 * loads or is busy for a while. */
static void check_load_window(const struct world *world, const struct holder *granted, uint32_t gpu,
                              bool is_burst)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        const struct holder *other = &world->holders[i];
        bool is_there = false;

        for (uint32_t k = 0; k < other->part_count; k++)
            is_there = is_there || other->parts[k].gpu == gpu;
        if (other == granted || !holder_is_held(other) || !is_there)
            continue;
        world_must(other->state != LEASE_STATE_LOADING || !other->claim.is_load_alone,
                   "granted while another loads alone", world, granted->id);
        world_must(is_burst || !granted->claim.is_load_alone || other->state == LEASE_STATE_IDLE ||
                       other->claim.is_always_busy,
                   "loads alone beside others that work", world, granted->id);
    }
}

/* Came earlier, waits for the same gpu, and is of those whom such a grant can pass. */
static bool is_passed_by(const struct world *world, const struct holder *waiter,
                         const struct holder *granted, bool is_burst)
{
    if (!holder_waits(waiter) || waiter->seq >= granted->seq || waiter == granted)
        return false;
    if (is_burst && !waiter->is_burst_waiting)
        return false; /* a burst passes no claim */
    for (uint32_t k = 0; k < granted->part_count; k++)
        if ((!is_burst || granted->parts[k].taken_bytes > 0) &&
            holder_wants(world, waiter, granted->parts[k].gpu))
            return true;
    return false;
}

void book_note_grant(struct world *world, const struct holder *granted, bool is_burst)
{
    for (uint32_t k = 0; k < granted->part_count; k++) {
        struct world_gpu *gpu = &world->gpus[granted->parts[k].gpu];

        if (is_burst && granted->parts[k].taken_bytes == 0)
            continue; /* it takes nothing there */
        gpu->is_granted_now = true;
        if (!is_burst)
            gpu->is_resident_granted_now = true;
        if (granted->state == LEASE_STATE_QUEUED || is_burst)
            check_load_window(world, granted, granted->parts[k].gpu, is_burst);
        world_must(gpu->has_facts && world->now_ms - gpu->facts_at_ms <= WORLD_FACTS_MS,
                   "law 1: granted on facts that are too old", world, granted->id);
    }
    for (size_t i = 0; i < WORLD_HOLDERS; i++)
        if (is_passed_by(world, &world->holders[i], granted, is_burst))
            note_pass(world, &world->holders[i]);
}

void book_set_state(struct world *world, struct holder *holder, enum lease_state state)
{
    holder->state = state;
    holder->since_ms = world->now_ms;
    for (uint32_t i = 0; i < holder->part_count; i++) {
        struct book_part *part = &holder->parts[i];
        uint64_t claimed_bytes = book_claimed_bytes(holder, part);

        part->peak_bytes = largest(part->peak_bytes, claimed_bytes);
        if (state != LEASE_STATE_DRAINING)
            part->actual_bytes = world_pick(world, claimed_bytes + 1);
    }
}

void book_enter(struct world *world, struct holder *holder, enum lease_state state)
{
    struct budget_lease_view view;

    world_must(budget_view_lease(world->budget, holder->id, &view), "a lease has a view", world,
               holder->id);
    for (uint32_t i = 0; i < holder->part_count; i++) {
        holder->parts[i].gpu = view.claim->parts[i].gpu;
        holder->parts[i].peak_bytes = 0;
    }
    book_note_grant(world, holder, false);
    book_set_state(world, holder, state);
}

void book_wait(struct world *world, struct holder *holder, uint64_t deadline_ms)
{
    holder->queued_ms = world->now_ms;
    holder->deadline_ms = deadline_ms;
    holder->passed = 0;
}

void book_take_burst(struct world *world, struct holder *holder, uint64_t bytes)
{
    holder->is_burst_waiting = false;
    for (uint32_t i = 0; i < holder->part_count; i++) {
        struct book_part *part = &holder->parts[i];

        part->taken_bytes = bytes == 0 || bytes > part->burst_bytes ? part->burst_bytes : bytes;
    }
    book_note_grant(world, holder, true);
    book_set_state(world, holder, LEASE_STATE_BUSY);
}

static void book_observe_part(struct world *world, struct holder *holder, struct book_part *part)
{
    bool has_pids = part->gpu != WORLD_NO_PIDS;

    part->measured_bytes = has_pids ? part->actual_bytes : 0;
    if (holder->state != LEASE_STATE_DRAINING) {
        part->overdraft_bytes =
            part->measured_bytes > part->peak_bytes ? part->measured_bytes - part->peak_bytes : 0;
        part->peak_bytes = book_claimed_bytes(holder, part);
        return;
    }
    if (has_pids) {
        part->drain_bytes = 0;
        part->is_gone = part->measured_bytes == 0;
    } else {
        part->is_gone = world->now_ms - holder->since_ms >= WORLD_DRAIN_MS;
    }
}

void book_observe(struct world *world, uint32_t gpu, uint64_t used_bytes)
{
    struct world_gpu *seen = &world->gpus[gpu];
    uint64_t ours_bytes = 0, foreign_bytes;
    struct sums sums;

    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        struct holder *holder = &world->holders[i];

        if (!holder->is_here || holder->state == LEASE_STATE_QUEUED)
            continue;
        for (uint32_t k = 0; k < holder->part_count; k++)
            if (holder->parts[k].gpu == gpu && !holder->parts[k].is_gone) {
                book_observe_part(world, holder, &holder->parts[k]);
                ours_bytes += holder->parts[k].measured_bytes;
            }
    }
    sums = world_sums(world, gpu);
    if (gpu == WORLD_NO_PIDS)
        ours_bytes = sums.charged_bytes + sums.draining_bytes;
    foreign_bytes = used_bytes > ours_bytes ? used_bytes - ours_bytes : 0;
    if (gpu != WORLD_NO_PIDS || !sums.is_loading || foreign_bytes > seen->seen_foreign_bytes)
        seen->seen_foreign_bytes = foreign_bytes;
    seen->facts_at_ms = world->now_ms;
    seen->has_facts = true;
    if (!world_gpu_holds(world, gpu))
        return;
    for (size_t i = 0; i < WORLD_HOLDERS; i++)
        if (world->holders[i].stop_gpu == gpu)
            world->holders[i].is_stop_asked = false;
}

static struct holder *holder_of(struct world *world, uint64_t id)
{
    for (size_t i = 0; i < WORLD_HOLDERS; i++)
        if (world->holders[i].is_here && world->holders[i].id == id)
            return &world->holders[i];
    return NULL;
}

static void take_refusal(struct world *world, struct holder *holder,
                         const struct decision *decision)
{
    bool is_in_time = world->now_ms < holder->deadline_ms;

    world->refusals++;
    world_must(holder_waits(holder), "who is refused has waited", world, holder->id);
    world_must(decision->refusal.kind != REFUSAL_NONE, "a refusal has a reason", world, holder->id);
    if (decision->kind == DECISION_BURST_REFUSED) {
        world_must(!is_in_time || holder->is_stop_asked, "a burst is refused at its deadline",
                   world, holder->id);
        holder->is_burst_waiting = false;
        return;
    }
    world_must(!is_in_time, "a claim is refused at its deadline", world, holder->id);
    holder->is_here = false;
}

static void take_ask(struct world *world, struct holder *holder, const struct decision *decision)
{
    world_must(holder_is_held(holder), "who is asked holds", world, decision->lease_id);
    world_must(!world_gpu_holds(world, decision->gpu), "who is asked stands in a law's way", world,
               decision->lease_id);
    if (decision->kind == DECISION_ASK_TRIM)
        return;
    world_must(!holder->claim.is_pinned && !holder->is_stop_asked,
               "the pinned are not asked, nobody is asked twice", world, holder->id);
    world_must(decision->refusal.kind == REFUSAL_OVERCOMMITTED, "who is asked hears why", world,
               holder->id);
    for (size_t i = 0; i < WORLD_HOLDERS; i++)
        world_must(!world->holders[i].is_here || !world->holders[i].is_stop_asked ||
                       world->holders[i].stop_gpu != decision->gpu,
                   "one is asked at a time", world, holder->id);
    holder->is_stop_asked = true;
    holder->stop_gpu = decision->gpu;
    world->stops++;
}

static void take_decision(struct world *world, const struct decision *decision)
{
    struct holder *holder = holder_of(world, decision->lease_id);

    if (decision->kind == DECISION_NEED_FACTS)
        return;
    world_must(holder, "a decision speaks of a lease that lives", world, decision->lease_id);
    switch (decision->kind) {
    case DECISION_GRANTED:
        world->grants++;
        book_enter(world, holder,
                   holder->claim.is_always_busy && !holder->claim.is_load_alone
                       ? LEASE_STATE_BUSY
                       : LEASE_STATE_LOADING);
        return;
    case DECISION_BURST_GRANTED:
        world->burst_grants++;
        book_take_burst(world, holder, holder->burst_bytes);
        return;
    case DECISION_REFUSED:
    case DECISION_BURST_REFUSED:
        take_refusal(world, holder, decision);
        return;
    case DECISION_DRAINED:
        for (uint32_t i = 0; i < holder->part_count; i++)
            world_must(holder->parts[i].is_gone, "who is drained has nothing left", world,
                       holder->id);
        holder->is_here = false;
        return;
    case DECISION_ASK_TRIM:
    case DECISION_ASK_STOP:
        take_ask(world, holder, decision);
        return;
    case DECISION_OVERDRAFT:
        world->overdrafts++;
        for (uint32_t i = 0; i < holder->part_count; i++)
            world_must(
                holder->parts[i].gpu != decision->gpu ||
                    (decision->bytes > 0 && holder->parts[i].overdraft_bytes == decision->bytes),
                "an overdraft is what is measured above the claim", world, holder->id);
        return;
    case DECISION_NEED_FACTS:
        return;
    }
}

static void compare_gpu(struct world *world, uint32_t index)
{
    struct world_gpu *gpu = &world->gpus[index];
    struct sums sums = world_sums(world, index);
    struct budget_gpu_view view;

    budget_view_gpu(world->budget, index, &view);
    world_must(view.charged_bytes == sums.charged_bytes, "charges are those of the book", world,
               index);
    world_must(view.draining_bytes == sums.draining_bytes, "draining is that of the book", world,
               index);
    world_must(view.foreign_bytes == gpu->seen_foreign_bytes, "foreign is that of the book", world,
               index);
    world_must(!gpu->is_granted_now || law_1_holds(world, index, &sums), "law 1: never over", world,
               index);
    world_must(!gpu->is_resident_granted_now || law_2_holds(world, index, &sums), "law 2: progress",
               world, index);
    gpu->is_granted_now = false;
    gpu->is_resident_granted_now = false;
}

static void compare_truth(struct world *world, uint32_t gpu)
{
    uint64_t bytes = world->gpus[gpu].foreign_bytes;

    for (size_t i = 0; i < WORLD_HOLDERS; i++) {
        const struct holder *holder = &world->holders[i];

        for (uint32_t k = 0; holder->is_here && k < holder->part_count; k++)
            if (holder->state != LEASE_STATE_QUEUED && holder->parts[k].gpu == gpu)
                bytes += holder->parts[k].actual_bytes;
    }
    world_must(bytes + WORLD_RESERVE <= world->gpus[gpu].capacity_bytes,
               "the card itself is never over", world, gpu);
}

void book_close(struct world *world)
{
    struct decision decision;

    world->steps++;
    while (budget_next_decision(world->budget, &decision))
        take_decision(world, &decision);
    budget_check(world->budget);
    for (uint32_t gpu = 0; gpu < WORLD_GPUS; gpu++) {
        compare_gpu(world, gpu);
        if (world->is_calm && gpu != WORLD_NO_PIDS)
            compare_truth(world, gpu);
    }
}
