/* SPDX-License-Identifier: Apache-2.0 */

#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "model.h"

#define FOREIGN_BYTES (4 * GIB)
#define PATIENCE_MS   1000

static void member_use(struct world *world, uint32_t i)
{
    struct member *const member = &world->members[i];
    const struct claim *const claim = &world->scenario->claims[i];

    memset(member->bytes, 0, sizeof(member->bytes));
    for (uint32_t k = 0; k < claim->part_count; k++) {
        const struct claim_part *const part = &claim->parts[k];
        uint64_t bytes = part->resident_bytes;
        if (member->state == LEASE_STATE_LOADING && part->load_peak_bytes > bytes)
            bytes = part->load_peak_bytes;
        if (member->state == LEASE_STATE_BUSY)
            bytes += part->burst_bytes;
        if (member->state > LEASE_STATE_QUEUED)
            member->bytes[member->gpus[k]] = bytes;
    }
}

static void enter(struct world *world, uint32_t i, enum lease_state state)
{
    world->members[i].state = state;
    member_use(world, i);
}

struct truth world_look(const struct world *world)
{
    struct truth truth = { .begun_ms = world->now_ms };

    for (uint32_t gpu = 0; gpu < MODEL_GPUS; gpu++) {
        truth.used_bytes[gpu] = world->foreign_bytes[gpu];
        for (uint32_t i = 0; i < MODEL_MEMBERS; i++) {
            truth.bytes[i][gpu] = world->members[i].bytes[gpu];
            truth.left_bytes[i][gpu] = world->members[i].left_bytes[gpu];
            truth.used_bytes[gpu] += truth.bytes[i][gpu] + truth.left_bytes[i][gpu];
        }
    }
    return truth;
}

bool world_knows(const struct world *world, uint64_t id)
{
    struct budget_lease_view view;

    return id != 0 && budget_view_lease(world->budget, id, &view);
}

static void grant(struct world *world, uint32_t i)
{
    struct budget_lease_view view;

    MODEL_MUST(budget_view_lease(world->budget, world->members[i].id, &view));
    for (uint32_t k = 0; k < view.claim->part_count; k++)
        world->members[i].gpus[k] = view.claim->parts[k].gpu;
    enter(world, i, view.state);
}

static void follow(struct world *world, const struct decision *decision)
{
    for (uint32_t i = 0; i < MODEL_MEMBERS; i++) {
        struct member *const member = &world->members[i];
        if (member->id != decision->lease_id || member->state == 0)
            continue;
        if (decision->kind == DECISION_GRANTED) {
            grant(world, i);
        } else if (decision->kind == DECISION_REFUSED) {
            enter(world, i, 0);
        } else if (decision->kind == DECISION_BURST_GRANTED) {
            member->is_burst_waiting = false;
            enter(world, i, LEASE_STATE_BUSY);
        } else if (decision->kind == DECISION_BURST_REFUSED) {
            member->is_burst_waiting = false;
        } else if (decision->kind == DECISION_ASK_STOP) {
            member->is_stop_asked = true;
        }
    }
}

static void take_decisions(struct world *world)
{
    struct decision decision;

    while (budget_next_decision(world->budget, &decision))
        follow(world, &decision);
}

static void observe(struct world *world, const struct truth *truth)
{
    for (uint32_t gpu = 0; gpu < world->scenario->gpu_count; gpu++) {
        struct budget_measure measures[2 * MODEL_MEMBERS];
        struct budget_facts facts = { .used_bytes = truth->used_bytes[gpu],
                                      .has_process_bytes = world->scenario->has_process_bytes,
                                      .measured = measures };
        for (uint32_t i = 0; i < MODEL_MEMBERS && facts.has_process_bytes; i++) {
            const struct member *const member = &world->members[i];
            if (truth->bytes[i][gpu] > 0 && world_knows(world, member->id))
                measures[facts.measured_count++] =
                    (struct budget_measure){ member->id, truth->bytes[i][gpu] };
            if (truth->left_bytes[i][gpu] > 0 && world_knows(world, member->left_id))
                measures[facts.measured_count++] =
                    (struct budget_measure){ member->left_id, truth->left_bytes[i][gpu] };
        }
        MODEL_MUST(budget_observe(world->budget, gpu, &facts, truth->begun_ms) == 0);
        take_decisions(world);
    }
}

static void sample(struct world *world)
{
    const struct truth truth = world_look(world);

    world->now_ms++;
    observe(world, &truth);
}

static void open_budget(struct world *world)
{
    struct budget_limits limits = BUDGET_LIMITS_DEFAULT;
    uint32_t gpu = 0;

    limits.overtake_max = 2; /* to be reached in few steps */
    MODEL_MUST(budget_new(&limits, &world->budget) == 0);
    for (uint32_t i = 0; i < world->scenario->gpu_count; i++)
        MODEL_MUST(budget_add_gpu(world->budget, MODEL_CAPACITY, MODEL_RESERVE, &gpu) == 0);
}

