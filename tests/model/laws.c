/* SPDX-License-Identifier: Apache-2.0 */

/* What must hold in every state, and what must come of it. */

#include <string.h>

#include "base/clock.h"
#include "model.h"

/* Samples without an answer of a holder: until then the budget may still ask one to leave. */
#define QUIET_ROUNDS 4
/* Who waits for facts only may be told so late. */
#define FACTS_GRACE_MS 5000

void world_check(const struct world *world)
{
    const struct truth truth = world_look(world);

    budget_check(world->budget);
    for (uint32_t gpu = 0; gpu < world->scenario->gpu_count && !world->scenario->has_foreign; gpu++)
        MODEL_MUST(truth.used_bytes[gpu] + MODEL_RESERVE <= MODEL_CAPACITY);
    for (uint32_t i = 0; i < world->scenario->member_count; i++) {
        const struct member *const member = &world->members[i];
        if (member->is_burst_waiting || member->state == LEASE_STATE_QUEUED)
            MODEL_MUST(world->now_ms <= clock_after_ms(member->deadline_ms, FACTS_GRACE_MS));
    }
}

/* Everybody does what it announced: who was asked to leave leaves, who loads gets ready, who works
 * ends its burst. Returns whether anybody did. */
static bool move_on(struct world *world)
{
    static const uint8_t kinds[] = { STEP_GONE, STEP_REATTACH, STEP_END, STEP_READY,
                                     STEP_BURST_END };
    bool is_moving = false;

    for (uint8_t i = 0; i < world->scenario->member_count; i++)
        for (size_t k = 0; k < sizeof(kinds); k++) {
            const struct step step = { kinds[k], i };
            const struct member *const member = &world->members[i];
            if (!world_can(world, step) || (step.kind == STEP_END && !member->is_stop_asked) ||
                (step.kind == STEP_BURST_END && member->is_burst_waiting))
                continue;
            world_take(world, step);
            is_moving = true;
        }
    world->now_ms += 1100; /* longer than a draining lease without a measurement stays */
    world_take(world, (struct step){ STEP_SAMPLE, 0 });
    return is_moving;
}

static uint32_t count_waiters(const struct world *world, bool is_burst)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < world->scenario->member_count; i++)
        count += is_burst ? world->members[i].is_burst_waiting
                          : world->members[i].state == LEASE_STATE_QUEUED;
    return count;
}

static bool release_one(struct world *world)
{
    for (uint8_t i = 0; i < world->scenario->member_count; i++)
        if (world->members[i].state > LEASE_STATE_QUEUED) {
            world_take(world, (struct step){ STEP_END, i });
            return true;
        }
    return false;
}

void world_finish(struct world *world)
{
    int quiet_rounds = 0;

    world->has_sample = false;
    memset(world->foreign_bytes, 0, sizeof(world->foreign_bytes));
    for (int round = 0; round < 60; round++) {
        quiet_rounds = move_on(world) ? 0 : quiet_rounds + 1;
        if (quiet_rounds < QUIET_ROUNDS)
            continue;
        /* Law 2: no burst waits for a holder to leave. */
        MODEL_MUST(count_waiters(world, true) == 0);
        if (!release_one(world))
            break;
        quiet_rounds = 0;
    }
    MODEL_MUST(count_waiters(world, false) == 0);
    (void)move_on(world);
    budget_check(world->budget);
    MODEL_MUST(budget_next_lease(world->budget, 0) == 0);
    for (uint32_t gpu = 0; gpu < world->scenario->gpu_count; gpu++) {
        struct budget_gpu_view view;
        budget_view_gpu(world->budget, gpu, &view);
        MODEL_MUST(view.charged_bytes + view.draining_bytes + view.foreign_bytes == 0);
    }
}

/* ---- one number for a state ---- */

static void mix(uint64_t *hash, uint64_t value)
{
    *hash = (*hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    *hash ^= *hash >> 29;
}

static void mix_member(uint64_t *hash, const struct world *world, uint32_t i)
{
    const struct member *const member = &world->members[i];
    struct budget_lease_view view;
    struct refusal refusal = { 0 };

    mix(hash, (uint64_t)member->state << 3 | (uint64_t)member->is_stop_asked << 2 |
                  (uint64_t)member->is_attached << 1 | member->is_burst_waiting);
    for (uint32_t gpu = 0; gpu < MODEL_GPUS; gpu++) {
        mix(hash, member->bytes[gpu]);
        mix(hash, member->left_bytes[gpu]);
    }
    mix(hash, world_knows(world, member->left_id));
    if (member->state == 0 || !budget_view_lease(world->budget, member->id, &view))
        return;
    mix(hash, (uint64_t)view.state << 32 | view.waiting_before);
    for (uint32_t k = 0; k < view.claim->part_count; k++) {
        mix(hash, view.charge_bytes[k]);
        mix(hash, view.measured_bytes[k]);
    }
    const uint64_t waited = (world->now_ms - view.since_ms) / 20000;
    mix(hash, waited > 3 ? 3 : waited);
    budget_explain(world->budget, member->id, world->now_ms, &refusal);
    mix(hash, (uint64_t)refusal.kind << 32 | refusal.gpu);
    mix(hash, refusal.short_bytes);
}

uint64_t world_fingerprint(const struct world *world)
{
    const uint64_t next_ms = budget_next_wakeup_ms(world->budget);
    uint64_t hash = world->has_restarted;

    for (uint32_t gpu = 0; gpu < world->scenario->gpu_count; gpu++) {
        struct budget_gpu_view view;
        budget_view_gpu(world->budget, gpu, &view);
        mix(&hash, view.charged_bytes);
        mix(&hash, view.draining_bytes);
        mix(&hash, view.foreign_bytes);
        mix(&hash, view.free_bytes);
        mix(&hash, view.has_facts && world->now_ms - view.facts_at_ms <= 250);
        mix(&hash, world->foreign_bytes[gpu]);
        mix(&hash, world->has_sample ? world->sample.used_bytes[gpu] + 1 : 0);
    }
    for (uint32_t i = 0; i < world->scenario->member_count; i++)
        mix_member(&hash, world, i);
    mix(&hash, next_ms == CLOCK_NEVER_MS ? 0 : 1 + (next_ms - world->now_ms) / 500);
    return hash;
}
