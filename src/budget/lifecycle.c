/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The life of a lease, but for its bursts: acquire, restore, ready, resize, release. Each function
 * first makes sure that nothing it needs can fail, then changes things, then pumps the queue.
 */

#include <assert.h>
#include <errno.h>

#include "base/clock.h"
#include "budget/state.h"

/* Ids above are not given out, so that the next one cannot wrap around. */
#define LEASE_ID_MAX (UINT64_MAX / 2)

void lease_dirty_gpus(struct budget *budget, const struct lease *lease)
{
    for (uint32_t gpu = 0; gpu < budget->gpu_count; gpu++)
        if ((lease->waiter.gpus >> gpu) & 1)
            budget->ledgers[gpu]->is_dirty = true;
}

uint64_t waiter_gpus(const struct budget *budget, const struct lease *lease)
{
    uint64_t gpus = 0;

    if (lease->claim.parts[0].gpu == CLAIM_GPU_ANY) {
        struct need need = claim_need(&lease->claim, 0);

        for (uint32_t gpu = 0; gpu < budget->gpu_count; gpu++)
            if (budget->ledgers[gpu]->is_managed &&
                need_total_bytes(&need) <= ledger_most_bytes(budget->ledgers[gpu]))
                gpus |= UINT64_C(1) << gpu;
        return gpus;
    }
    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        gpus |= UINT64_C(1) << lease->claim.parts[i].gpu;
    return gpus;
}

void lease_set_state(struct budget *budget, struct lease *lease, enum lease_state state)
{
    lease->state = state;
    lease->since_ms = budget->now_ms;
    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        if (lease->parts[i].ledger) {
            ledger_settle(&lease->parts[i]);
            lease->parts[i].ledger->is_dirty = true;
        }
}

int lease_reserve_parts(struct budget *budget, const struct lease *lease, uint32_t gpu)
{
    for (uint32_t i = 0; i < lease->claim.part_count; i++) {
        uint32_t part_gpu = lease->claim.parts[i].gpu;
        int r = ledger_reserve(budget->ledgers[part_gpu == CLAIM_GPU_ANY ? gpu : part_gpu]);

        if (r < 0)
            return r;
    }
    return 0;
}

static void lease_enter(struct budget *budget, struct lease *lease, uint32_t gpu,
                        enum lease_state state)
{
    if (lease->claim.parts[0].gpu == CLAIM_GPU_ANY)
        lease->claim.parts[0].gpu = gpu;
    lease->state = state;
    lease->since_ms = budget->now_ms;
    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        ledger_enter(budget->ledgers[lease->claim.parts[i].gpu], &lease->parts[i]);
}

void lease_grant(struct budget *budget, struct lease *lease, uint32_t gpu)
{
    /* One that is always busy is so at once, unless it needs the gpu to itself until it is ready.
     */
    bool is_busy = lease->claim.is_always_busy && !lease->claim.is_load_alone;

    lease_enter(budget, lease, gpu, is_busy ? LEASE_STATE_BUSY : LEASE_STATE_LOADING);
    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        assert(ledger_holds(lease->parts[i].ledger));
}

static int refuse(const struct budget *budget, const struct verdict *verdict,
                  const struct claim *claim, struct refusal *ret_refusal)
{
    refusal_fill(budget, verdict, claim, NULL, ret_refusal);
    return BUDGET_REFUSED;
}

static int acquire_now(struct budget *budget, struct lease *lease, uint32_t gpu)
{
    uint32_t gpus[CLAIM_PART_MAX];
    int r = lease_reserve_parts(budget, lease, gpu);

    if (r < 0)
        return r;
    lease->id = budget->leases.next_id;
    lease_table_add(&budget->leases, lease);
    lease_grant(budget, lease, gpu);
    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        gpus[i] = lease->claim.parts[i].gpu;
    queue_pass(&budget->queue, gpus, lease->claim.part_count, NULL, false, budget->now_ms);
    return BUDGET_GRANTED;
}

static int acquire_later(struct budget *budget, struct lease *lease, bool is_judged,
                         uint64_t deadline_ms)
{
    int r = queue_reserve(&budget->queue, lease, false);

    if (r < 0)
        return r;
    lease->id = budget->leases.next_id;
    lease->since_ms = budget->now_ms;
    lease->waiter.deadline_ms = deadline_ms;
    lease->waiter.is_judged = is_judged;
    lease_table_add(&budget->leases, lease);
    queue_wait(budget, lease);
    return BUDGET_QUEUED;
}

