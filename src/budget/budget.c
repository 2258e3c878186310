/* SPDX-License-Identifier: Apache-2.0 */

#include "budget/budget.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "budget/state.h"

static void budget_freep(struct budget **budget)
{
    budget_free(*budget);
}

int budget_new(const struct budget_limits *limits, struct budget **ret_budget)
{
    OWNED(budget_freep) struct budget *budget = NULL;

    if (limits->age_ms == 0 || limits->lease_max == 0 || limits->lease_max > LEDGER_LEASE_MAX)
        return -EINVAL;
    budget = calloc(1, sizeof(*budget));
    if (!budget)
        return -ENOMEM;
    budget->limits = *limits;
    budget->queue.limits = &budget->limits;
    budget->leases.next_id = 1;
    if (queue_add_scope(&budget->queue) < 0)
        return -ENOMEM;
    *ret_budget = TAKE(budget);
    return 0;
}

void budget_free(struct budget *budget)
{
    if (!budget)
        return;
    lease_table_deinit(&budget->leases);
    queue_deinit(&budget->queue);
    decisions_deinit(&budget->decisions);
    for (uint32_t i = 0; i < budget->gpu_count; i++) {
        ledger_deinit(budget->ledgers[i]);
        free(budget->ledgers[i]);
    }
    free(budget);
}

int budget_add_gpu(struct budget *budget, uint64_t capacity_bytes, uint64_t reserve_bytes,
                   uint32_t *ret_gpu)
{
    struct ledger *ledger;

    if (capacity_bytes > LEDGER_BYTES_MAX)
        return -EINVAL;
    if (budget->gpu_count == BUDGET_GPU_MAX)
        return -ENOSPC;
    ledger = calloc(1, sizeof(*ledger));
    if (!ledger)
        return -ENOMEM;
    if (queue_add_scope(&budget->queue) < 0) {
        free(ledger);
        return -ENOMEM;
    }
    ledger->gpu = budget->gpu_count;
    ledger->is_managed = true;
    ledger->capacity_bytes = capacity_bytes;
    /* More than everything keeps back everything. */
    ledger->reserve_bytes = reserve_bytes < capacity_bytes ? reserve_bytes : capacity_bytes;
    budget->ledgers[budget->gpu_count++] = ledger;
    *ret_gpu = ledger->gpu;
    return 0;
}

void budget_set_gpu_managed(struct budget *budget, uint32_t gpu, bool is_managed)
{
    struct lease *next;

    if (gpu >= budget->gpu_count || budget->ledgers[gpu]->is_managed == is_managed)
        return;
    budget->ledgers[gpu]->is_managed = is_managed;
    budget->ledgers[gpu]->is_dirty = true;
    for (struct lease *lease = budget->leases.first; lease; lease = next) {
        struct waiter *waiter = &lease->waiter;
        struct verdict verdict;

        next = lease->next;
        if (!waiter->list)
            continue;
        waiter->gpus = waiter_gpus(budget, lease);
        lease_dirty_gpus(budget, lease);
        verdict = admit_waiter(budget, waiter);
        if (verdict_is_final(&verdict))
            waiter_refuse(budget, waiter, &verdict);
    }
    budget_pump(budget);
}

void budget_reserve_ids(struct budget *budget, uint64_t next_lease_id)
{
    if (next_lease_id > budget->leases.next_id && next_lease_id < UINT64_MAX / 2)
        budget->leases.next_id = next_lease_id;
}

void budget_pass_time(struct budget *budget, uint64_t now_ms)
{
    if (now_ms > budget->now_ms)
        budget->now_ms = now_ms;
}

bool budget_next_decision(struct budget *budget, struct decision *ret_decision)
{
    return decisions_take(&budget->decisions, ret_decision);
}
