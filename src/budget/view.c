/* SPDX-License-Identifier: Apache-2.0 */

/* Views: copies of figures for people. They change nothing. */

#include "budget/state.h"

size_t budget_gpu_count(const struct budget *budget)
{
    return budget->gpu_count;
}

void budget_view_gpu(const struct budget *budget, uint32_t gpu, struct budget_gpu_view *ret_view)
{
    const struct ledger *ledger;

    *ret_view = (struct budget_gpu_view){ 0 };
    if (gpu >= budget->gpu_count)
        return;
    ledger = budget->ledgers[gpu];
    *ret_view = (struct budget_gpu_view){
        .capacity_bytes = ledger->capacity_bytes,
        .reserve_bytes = ledger->reserve_bytes,
        .used_bytes = ledger->used_bytes,
        .foreign_bytes = ledger->foreign_bytes,
        .charged_bytes = ledger->sum.charged_bytes,
        .draining_bytes = ledger->sum.draining_bytes,
        .free_bytes = ledger->is_managed ? ledger_free_bytes(ledger) : 0,
        .largest_burst_bytes = heap_top_key(&ledger->extras),
        .facts_at_ms = ledger->facts_at_ms,
        .has_facts = ledger->has_facts,
        .has_process_bytes = ledger->has_process_bytes,
        .is_managed = ledger->is_managed,
    };
}

bool budget_view_lease(const struct budget *budget, uint64_t lease_id,
                       struct budget_lease_view *ret_view)
{
    const struct lease *lease = lease_table_find(&budget->leases, lease_id);
    const struct waiter *waiter;

    if (!lease)
        return false;
    waiter = lease->waiter.list ? &lease->waiter : NULL;
    *ret_view = (struct budget_lease_view){ .id = lease->id,
                                            .claim = &lease->claim,
                                            .state = lease->state,
                                            .is_burst_waiting = waiter && waiter->is_burst,
                                            .since_ms = lease->since_ms };
    for (uint32_t i = 0; i < lease->claim.part_count; i++) {
        ret_view->charge_bytes[i] = part_charge_bytes(&lease->parts[i]);
        ret_view->measured_bytes[i] = lease->parts[i].measured_bytes;
        if (lease->parts[i].taken_bytes > ret_view->burst_taken_bytes)
            ret_view->burst_taken_bytes = lease->parts[i].taken_bytes;
    }
    if (waiter) {
        struct verdict verdict = admit_waiter(budget, waiter);

        if (verdict.gpu < budget->gpu_count)
            ret_view->waiting_before = queue_count_before(&budget->queue, verdict.gpu, waiter,
                                                          waiter->is_burst, budget->now_ms);
    }
    return true;
}

uint64_t budget_next_lease(const struct budget *budget, uint64_t lease_id)
{
    const struct lease *lease = lease_id != 0 ? lease_table_find(&budget->leases, lease_id) : NULL;

    if (lease)
        return lease->next ? lease->next->id : 0;
    /* From the start, or the lease has gone during the walk. */
    for (lease = budget->leases.first; lease && lease->id <= lease_id; lease = lease->next)
        ;
    return lease ? lease->id : 0;
}