int budget_acquire(struct budget *budget, const struct claim *claim, uint64_t now_ms,
                   uint64_t deadline_ms, uint64_t *ret_lease_id, struct refusal *ret_refusal)
{
    struct verdict verdict;
    struct lease *lease;
    int r;

    budget_pass_time(budget, now_ms);
    verdict = admit_claim(budget, claim, NULL);
    if (verdict_is_final(&verdict))
        return refuse(budget, &verdict, claim, ret_refusal);
    if (budget->leases.count >= budget->limits.lease_max)
        verdict = (struct verdict){ .kind = REFUSAL_QUEUE_FULL, .gpu = verdict.gpu };
    if (verdict.kind == REFUSAL_QUEUE_FULL ||
        (!verdict_is_yes(&verdict) && !verdict.is_stale && deadline_ms <= budget->now_ms))
        return refuse(budget, &verdict, claim, ret_refusal);

    if (lease_table_reserve(&budget->leases) < 0)
        return -ENOMEM;
    lease = lease_new(claim);
    if (!lease)
        return -ENOMEM;
    if (verdict_is_yes(&verdict))
        r = acquire_now(budget, lease, verdict.gpu);
    else
        r = acquire_later(budget, lease, !verdict.is_stale, deadline_ms);
    if (r < 0) {
        lease_free(lease);
        return r;
    }
    if (r == BUDGET_QUEUED)
        refusal_fill(budget, &verdict, claim, lease, ret_refusal);
    *ret_lease_id = lease->id;
    budget_pump(budget);
    return r;
}

static bool claim_is_restorable(const struct budget *budget, const struct claim *claim)
{
    if (claim_check(claim) != REFUSAL_NONE)
        return false;
    for (uint32_t i = 0; i < claim->part_count; i++) {
        struct need need = claim_need(claim, i);
        uint64_t total_bytes;

        if (claim->parts[i].gpu >= budget->gpu_count)
            return false;
        if (__builtin_add_overflow(need.resident_bytes, need.extra_bytes, &total_bytes) ||
            total_bytes > LEDGER_BYTES_MAX)
            return false;
    }
    return true;
}

int budget_restore(struct budget *budget, const struct claim *claim, uint64_t lease_id,
                   enum lease_state state, uint64_t now_ms, uint64_t *ret_lease_id)
{
    struct lease *lease;

    budget_pass_time(budget, now_ms);
    if (!claim_is_restorable(budget, claim) || lease_id > LEASE_ID_MAX ||
        (state != LEASE_STATE_LOADING && state != LEASE_STATE_IDLE && state != LEASE_STATE_BUSY))
        return -EINVAL;
    if (lease_id != 0 && lease_table_find(&budget->leases, lease_id))
        return -EEXIST;
    if (budget->leases.count >= LEDGER_LEASE_MAX)
        return -ENOSPC;
    if (lease_table_reserve(&budget->leases) < 0)
        return -ENOMEM;
    lease = lease_new(claim);
    if (!lease || lease_reserve_parts(budget, lease, 0) < 0) {
        lease_free(lease);
        return -ENOMEM;
    }

    if (claim->is_always_busy && !claim->is_load_alone)
        state = LEASE_STATE_BUSY;
    for (uint32_t i = 0; i < claim->part_count && state == LEASE_STATE_BUSY; i++)
        lease->parts[i].taken_bytes = lease->parts[i].burst_bytes;
    lease->id = lease_id != 0 ? lease_id : budget->leases.next_id;
    lease_table_add(&budget->leases, lease);
    lease_enter(budget, lease, 0, state);
    *ret_lease_id = lease->id;
    return 0;
}

int budget_ready(struct budget *budget, uint64_t lease_id, uint64_t now_ms)
{
    struct lease *lease = lease_table_find(&budget->leases, lease_id);

    budget_pass_time(budget, now_ms);
    if (!lease || (lease->state != LEASE_STATE_LOADING && !lease_is_held(lease)))
        return BUDGET_REFUSED;
    if (lease->state != LEASE_STATE_LOADING)
        return BUDGET_GRANTED; /* said twice, or always busy */
    lease_set_state(budget, lease,
                    lease->claim.is_always_busy ? LEASE_STATE_BUSY : LEASE_STATE_IDLE);
    budget_pump(budget);
    return BUDGET_GRANTED;
}

int budget_release(struct budget *budget, uint64_t lease_id, uint64_t now_ms)
{
    struct lease *lease = lease_table_find(&budget->leases, lease_id);

    budget_pass_time(budget, now_ms);
    if (!lease || lease->state == LEASE_STATE_DRAINING)
        return BUDGET_REFUSED;
    if (lease->waiter.list) {
        lease_dirty_gpus(budget, lease);
        queue_leave(&budget->queue, lease);
    }
    if (lease->state == LEASE_STATE_QUEUED) {
        lease_table_drop(&budget->leases, lease);
        budget_pump(budget);
        return BUDGET_GRANTED;
    }

    /* Until a newer sample comes, all that it may have taken since the last one is still there. */
    for (uint32_t i = 0; i < lease->claim.part_count; i++) {
        lease->parts[i].drain_bytes = part_claimed_bytes(&lease->parts[i]);
        lease->parts[i].ledger->drained_ms = budget->now_ms;
    }
    lease_set_state(budget, lease, LEASE_STATE_DRAINING);
    budget_pump(budget);
    return BUDGET_GRANTED;
}
