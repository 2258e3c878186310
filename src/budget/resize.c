/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Resize: a holder changes its claim, the same figures on every part. Giving back is always
 * granted. Growing is a grant of residence, without a wait: it is tried on the sums, and taken back
 * where a law would not hold.
 */

#include "budget/state.h"

static void part_set_claim(const struct lease *lease, struct part *part, uint64_t resident_bytes,
                           uint64_t burst_bytes)
{
    if (lease->claim.is_always_busy) {
        resident_bytes += burst_bytes;
        burst_bytes = 0;
    }
    part->resident_bytes = resident_bytes;
    part->burst_bytes = burst_bytes;
    /* A load that has reached its end knows its size; one in progress keeps its peak. */
    if (part->load_bytes < resident_bytes || lease->state != LEASE_STATE_LOADING)
        part->load_bytes = resident_bytes;
    ledger_settle(part);
}

static bool part_grows(const struct lease *lease, uint32_t i, uint64_t resident_bytes,
                       uint64_t burst_bytes)
{
    const struct claim_part *part = &lease->claim.parts[i];

    return resident_bytes > part->resident_bytes || burst_bytes > part->burst_bytes;
}

static struct verdict resize_judge(const struct budget *budget, const struct lease *lease,
                                   uint64_t resident_bytes, uint64_t burst_bytes)
{
    struct verdict verdict = { .gpu = lease->claim.parts[0].gpu };
    uint64_t total_bytes = resident_bytes + burst_bytes;

    for (uint32_t i = 0; i < lease->claim.part_count; i++) {
        const struct ledger *ledger = lease->parts[i].ledger;

        verdict.gpu = ledger->gpu;
        verdict.asked_bytes = total_bytes;
        if (total_bytes > ledger_most_bytes(ledger)) {
            verdict.kind = REFUSAL_NEVER_FITS;
            verdict.short_bytes = total_bytes - ledger_most_bytes(ledger);
        } else if (!ledger->is_managed) {
            verdict.kind = REFUSAL_NO_GPU;
        } else if (queue_closed(&budget->queue, ledger->gpu, true, budget->now_ms) ||
                   queue_closed(&budget->queue, ledger->gpu, false, budget->now_ms)) {
            verdict.kind = REFUSAL_BEHIND;
        } else if (!ledger_is_fresh(ledger, budget->now_ms, budget->limits.facts_max_age_ms)) {
            verdict.kind = REFUSAL_STALE_FACTS;
        }
        if (verdict.kind != REFUSAL_NONE)
            return verdict;
    }
    return verdict;
}

/* The laws with the new figures in the sums. */
static struct verdict resize_outcome(const struct lease *lease)
{
    struct verdict verdict = { .gpu = lease->claim.parts[0].gpu };

    for (uint32_t i = 0; i < lease->claim.part_count; i++) {
        const struct ledger *ledger = lease->parts[i].ledger;
        uint64_t bound_bytes = ledger_bound_bytes(ledger);
        uint64_t progress_bytes = ledger_progress_bytes(ledger);

        if (ledger_holds(ledger))
            continue;
        verdict.gpu = ledger->gpu;
        verdict.asked_bytes = lease->parts[i].resident_bytes;
        verdict.kind = REFUSAL_NO_PROGRESS;
        verdict.short_bytes = progress_bytes - ledger->capacity_bytes;
        if (bound_bytes > ledger->capacity_bytes) {
            verdict.kind = REFUSAL_NO_ROOM;
            verdict.short_bytes = bound_bytes - ledger->capacity_bytes;
        }
        return verdict;
    }
    return verdict;
}

static void resize_apply(struct lease *lease, const struct claim *claim)
{
    for (uint32_t i = 0; i < claim->part_count; i++) {
        part_set_claim(lease, &lease->parts[i], claim->parts[i].resident_bytes,
                       claim->parts[i].burst_bytes);
        lease->parts[i].ledger->is_dirty = true;
    }
}

static struct verdict resize_try(struct budget *budget, struct lease *lease,
                                 const struct claim *claim)
{
    const struct claim_part *wanted = &claim->parts[0];
    uint32_t gpus[CLAIM_PART_MAX];
    struct part parts[CLAIM_PART_MAX];
    struct verdict verdict =
        resize_judge(budget, lease, wanted->resident_bytes, wanted->burst_bytes);

    if (verdict.kind != REFUSAL_NONE)
        return verdict;
    for (uint32_t i = 0; i < claim->part_count; i++) {
        gpus[i] = lease->parts[i].ledger->gpu;
        parts[i] = lease->parts[i];
    }
    resize_apply(lease, claim);
    verdict = resize_outcome(lease);
    if (verdict.kind == REFUSAL_NONE) {
        queue_pass(&budget->queue, gpus, claim->part_count, NULL, false, budget->now_ms);
        return verdict;
    }
    for (uint32_t i = 0; i < claim->part_count; i++) {
        lease->parts[i].resident_bytes = parts[i].resident_bytes;
        lease->parts[i].burst_bytes = parts[i].burst_bytes;
        lease->parts[i].load_bytes = parts[i].load_bytes;
        ledger_settle(&lease->parts[i]);
        lease->parts[i].claimed_peak_bytes = parts[i].claimed_peak_bytes;
    }
    return verdict;
}

int budget_resize(struct budget *budget, uint64_t lease_id, uint64_t resident_bytes,
                  uint64_t burst_bytes, uint64_t now_ms, struct refusal *ret_refusal)
{
    struct lease *lease = lease_table_find(&budget->leases, lease_id);
    struct verdict verdict = { .kind = REFUSAL_BAD_STATE };
    bool is_growing = false;
    struct claim claim;

    budget_pass_time(budget, now_ms);
    if (!lease || !lease_is_held(lease) || lease->waiter.list) {
        refusal_fill(budget, &verdict, lease ? &lease->claim : NULL, lease, ret_refusal);
        return BUDGET_REFUSED;
    }
    claim = lease->claim;
    for (uint32_t i = 0; i < claim.part_count; i++) {
        is_growing = is_growing || part_grows(lease, i, resident_bytes, burst_bytes);
        claim.parts[i].resident_bytes = resident_bytes;
        claim.parts[i].burst_bytes = burst_bytes;
    }
    verdict = (struct verdict){ .kind = claim_check(&claim), .gpu = claim.parts[0].gpu };
    if (verdict.kind == REFUSAL_NONE && is_growing)
        verdict = resize_try(budget, lease, &claim);
    else if (verdict.kind == REFUSAL_NONE)
        resize_apply(lease, &claim);
    if (verdict.kind != REFUSAL_NONE) {
        if (verdict.kind == REFUSAL_STALE_FACTS)
            budget_want_facts(budget, verdict.gpu);
        refusal_fill(budget, &verdict, &lease->claim, lease, ret_refusal);
        return BUDGET_REFUSED;
    }
    lease->claim = claim;
    budget_pump(budget);
    return BUDGET_GRANTED;
}