void world_open(struct world *world, const struct scenario *scenario)
{
    *world = (struct world){ .scenario = scenario, .now_ms = 1000, .next_id = 1 };
    open_budget(world);
    sample(world);
}

void world_close(struct world *world)
{
    budget_free(world->budget);
    world->budget = NULL;
}

static bool has_left(const struct member *member)
{
    return member->left_bytes[0] + member->left_bytes[1] > 0;
}

static bool member_can(const struct world *world, struct step step)
{
    const struct member *const member = &world->members[step.who];
    const struct scenario *const scenario = world->scenario;
    const bool is_free = member->state == LEASE_STATE_IDLE && !member->is_burst_waiting;

    switch (step.kind) {
    case STEP_ACQUIRE:
        return member->state == 0 && !has_left(member);
    case STEP_ACQUIRE_SHORT:
        return scenario->has_deadlines && member->state == 0 && !has_left(member);
    case STEP_READY:
        return member->state == LEASE_STATE_LOADING;
    case STEP_BURST:
    case STEP_BURST_SHORT:
        return (step.kind == STEP_BURST || scenario->has_deadlines) && is_free &&
               member->is_attached && scenario->claims[step.who].parts[0].burst_bytes > 0;
    case STEP_BURST_END:
        return member->is_burst_waiting ||
               (member->state == LEASE_STATE_BUSY && !scenario->claims[step.who].is_always_busy);
    case STEP_END:
        return member->state != 0 && !has_left(member);
    case STEP_GONE:
        return has_left(member);
    case STEP_REATTACH:
        return member->state > LEASE_STATE_QUEUED && !member->is_attached;
    default: /* a step of the world */
        return false;
    }
}

bool world_can(const struct world *world, struct step step)
{
    const struct scenario *const scenario = world->scenario;

    if (step.kind <= STEP_REATTACH)
        return step.who < scenario->member_count && member_can(world, step);
    if (step.kind == STEP_FOREIGN_COMES)
        return scenario->has_foreign && step.who < scenario->gpu_count &&
               world->foreign_bytes[step.who] == 0;
    if (step.kind == STEP_FOREIGN_GOES)
        return step.who < scenario->gpu_count && world->foreign_bytes[step.who] > 0;
    if (step.who > 0)
        return false;
    if (step.kind == STEP_SAMPLE_BEGIN)
        return scenario->has_slow_samples && !world->has_sample;
    if (step.kind == STEP_SAMPLE_EARLY || step.kind == STEP_SAMPLE_LATE)
        return world->has_sample;
    if (step.kind == STEP_RESTART || step.kind == STEP_RESTART_BLANK)
        return scenario->has_restart && !world->has_restarted;
    return true;
}

static void acquire(struct world *world, uint32_t i, uint64_t deadline_ms)
{
    struct member *const member = &world->members[i];
    const int r = budget_acquire(world->budget, &world->scenario->claims[i], world->now_ms,
                                 deadline_ms, &member->id, NULL);

    MODEL_MUST(r >= 0);
    member->is_attached = true;
    member->is_burst_waiting = false;
    member->is_stop_asked = false;
    member->deadline_ms = deadline_ms;
    if (r == BUDGET_REFUSED)
        return;
    if (member->id >= world->next_id)
        world->next_id = member->id + 1;
    if (r == BUDGET_GRANTED)
        grant(world, i);
    else
        enter(world, i, LEASE_STATE_QUEUED);
}

static void begin_burst(struct world *world, uint32_t i, uint64_t deadline_ms)
{
    struct member *const member = &world->members[i];
    const int r =
        budget_burst_begin(world->budget, member->id, 0, world->now_ms, deadline_ms, NULL);

    MODEL_MUST(r >= 0);
    member->is_burst_waiting = r == BUDGET_QUEUED;
    member->deadline_ms = deadline_ms;
    if (r == BUDGET_GRANTED)
        enter(world, i, LEASE_STATE_BUSY);
}

static void end_burst(struct world *world, uint32_t i)
{
    struct member *const member = &world->members[i];

    member->is_burst_waiting = false;
    enter(world, i, LEASE_STATE_IDLE);
    if (member->is_attached)
        MODEL_MUST(budget_burst_end(world->budget, member->id, world->now_ms) == BUDGET_GRANTED);
}

static void ready(struct world *world, uint32_t i)
{
    struct member *const member = &world->members[i];
    const bool is_busy = world->scenario->claims[i].is_always_busy;

    enter(world, i, is_busy ? LEASE_STATE_BUSY : LEASE_STATE_IDLE);
    if (member->is_attached)
        MODEL_MUST(budget_ready(world->budget, member->id, world->now_ms) == BUDGET_GRANTED);
}

