/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Bursts: the bytes that an idle holder takes for a while. Law 2 has kept the largest one of each
 * gpu free of residents, so a burst waits only for what ends by itself: other bursts, loads, bytes
 * that drain. Several gpus' are taken all or none, so that none is held while another is waited
 * for.
 */

#include <errno.h>

#include "budget/state.h"

void burst_take(struct budget *budget, struct lease *lease, uint64_t bytes)
{
    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        lease->parts[i].taken_bytes = lease_burst_bytes(lease, i, bytes);
    lease_set_state(budget, lease, LEASE_STATE_BUSY);
}

static int refuse(const struct budget *budget, const struct verdict *verdict,
                  const struct lease *lease, struct refusal *ret_refusal)
{
    refusal_fill(budget, verdict, lease ? &lease->claim : NULL, lease, ret_refusal);
    return BUDGET_REFUSED;
}

/* The burst is at most what law 2 has kept free for it. */
static bool burst_is_claimed(const struct lease *lease, uint64_t bytes)
{
    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        if (bytes <= lease->parts[i].burst_bytes)
            return true;
    return false;
}

static int burst_wait(struct budget *budget, struct lease *lease, uint64_t bytes,
                      uint64_t deadline_ms, bool is_judged)
{
    struct waiter *waiter = &lease->waiter;

    if (queue_reserve(&budget->queue, lease, true) < 0)
        return -ENOMEM;
    waiter->is_burst = true;
    waiter->burst_bytes = bytes;
    waiter->deadline_ms = deadline_ms;
    waiter->is_judged = is_judged;
    queue_wait(budget, lease);
    return BUDGET_QUEUED;
}

static void burst_grant_now(struct budget *budget, struct lease *lease, uint64_t bytes)
{
    uint32_t gpus[CLAIM_PART_MAX];

    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        gpus[i] = lease->claim.parts[i].gpu;
    burst_take(budget, lease, bytes);
    queue_pass(&budget->queue, gpus, lease->claim.part_count, NULL, true, budget->now_ms);
}

int budget_burst_begin(struct budget *budget, uint64_t lease_id, uint64_t bytes, uint64_t now_ms,
                       uint64_t deadline_ms, struct refusal *ret_refusal)
{
    struct lease *lease = lease_table_find(&budget->leases, lease_id);
    struct verdict verdict = { .kind = REFUSAL_BAD_STATE };
    int r;

    budget_pass_time(budget, now_ms);
    if (!lease)
        return refuse(budget, &verdict, NULL, ret_refusal);
    if (lease->claim.is_always_busy && lease->state == LEASE_STATE_BUSY)
        return BUDGET_GRANTED; /* it holds its burst for life */
    if (lease->state != LEASE_STATE_IDLE || lease->waiter.list)
        return refuse(budget, &verdict, lease, ret_refusal);
    if (!burst_is_claimed(lease, bytes)) {
        verdict = (struct verdict){ .kind = REFUSAL_BAD_CLAIM, .asked_bytes = bytes };
        return refuse(budget, &verdict, lease, ret_refusal);
    }

    verdict = admit_burst(budget, lease, bytes, NULL);
    if (verdict_is_yes(&verdict)) {
        burst_grant_now(budget, lease, bytes);
        return BUDGET_GRANTED;
    }
    if (verdict_is_final(&verdict) || (!verdict.is_stale && deadline_ms <= budget->now_ms))
        return refuse(budget, &verdict, lease, ret_refusal);
    r = burst_wait(budget, lease, bytes, deadline_ms, !verdict.is_stale);
    if (r < 0)
        return r;
    refusal_fill(budget, &verdict, &lease->claim, lease, ret_refusal);
    budget_pump(budget);
    return r;
}

int budget_burst_end(struct budget *budget, uint64_t lease_id, uint64_t now_ms)
{
    struct lease *lease = lease_table_find(&budget->leases, lease_id);

    budget_pass_time(budget, now_ms);
    if (!lease || !lease_is_held(lease))
        return BUDGET_REFUSED;
    if (lease->waiter.list) {
        /* It waits no longer. */
        lease_dirty_gpus(budget, lease);
        queue_leave(&budget->queue, lease);
    } else if (lease->state != LEASE_STATE_BUSY) {
        return BUDGET_REFUSED;
    } else if (!lease->claim.is_always_busy) {
        for (uint32_t i = 0; i < lease->claim.part_count; i++)
            lease->parts[i].taken_bytes = 0;
        lease_set_state(budget, lease, LEASE_STATE_IDLE);
    }
    budget_pump(budget);
    return BUDGET_GRANTED;
}
