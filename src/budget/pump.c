/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pump: grants to those who wait. A gpu where something was freed is dirty; its waiters, and only
 * those that could fit into what is free there, are tried in the order of the queue until none is
 * granted. Nobody is looked at where nothing was freed.
 *
 * Then time: a waiter whose deadline has come is refused, if fresh facts have said no at least once
 * since it waits. One that asked while the facts were too old (even without a wait) stays for the
 * observation that it caused, and is granted or refused by that; only when no facts come for
 * BUDGET_STALE_GRACE_MS is it refused for want of facts.
 */

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "budget/state.h"

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct room waiter_need(const struct lease *lease)
{
    const struct waiter *waiter = &lease->waiter;
    struct room room = { UINT64_MAX, 0, 0 };

    if (waiter->is_burst) {
        for (uint32_t i = 0; i < lease->claim.part_count; i++)
            room.charge_bytes =
                earlier(room.charge_bytes, lease_burst_bytes(lease, i, waiter->burst_bytes));
        return room;
    }
    room = (struct room){ UINT64_MAX, UINT64_MAX, UINT64_MAX };
    for (uint32_t i = 0; i < lease->claim.part_count; i++) {
        struct need need = claim_need(&lease->claim, i);

        room.charge_bytes = earlier(room.charge_bytes, need.charge_bytes);
        room.resident_bytes = earlier(room.resident_bytes, need.resident_bytes);
        room.total_bytes = earlier(room.total_bytes, need_total_bytes(&need));
    }
    return room;
}

void queue_wait(struct budget *budget, struct lease *lease)
{
    struct waiter *waiter = &lease->waiter;
    struct room need = waiter_need(lease);

    waiter->is_closed = false;
    waiter->gpus = waiter_gpus(budget, lease);
    queue_enter(&budget->queue, lease, &need, budget->now_ms);
    if (!waiter->is_judged && waiter->deadline_ms <= budget->now_ms)
        queue_set_overdue(&budget->queue, waiter,
                          clock_after_ms(budget->now_ms, BUDGET_STALE_GRACE_MS));
}

/* What is free on a gpu for a claim, or for a burst. */
static struct room gpu_room(const struct ledger *ledger, bool is_burst)
{
    uint64_t resident_bytes = ledger_resident_bytes(ledger);
    uint64_t progress_bytes = ledger_progress_bytes(ledger);
    uint64_t capacity_bytes = ledger->capacity_bytes;

    if (is_burst)
        return (struct room){ ledger_burst_room_bytes(ledger), UINT64_MAX, UINT64_MAX };
    return (struct room){
        ledger_burst_room_bytes(ledger),
        progress_bytes < capacity_bytes ? capacity_bytes - progress_bytes : 0,
        resident_bytes < capacity_bytes ? capacity_bytes - resident_bytes : 0,
    };
}

static bool waiter_grant(struct budget *budget, struct waiter *waiter,
                         const struct verdict *verdict)
{
    struct lease *lease = waiter->lease;
    uint32_t gpus[CLAIM_PART_MAX] = { verdict->gpu };
    struct decision_record record = { .kind = DECISION_GRANTED,
                                      .lease_id = lease->id,
                                      .gpu = verdict->gpu,
                                      .bytes = waiter->burst_bytes };

    if (decisions_reserve(&budget->decisions, 1) < 0)
        return false;
    if (!waiter->is_burst && lease_reserve_parts(budget, lease, verdict->gpu) < 0)
        return false;
    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        if (lease->claim.parts[i].gpu != CLAIM_GPU_ANY)
            gpus[i] = lease->claim.parts[i].gpu;
    queue_pass(&budget->queue, gpus, lease->claim.part_count, waiter, waiter->is_burst,
               budget->now_ms);
    lease_dirty_gpus(budget, lease);
    queue_leave(&budget->queue, lease);
    if (waiter->is_burst) {
        record.kind = DECISION_BURST_GRANTED;
        burst_take(budget, lease, waiter->burst_bytes);
        record.bytes = lease->parts[0].taken_bytes;
    } else {
        lease_grant(budget, lease, verdict->gpu);
        record.bytes = part_charge_bytes(&lease->parts[0]);
    }
    decisions_add(&budget->decisions, &record);
    return true;
}

