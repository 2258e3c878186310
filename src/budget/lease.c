/* SPDX-License-Identifier: Apache-2.0 */

#include "budget/lease.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

const char *lease_state_name(enum lease_state state)
{
    switch (state) {
    case LEASE_STATE_QUEUED:
        return "queued";
    case LEASE_STATE_LOADING:
        return "loading";
    case LEASE_STATE_IDLE:
        return "idle";
    case LEASE_STATE_BUSY:
        return "busy";
    case LEASE_STATE_PARKED:
        return "parked";
    case LEASE_STATE_DRAINING:
        return "draining";
    }
    return "?";
}

enum refusal_kind claim_check(const struct claim *claim)
{
    if (claim->part_count == 0 || claim->part_count > CLAIM_PART_MAX)
        return REFUSAL_BAD_CLAIM;
    if ((unsigned)claim->priority >= CLAIM_PRIORITY_COUNT)
        return REFUSAL_BAD_CLAIM;
    for (uint32_t i = 0; i < claim->part_count; i++) {
        const struct claim_part *part = &claim->parts[i];
        uint64_t total_bytes;

        if (__builtin_add_overflow(part->resident_bytes, part->burst_bytes, &total_bytes))
            return REFUSAL_BAD_CLAIM;
        if (total_bytes == 0 && part->load_peak_bytes == 0)
            return REFUSAL_BAD_CLAIM;
        if (part->gpu == CLAIM_GPU_ANY && claim->part_count > 1)
            return REFUSAL_BAD_CLAIM;
        for (uint32_t k = 0; k < i; k++)
            if (claim->parts[k].gpu == part->gpu)
                return REFUSAL_BAD_CLAIM;
    }
    return REFUSAL_NONE;
}

struct need claim_need(const struct claim *claim, uint32_t part_index)
{
    const struct claim_part *part = &claim->parts[part_index];
    uint64_t load_bytes =
        part->load_peak_bytes > part->resident_bytes ? part->load_peak_bytes : part->resident_bytes;
    struct need need = { .charge_bytes = load_bytes,
                         .resident_bytes = part->resident_bytes,
                         .extra_bytes = load_bytes - part->resident_bytes };

    if (claim->is_always_busy) {
        uint64_t total_bytes = part->resident_bytes + part->burst_bytes;

        if (load_bytes > total_bytes)
            total_bytes = load_bytes;
        return (struct need){ .charge_bytes = total_bytes, .resident_bytes = total_bytes };
    }
    if (part->burst_bytes > need.extra_bytes)
        need.extra_bytes = part->burst_bytes;
    return need;
}

uint64_t need_total_bytes(const struct need *need)
{
    return need->resident_bytes + need->extra_bytes;
}

struct lease *lease_new(const struct claim *claim)
{
    size_t parts_bytes = claim->part_count * sizeof(struct part);
    struct lease *lease = calloc(1, sizeof(*lease) + parts_bytes);

    if (!lease)
        return NULL;
    lease->claim = *claim;
    lease->claim.name[CLAIM_NAME_BYTES - 1] = '\0';
    lease->state = LEASE_STATE_QUEUED;
    lease->waiter.lease = lease;
    lease->waiter.timer.owner = lease;
    for (uint32_t i = 0; i < claim->part_count; i++) {
        struct need need = claim_need(claim, i);
        struct part *part = &lease->parts[i];

        part->lease = lease;
        part->resident_bytes = need.resident_bytes;
        part->load_bytes = need.charge_bytes;
        part->burst_bytes = claim->is_always_busy ? 0 : claim->parts[i].burst_bytes;
    }
    return lease;
}

void lease_free(struct lease *lease)
{
    free(lease);
}

bool lease_is_held(const struct lease *lease)
{
    return lease->state == LEASE_STATE_LOADING || lease->state == LEASE_STATE_IDLE ||
           lease->state == LEASE_STATE_BUSY;
}

