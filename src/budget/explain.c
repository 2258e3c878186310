/* SPDX-License-Identifier: Apache-2.0 */

/* Verdicts turned into refusals: the figures of the gpu it speaks of, who holds it, whose burst is
 * in the way, how many go first. O(1) in the number of leases. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "budget/state.h"

static void name_copy(char to[CLAIM_NAME_BYTES], const char *from)
{
    size_t bytes = strnlen(from, CLAIM_NAME_BYTES - 1);

    memcpy(to, from, bytes);
    to[bytes] = '\0';
}

/* What it may still take beyond what its state claims: a burst that is taken, or that the load peak
 * covers, is in the charge already. */
static uint64_t may_take_bytes(const struct part *part)
{
    const uint64_t most_bytes = part->resident_bytes + part->burst_bytes;
    const uint64_t claimed_bytes = part_claimed_bytes(part);

    if (part->lease->state == LEASE_STATE_DRAINING || most_bytes < claimed_bytes)
        return 0;
    return most_bytes - claimed_bytes;
}

static void holder_fill(const struct part *part, struct refusal_holder *holder)
{
    holder->lease_id = part->lease->id;
    name_copy(holder->name, part->lease->claim.name);
    holder->charge_bytes = part_charge_bytes(part);
    holder->burst_bytes = may_take_bytes(part);
    holder->state = (uint8_t)part->lease->state;
}

static void holders_fill(const struct ledger *ledger, struct refusal *refusal)
{
    void *owners[REFUSAL_HOLDER_MAX];
    size_t count = heap_largest(&ledger->charges, owners, REFUSAL_HOLDER_MAX);

    static_assert(REFUSAL_HOLDER_MAX <= HEAP_LARGEST_MAX, "heap_largest gives so many");
    for (size_t i = 0; i < count; i++)
        holder_fill(owners[i], &refusal->holders[i]);
    refusal->holder_count = ledger->charges.count;
}

/* Whose burst is too large to be served with the newcomer in: a holder's, or the newcomer's own. */
static void blocked_fill(const struct ledger *ledger, const struct claim *claim,
                         struct refusal *refusal)
{
    const struct heap_node *top = heap_top(&ledger->extras);
    uint64_t own_bytes = 0;

    for (uint32_t i = 0; i < claim->part_count && i < CLAIM_PART_MAX; i++)
        if (claim->parts[i].gpu == ledger->gpu || claim->parts[i].gpu == CLAIM_GPU_ANY) {
            struct need need = claim_need(claim, i);

            own_bytes = need.extra_bytes;
        }
    if (top && heap_top_key(&ledger->extras) > own_bytes) {
        holder_fill(top->owner, &refusal->blocked);
        refusal->blocked.burst_bytes = heap_top_key(&ledger->extras);
        return;
    }
    name_copy(refusal->blocked.name, claim->name);
    refusal->blocked.burst_bytes = own_bytes;
}

static void gpu_fill(const struct ledger *ledger, bool is_burst, struct refusal *refusal)
{
    refusal->free_bytes = is_burst ? ledger_burst_room_bytes(ledger) : ledger_free_bytes(ledger);
    refusal->capacity_bytes = ledger->capacity_bytes;
    refusal->reserve_bytes = ledger->reserve_bytes;
    refusal->foreign_bytes = ledger->foreign_bytes;
    refusal->charged_bytes = ledger->sum.charged_bytes;
    refusal->draining_bytes = ledger->sum.draining_bytes;
    refusal->most_bytes = ledger_most_bytes(ledger);
}

void refusal_fill(const struct budget *budget, const struct verdict *verdict,
                  const struct claim *claim, const struct lease *lease, struct refusal *refusal)
{
    bool is_burst = lease && lease->state != LEASE_STATE_QUEUED;
    const struct waiter *waiter = lease && lease->waiter.list ? &lease->waiter : NULL;
    const struct ledger *ledger;

    if (!refusal)
        return;
    *refusal = (struct refusal){ .kind = verdict->kind,
                                 .gpu = verdict->gpu,
                                 .asked_bytes = verdict->asked_bytes,
                                 .short_bytes = verdict->short_bytes };
    if (refusal->kind == REFUSAL_NONE && verdict->is_stale)
        refusal->kind = REFUSAL_STALE_FACTS;
    if (claim)
        name_copy(refusal->name, claim->name);
    if (verdict->gpu >= budget->gpu_count || refusal->kind == REFUSAL_BAD_CLAIM ||
        refusal->kind == REFUSAL_BAD_STATE)
        return;
    ledger = budget->ledgers[verdict->gpu];
    gpu_fill(ledger, is_burst, refusal);
    holders_fill(ledger, refusal);
    if (refusal->kind == REFUSAL_NO_PROGRESS && claim)
        blocked_fill(ledger, claim, refusal);
    if (refusal->kind == REFUSAL_BEHIND || waiter)
        refusal->waiting_before =
            queue_count_before(&budget->queue, ledger->gpu, waiter, is_burst, budget->now_ms);
}

struct refusal *refusal_new(const struct budget *budget, const struct verdict *verdict,
                            const struct lease *lease)
{
    struct refusal *refusal = malloc(sizeof(*refusal));

    refusal_fill(budget, verdict, &lease->claim, lease, refusal);
    return refusal;
}

void budget_explain(const struct budget *budget, uint64_t lease_id, uint64_t now_ms,
                    struct refusal *ret_refusal)
{
    const struct lease *lease = lease_table_find(&budget->leases, lease_id);
    struct verdict verdict = { 0 };

    (void)now_ms; /* nothing has changed since the last call that passed the time */
    if (!lease || !lease->waiter.list) {
        *ret_refusal = (struct refusal){ 0 };
        return;
    }
    verdict = admit_waiter(budget, &lease->waiter);
    if (verdict.kind == REFUSAL_NONE)
        verdict.kind = REFUSAL_STALE_FACTS;
    refusal_fill(budget, &verdict, &lease->claim, lease, ret_refusal);
}

void budget_probe(const struct budget *budget, const struct claim *claim, uint64_t now_ms,
                  struct refusal *ret_refusal)
{
    struct verdict verdict = admit_claim(budget, claim, NULL);

    (void)now_ms;
    verdict.is_stale = false; /* what would be said once the facts are there */
    if (!verdict_is_final(&verdict) && budget->leases.count >= budget->limits.lease_max)
        verdict.kind = REFUSAL_QUEUE_FULL;
    refusal_fill(budget, &verdict, claim, NULL, ret_refusal);
}