bool waiter_refuse(struct budget *budget, struct waiter *waiter, const struct verdict *verdict)
{
    struct lease *lease = waiter->lease;
    struct decision_record record = {
        .kind = waiter->is_burst ? DECISION_BURST_REFUSED : DECISION_REFUSED,
        .reason = verdict->kind,
        .lease_id = lease->id,
        .gpu = verdict->gpu,
    };

    if (decisions_reserve(&budget->decisions, 1) < 0)
        return false;
    record.refusal = refusal_new(budget, verdict, lease);
    lease_dirty_gpus(budget, lease);
    queue_leave(&budget->queue, lease);
    if (!waiter->is_burst)
        lease_table_drop(&budget->leases, lease);
    decisions_add(&budget->decisions, &record);
    return true;
}

/* Grant one of a kind on a gpu. false: none can be. */
static bool gpu_grant_one(struct budget *budget, struct ledger *ledger, bool is_burst)
{
    struct waiter *waiter;
    struct queue_walk walk = { .queue = &budget->queue,
                               .gpu = ledger->gpu,
                               .is_burst = is_burst,
                               .now_ms = budget->now_ms,
                               .room = gpu_room(ledger, is_burst) };
    struct verdict verdict;

    if (!queue_is_waited_for(&budget->queue, ledger->gpu, is_burst))
        return false;
    waiter = queue_closed(&budget->queue, ledger->gpu, is_burst, budget->now_ms);
    if (waiter) {
        waiter->is_closed = true;
        if (!waitlist_may_fit(waiter, &walk.room))
            return false;
        verdict = admit_waiter(budget, waiter);
        return verdict_is_yes(&verdict) && waiter_grant(budget, waiter, &verdict);
    }
    queue_walk_begin(&walk);
    while ((waiter = queue_walk_next(&walk))) {
        if (!((waiter->gpus >> ledger->gpu) & 1))
            continue;
        verdict = admit_waiter(budget, waiter);
        if (verdict_is_yes(&verdict))
            return waiter_grant(budget, waiter, &verdict);
    }
    return false;
}

static void gpu_pump(struct budget *budget, struct ledger *ledger)
{
    ledger->is_dirty = false;
    if (!ledger_is_fresh(ledger, budget->now_ms, budget->limits.facts_max_age_ms))
        return; /* the observation that comes looks again */
    while (budget->queue.count > 0 && gpu_grant_one(budget, ledger, true))
        ;
    while (budget->queue.count > 0 && gpu_grant_one(budget, ledger, false))
        ;
}

/* When are newer facts of a gpu due, for those who wait there? */
static uint64_t facts_due_ms(const struct budget *budget, const struct ledger *ledger)
{
    uint64_t age_ms = budget->limits.facts_max_age_ms;
    uint64_t draining_ms;

    if (!ledger->is_managed)
        return CLOCK_NEVER_MS;
    if (!ledger->has_facts || ledger->is_facts_behind)
        return 0;
    if (ledger->sum.draining_count > 0) {
        draining_ms = (ledger->facts_at_ms - earlier(ledger->drained_ms, ledger->facts_at_ms)) / 2;
        if (draining_ms < BUDGET_DRAIN_POLL_MS)
            draining_ms = BUDGET_DRAIN_POLL_MS;
        age_ms = earlier(age_ms, draining_ms);
    }
    return clock_after_ms(clock_after_ms(ledger->facts_at_ms, age_ms), 1);
}

void budget_want_facts(struct budget *budget, uint32_t gpu)
{
    struct ledger *ledger = budget->ledgers[gpu];

    if (ledger->is_facts_asked || decisions_reserve(&budget->decisions, 1) < 0)
        return;
    ledger->is_facts_asked = true;
    decisions_add(&budget->decisions,
                  &(struct decision_record){ .kind = DECISION_NEED_FACTS, .gpu = gpu });
}