uint64_t lease_burst_bytes(const struct lease *lease, uint32_t part_index, uint64_t bytes)
{
    uint64_t burst_bytes = lease->parts[part_index].burst_bytes;

    return bytes == 0 || bytes > burst_bytes ? burst_bytes : bytes;
}

bool lease_burst_is_hopeless(const struct lease *lease)
{
    for (uint32_t i = 0; i < lease->claim.part_count; i++) {
        const struct ledger *ledger = lease->parts[i].ledger;
        uint64_t bytes = lease_burst_bytes(lease, i, lease->waiter.burst_bytes);

        if (bytes > 0 && ledger_resident_bytes(ledger) + bytes > ledger->capacity_bytes)
            return true;
    }
    return false;
}

void lease_table_deinit(struct lease_table *table)
{
    while (table->first) {
        struct lease *lease = table->first;

        table->first = lease->next;
        lease_free(lease);
    }
    free(table->slots);
    *table = (struct lease_table){ 0 };
}

/* Fresh ids are consecutive: a multiplication spreads them (Fibonacci hashing). */
static uint32_t table_home(const struct lease_table *table, uint64_t id)
{
    return (uint32_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (table->capacity - 1);
}

static void table_put(struct lease_table *table, struct lease *lease)
{
    uint32_t slot = table_home(table, lease->id);

    while (table->slots[slot])
        slot = (slot + 1) & (table->capacity - 1);
    table->slots[slot] = lease;
}

int lease_table_reserve(struct lease_table *table)
{
    uint32_t capacity = table->capacity > 0 ? 2 * table->capacity : 64;
    struct lease **slots;

    if (2 * (table->count + 1) <= table->capacity)
        return 0;
    slots = calloc(capacity, sizeof(struct lease *));
    if (!slots)
        return -ENOMEM;
    free(table->slots);
    table->slots = slots;
    table->capacity = capacity;
    for (struct lease *lease = table->first; lease; lease = lease->next)
        table_put(table, lease);
    return 0;
}

void lease_table_add(struct lease_table *table, struct lease *take_lease)
{
    struct lease *before = table->last;

    /* Only a restored lease can have an id below the last: a short walk, at a restart. */
    while (before && before->id > take_lease->id)
        before = before->prev;
    take_lease->prev = before;
    take_lease->next = before ? before->next : table->first;
    *(before ? &before->next : &table->first) = take_lease;
    *(take_lease->next ? &take_lease->next->prev : &table->last) = take_lease;

    table->count++;
    assert(2 * table->count <= table->capacity);
    table_put(table, take_lease);
    if (take_lease->id >= table->next_id)
        table->next_id = take_lease->id + 1;
}

static uint32_t table_slot(const struct lease_table *table, uint64_t id)
{
    uint32_t slot = table_home(table, id);

    while (table->slots[slot] && table->slots[slot]->id != id)
        slot = (slot + 1) & (table->capacity - 1);
    return slot;
}

struct lease *lease_table_find(const struct lease_table *table, uint64_t id)
{
    return table->capacity > 0 ? table->slots[table_slot(table, id)] : NULL;
}

void lease_table_drop(struct lease_table *table, struct lease *lease)
{
    uint32_t mask = table->capacity - 1;
    uint32_t hole = table_slot(table, lease->id);

    /* Close the hole: whoever is further from home than the hole moves into it. */
    for (uint32_t slot = (hole + 1) & mask; table->slots[slot]; slot = (slot + 1) & mask) {
        uint32_t home = table_home(table, table->slots[slot]->id);

        if (((slot - home) & mask) >= ((slot - hole) & mask)) {
            table->slots[hole] = table->slots[slot];
            hole = slot;
        }
    }
    table->slots[hole] = NULL;
    table->count--;
    *(lease->prev ? &lease->prev->next : &table->first) = lease->next;
    *(lease->next ? &lease->next->prev : &table->last) = lease->prev;
    lease_free(lease);
}