static void end(struct world *world, uint32_t i)
{
    struct member *const member = &world->members[i];

    memcpy(member->left_bytes, member->bytes, sizeof(member->left_bytes));
    member->left_id = member->id;
    member->is_burst_waiting = false;
    enter(world, i, 0);
    if (world_knows(world, member->id))
        MODEL_MUST(budget_release(world->budget, member->id, world->now_ms) == BUDGET_GRANTED);
}

static struct claim granted_claim(const struct world *world, uint32_t i)
{
    struct claim claim = world->scenario->claims[i];

    for (uint32_t k = 0; k < claim.part_count; k++)
        claim.parts[k].gpu = world->members[i].gpus[k];
    return claim;
}

/* As the daemon does it (daemon/acquire.c): the budget's entry follows what the holder says. */
static void reattach(struct world *world, uint32_t i)
{
    struct member *const member = &world->members[i];
    const struct claim claim = granted_claim(world, i);
    struct budget_lease_view view;

    member->is_attached = true;
    if (!budget_view_lease(world->budget, member->id, &view)) {
        MODEL_MUST(budget_restore(world->budget, &claim, member->id, member->state, world->now_ms,
                                  &member->id) == 0);
        return;
    }
    if (claim.is_always_busy)
        return;
    if (view.state == LEASE_STATE_LOADING && member->state != LEASE_STATE_LOADING)
        MODEL_MUST(budget_ready(world->budget, member->id, world->now_ms) == BUDGET_GRANTED);
    if (view.state == LEASE_STATE_BUSY && member->state != LEASE_STATE_BUSY)
        MODEL_MUST(budget_burst_end(world->budget, member->id, world->now_ms) == BUDGET_GRANTED);
}

/* What waited is asked for again by its holder; what drained is foreign to the next daemon. */
static void restart(struct world *world, bool has_journal)
{
    budget_free(world->budget);
    open_budget(world);
    world->has_restarted = true;
    world->has_sample = false;
    for (uint32_t i = 0; i < world->scenario->member_count; i++) {
        struct member *const member = &world->members[i];
        const struct claim claim = granted_claim(world, i);
        member->left_id = 0;
        member->is_attached = false;
        member->is_burst_waiting = false;
        if (member->state == LEASE_STATE_QUEUED)
            enter(world, i, 0);
        if (has_journal && member->state != 0)
            MODEL_MUST(budget_restore(world->budget, &claim, member->id, member->state,
                                      world->now_ms, &member->id) == 0);
    }
    /* Of a lost journal only the numbers are not: events and refusals go on from them too. */
    budget_reserve_ids(world->budget, world->next_id);
}

static void take_member(struct world *world, struct step step)
{
    struct member *const member = &world->members[step.who];

    if (step.kind == STEP_ACQUIRE || step.kind == STEP_ACQUIRE_SHORT)
        acquire(world, step.who,
                step.kind == STEP_ACQUIRE ? CLOCK_NEVER_MS : world->now_ms + PATIENCE_MS);
    else if (step.kind == STEP_READY)
        ready(world, step.who);
    else if (step.kind == STEP_BURST || step.kind == STEP_BURST_SHORT)
        begin_burst(world, step.who,
                    step.kind == STEP_BURST ? CLOCK_NEVER_MS : world->now_ms + PATIENCE_MS);
    else if (step.kind == STEP_BURST_END)
        end_burst(world, step.who);
    else if (step.kind == STEP_END)
        end(world, step.who);
    else if (step.kind == STEP_GONE)
        memset(member->left_bytes, 0, sizeof(member->left_bytes));
    else
        reattach(world, step.who);
}

static void take_world(struct world *world, struct step step)
{
    struct truth late = world_look(world);

    if (step.kind == STEP_SAMPLE) {
        sample(world);
    } else if (step.kind == STEP_SAMPLE_BEGIN) {
        world->sample = late;
        world->has_sample = true;
        world->now_ms++;
    } else if (step.kind == STEP_SAMPLE_EARLY || step.kind == STEP_SAMPLE_LATE) {
        late.begun_ms = world->sample.begun_ms;
        world->has_sample = false;
        observe(world, step.kind == STEP_SAMPLE_EARLY ? &world->sample : &late);
    } else if (step.kind == STEP_FOREIGN_COMES || step.kind == STEP_FOREIGN_GOES) {
        world->foreign_bytes[step.who] = step.kind == STEP_FOREIGN_COMES ? FOREIGN_BYTES : 0;
    } else if (step.kind == STEP_TIME_SHORT || step.kind == STEP_TIME_LONG) {
        world->now_ms += step.kind == STEP_TIME_SHORT ? 300 : 40000;
        budget_advance(world->budget, world->now_ms);
    } else {
        restart(world, step.kind == STEP_RESTART);
    }
}

void world_take(struct world *world, struct step step)
{
    if (step.kind <= STEP_REATTACH)
        take_member(world, step);
    else
        take_world(world, step);
    take_decisions(world);
}