static bool gpu_is_waited_for(const struct budget *budget, uint32_t gpu)
{
    return budget->queue.scopes[0]->count > 0 || budget->queue.scopes[1 + gpu]->count > 0;
}

void budget_pump(struct budget *budget)
{
    bool is_done = false;

    /* A grant to a wide waiter may free the way on another gpu. */
    while (budget->queue.count > 0 && !is_done) {
        is_done = true;
        for (uint32_t gpu = 0; gpu < budget->gpu_count; gpu++) {
            if (!budget->ledgers[gpu]->is_dirty)
                continue;
            is_done = false;
            gpu_pump(budget, budget->ledgers[gpu]);
        }
    }
    if (budget->queue.count == 0)
        return;
    for (uint32_t gpu = 0; gpu < budget->gpu_count; gpu++)
        if (gpu_is_waited_for(budget, gpu) &&
            facts_due_ms(budget, budget->ledgers[gpu]) <= budget->now_ms)
            budget_want_facts(budget, gpu);
}

/* Have fresh facts said no? So they have when each gpu it waits for had some since it came. */
static bool waiter_is_judged(const struct budget *budget, const struct waiter *waiter)
{
    if (waiter->is_judged)
        return true;
    for (uint32_t gpu = 0; gpu < budget->gpu_count; gpu++) {
        const struct ledger *ledger = budget->ledgers[gpu];

        if (((waiter->gpus >> gpu) & 1) &&
            !ledger_is_fresh(ledger, waiter->queued_ms, budget->limits.facts_max_age_ms))
            return false;
    }
    return true;
}

void budget_refuse_overdue(struct budget *budget)
{
    struct waiter *next;

    for (struct waiter *waiter = budget->queue.overdue; waiter; waiter = next) {
        struct verdict verdict;

        next = waiter->overdue_next;
        if (!waiter_is_judged(budget, waiter))
            continue;
        verdict = admit_waiter(budget, waiter);
        if (!verdict_is_yes(&verdict))
            waiter_refuse(budget, waiter, &verdict);
    }
}

/* The waiter's time has come. false: no memory to say so. */
static bool waiter_expire(struct budget *budget, struct waiter *waiter)
{
    struct verdict verdict = admit_waiter(budget, waiter);

    if (!waiter->is_overdue && !waiter_is_judged(budget, waiter)) {
        queue_set_overdue(&budget->queue, waiter,
                          clock_after_ms(waiter->deadline_ms, BUDGET_STALE_GRACE_MS));
        return true;
    }
    if (verdict.kind == REFUSAL_NONE)
        verdict.kind = REFUSAL_STALE_FACTS;
    return waiter_refuse(budget, waiter, &verdict);
}

void budget_advance(struct budget *budget, uint64_t now_ms)
{
    budget_pass_time(budget, now_ms);
    while (queue_next_ms(&budget->queue) <= budget->now_ms) {
        const struct heap_node *due = heap_top(&budget->queue.timers);
        struct lease *lease = due ? due->owner : NULL;

        if (!lease || !waiter_expire(budget, &lease->waiter))
            break;
    }
    for (uint32_t gpu = 0; gpu < budget->gpu_count; gpu++)
        budget_drain_lost(budget, gpu);
    budget_pump(budget);
}

uint64_t budget_next_deadline_ms(const struct budget *budget)
{
    return queue_next_ms(&budget->queue);
}

uint64_t budget_next_wakeup_ms(const struct budget *budget)
{
    uint64_t wakeup_ms = queue_next_ms(&budget->queue);

    for (uint32_t gpu = 0; gpu < budget->gpu_count; gpu++) {
        const struct ledger *ledger = budget->ledgers[gpu];

        if (gpu_is_waited_for(budget, gpu) && !ledger->is_facts_asked)
            wakeup_ms = earlier(wakeup_ms, facts_due_ms(budget, ledger));
        if (!ledger->is_managed && ledger->sum.draining_count > 0)
            wakeup_ms =
                earlier(wakeup_ms, clock_after_ms(ledger->drained_ms, budget->limits.drain_min_ms));
    }
    return wakeup_ms;
}
