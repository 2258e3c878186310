/* SPDX-License-Identifier: Apache-2.0 */

/* The budget as a policy. A sample shows what the jobs use at that moment; it is taken before
 * somebody asks where the last one is too old to grant on, and as soon as the budget wants one. But
 * where nothing has changed since the last one it would show the same, and is taken with the next
 * change. */

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "budget/budget.h"
#include "sim/policy.h"
#include "sim/sim.h"

struct brim {
    struct sim *sim;         /* borrowed */
    struct budget *budget;   /* owned */
    struct sim_live **slots; /* owned: lease -> job, open addressing */
    uint32_t capacity, count;
    struct sim_live *running[SIM_GPU_MAX]; /* borrowed */
    bool is_asked[SIM_GPU_MAX], has_changed[SIM_GPU_MAX];
    uint64_t fresh_until_ms[SIM_GPU_MAX];
    uint64_t facts_max_age_ms;
    struct budget_measure *measured; /* owned */
    size_t measured_room;
};

static uint32_t home_of(const struct brim *brim, uint64_t lease_id)
{
    return (uint32_t)((lease_id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (brim->capacity - 1);
}

static uint32_t slot_of(const struct brim *brim, uint64_t lease_id)
{
    uint32_t slot = home_of(brim, lease_id);

    while (brim->slots[slot] && brim->slots[slot]->lease_id != lease_id)
        slot = (slot + 1) & (brim->capacity - 1);
    return slot;
}

static int slots_reserve(struct brim *brim)
{
    struct sim_live **old = brim->slots;
    uint32_t old_capacity = brim->capacity;

    if (2 * (brim->count + 1) <= brim->capacity)
        return 0;
    brim->slots = calloc(old_capacity ? 2 * (size_t)old_capacity : 64, sizeof(struct sim_live *));
    if (!brim->slots) {
        brim->slots = old;
        return -ENOMEM;
    }
    brim->capacity = old_capacity ? 2 * old_capacity : 64;
    for (uint32_t i = 0; i < old_capacity; i++)
        if (old[i])
            brim->slots[slot_of(brim, old[i]->lease_id)] = old[i];
    free(old);
    return 0;
}

static void slots_drop(struct brim *brim, uint64_t lease_id)
{
    uint32_t mask = brim->capacity - 1, hole = slot_of(brim, lease_id);

    for (uint32_t slot = (hole + 1) & mask; brim->slots[slot]; slot = (slot + 1) & mask) {
        uint32_t home = home_of(brim, brim->slots[slot]->lease_id);

        if (((slot - home) & mask) < ((slot - hole) & mask))
            continue;
        brim->slots[hole] = brim->slots[slot];
        hole = slot;
    }
    brim->slots[hole] = NULL;
    brim->count--;
}

static void run_on(struct brim *brim, struct sim_live *live, uint32_t gpu)
{
    live->gpu = gpu;
    live->prev = NULL;
    live->next = brim->running[gpu];
    if (live->next)
        live->next->prev = live;
    brim->running[gpu] = live;
}

static void run_no_more(struct brim *brim, struct sim_live *live)
{
    if (live->prev)
        live->prev->next = live->next;
    else
        brim->running[live->gpu] = live->next;
    if (live->next)
        live->next->prev = live->prev;
}

static int measured_add(struct brim *brim, size_t count, const struct sim_live *live)
{
    if (count == brim->measured_room) {
        size_t room = count ? 2 * count : 64;
        struct budget_measure *grown = realloc(brim->measured, room * sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        brim->measured = grown;
        brim->measured_room = room;
    }
    brim->measured[count] = (struct budget_measure){ live->lease_id, live->used_bytes };
    return 0;
}

static void observe(struct brim *brim, uint32_t gpu)
{
    struct budget_facts facts = { .used_bytes = brim->sim->foreign_bytes[gpu],
                                  .has_process_bytes = true };

    for (struct sim_live *live = brim->running[gpu]; live; live = live->next) {
        facts.used_bytes += live->used_bytes;
        if (measured_add(brim, facts.measured_count, live) == 0)
            facts.measured_count++;
    }
    facts.measured = brim->measured;
    brim->is_asked[gpu] = false;
    brim->has_changed[gpu] = false;
    brim->fresh_until_ms[gpu] = brim->sim->now_ms + brim->facts_max_age_ms;
    (void)budget_observe(brim->budget, gpu, &facts, brim->sim->now_ms);
}

static void freshen(struct brim *brim, uint32_t gpu)
{
    for (uint32_t i = 0; i < brim->sim->gpu_count; i++)
        if ((gpu == CLAIM_GPU_ANY || i == gpu) && brim->fresh_until_ms[i] < brim->sim->now_ms)
            observe(brim, i);
}

static void act(struct brim *brim, const struct decision *decision)
{
    struct sim_live *live = brim->slots[slot_of(brim, decision->lease_id)];

    if (decision->kind == DECISION_NEED_FACTS) {
        brim->is_asked[decision->gpu] = true;
        return;
    }
    if (!live)
        return; /* it has left already */
    switch (decision->kind) {
    case DECISION_GRANTED:
        run_on(brim, live, decision->gpu);
        sim_grant(brim->sim, live);
        return;
    case DECISION_REFUSED:
        slots_drop(brim, decision->lease_id);
        sim_give_up(brim->sim, live);
        return;
    case DECISION_BURST_GRANTED:
        sim_burst_grant(brim->sim, live);
        return;
    case DECISION_BURST_REFUSED:
        sim_burst_refuse(brim->sim, live);
        return;
    case DECISION_ASK_STOP:
        sim_stop(brim->sim, live);
        return;
    case DECISION_ASK_TRIM:
        sim_trim(brim->sim);
        return;
    case DECISION_DRAINED:
    case DECISION_OVERDRAFT:
    case DECISION_NEED_FACTS:
        return;
    }
}

static void act_all(struct brim *brim)
{
    struct decision decision;
    bool is_done = false;

    while (!is_done) {
        while (budget_next_decision(brim->budget, &decision))
            act(brim, &decision);
        is_done = true;
        for (uint32_t gpu = 0; gpu < brim->sim->gpu_count; gpu++) {
            if (!brim->is_asked[gpu] || !brim->has_changed[gpu])
                continue;
            observe(brim, gpu);
            is_done = false;
        }
    }
}

static void change(struct brim *brim, const struct sim_live *live)
{
    uint32_t gpu = live->state == SIM_WAITING ? live->job.claim.parts[0].gpu : live->gpu;

    for (uint32_t i = 0; i < brim->sim->gpu_count; i++)
        if (gpu == CLAIM_GPU_ANY || i == gpu)
            brim->has_changed[i] = true;
    act_all(brim);
}

static void brim_close(void *state)
{
    struct brim *brim = state;

    budget_free(brim->budget);
    free(brim->slots);
    free(brim->measured);
    free(brim);
}

static int brim_open(struct sim *sim, void **ret_state)
{
    struct budget_limits limits = BUDGET_LIMITS_DEFAULT;
    struct brim *brim = calloc(1, sizeof(*brim));
    uint32_t gpu;
    int r = -ENOMEM;

    if (!brim)
        return r;
    limits.lease_max = UINT32_C(1) << 17;
    brim->sim = sim;
    brim->facts_max_age_ms = limits.facts_max_age_ms;
    if (slots_reserve(brim) == 0)
        r = budget_new(&limits, &brim->budget);
    for (uint32_t i = 0; i < sim->gpu_count && r == 0; i++)
        r = budget_add_gpu(brim->budget, sim->gpus[i].capacity_bytes, sim->gpus[i].reserve_bytes,
                           &gpu);
    if (r < 0) {
        brim_close(brim);
        return r;
    }
    *ret_state = brim;
    return 0;
}

static int brim_arrive(void *state, struct sim_live *live)
{
    struct brim *brim = state;
    uint64_t now_ms = brim->sim->now_ms;
    struct budget_lease_view view;
    struct refusal refusal;
    int r = slots_reserve(brim);

    if (r < 0)
        return r;
    freshen(brim, live->job.claim.parts[0].gpu);
    r = budget_acquire(brim->budget, &live->job.claim, now_ms,
                       clock_after_ms(now_ms, live->job.wait_ms), &live->lease_id,
                       live->job.wait_ms == 0 ? &refusal : NULL);
    if (r < 0)
        return r;
    if (r == BUDGET_REFUSED)
        return live->job.wait_ms == 0 && refusal.kind != REFUSAL_NEVER_FITS ? SIM_REFUSED
                                                                            : SIM_NEVER_FITS;
    brim->slots[slot_of(brim, live->lease_id)] = live;
    brim->count++;
    if (r == BUDGET_QUEUED) {
        change(brim, live);
        return SIM_QUEUED;
    }
    act_all(brim);
    (void)budget_view_lease(brim->budget, live->lease_id, &view);
    run_on(brim, live, view.claim->parts[0].gpu);
    return SIM_GRANTED;
}

static void brim_ready(void *state, struct sim_live *live)
{
    struct brim *brim = state;

    (void)budget_ready(brim->budget, live->lease_id, brim->sim->now_ms);
    change(brim, live);
}

static int brim_burst_begin(void *state, struct sim_live *live)
{
    struct brim *brim = state;
    int r;

    freshen(brim, live->gpu);
    r = budget_burst_begin(brim->budget, live->lease_id, live->burst.bytes, brim->sim->now_ms,
                           clock_after_ms(brim->sim->now_ms, live->burst.wait_ms), NULL);
    if (r == BUDGET_QUEUED) {
        change(brim, live);
        return SIM_QUEUED;
    }
    act_all(brim);
    return r == BUDGET_GRANTED ? SIM_GRANTED : SIM_REFUSED;
}

static void brim_burst_end(void *state, struct sim_live *live)
{
    struct brim *brim = state;

    (void)budget_burst_end(brim->budget, live->lease_id, brim->sim->now_ms);
    change(brim, live);
}

static void brim_leave(void *state, struct sim_live *live)
{
    struct brim *brim = state;

    run_no_more(brim, live);
    slots_drop(brim, live->lease_id);
    (void)budget_release(brim->budget, live->lease_id, brim->sim->now_ms);
    if (live->is_stopping)
        observe(brim, live->gpu); /* enough now, or must the next one go? */
    change(brim, live);
}

/* Foreign growth is what a sample finds, asked for or not; a second one in a row asks to stop. */
static void brim_foreign(void *state, uint32_t gpu)
{
    struct brim *brim = state;

    observe(brim, gpu);
    observe(brim, gpu);
    act_all(brim);
}

static uint64_t brim_next_ms(const void *state)
{
    const struct brim *brim = state;

    /* Who wants newer facts gets them with the next change. */
    for (uint32_t gpu = 0; gpu < brim->sim->gpu_count; gpu++)
        if (brim->has_changed[gpu])
            return budget_next_wakeup_ms(brim->budget);
    return budget_next_deadline_ms(brim->budget);
}

static void brim_advance(void *state)
{
    struct brim *brim = state;

    budget_advance(brim->budget, brim->sim->now_ms);
    act_all(brim);
}

const struct sim_policy sim_policy_brim = {
    .name = "brim",
    .title = "Brim: bursts in turn, bounded overtaking",
    .open = brim_open,
    .close = brim_close,
    .arrive = brim_arrive,
    .ready = brim_ready,
    .burst_begin = brim_burst_begin,
    .burst_end = brim_burst_end,
    .leave = brim_leave,
    .foreign = brim_foreign,
    .next_ms = brim_next_ms,
    .advance = brim_advance,
};
