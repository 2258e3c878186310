/* SPDX-License-Identifier: Apache-2.0 */

#include "budget/ledger.h"

#include <assert.h>

#include "budget/lease.h"

static uint64_t largest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* a - b, never below 0. */
static uint64_t above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

uint64_t part_claimed_bytes(const struct part *part)
{
    switch (part->lease->state) {
    case LEASE_STATE_LOADING:
        return part->load_bytes;
    case LEASE_STATE_IDLE:
        return part->resident_bytes;
    case LEASE_STATE_BUSY:
        return part->resident_bytes + part->taken_bytes;
    case LEASE_STATE_DRAINING:
        return part->drain_bytes;
    case LEASE_STATE_QUEUED:
    case LEASE_STATE_PARKED:
        break;
    }
    return 0;
}

uint64_t part_charge_bytes(const struct part *part)
{
    return part->tally.charged_bytes + part->tally.draining_bytes;
}

static uint64_t part_extra_bytes(const struct part *part)
{
    switch (part->lease->state) {
    case LEASE_STATE_LOADING:
        return largest(part->burst_bytes, part->load_bytes - part->resident_bytes);
    case LEASE_STATE_IDLE:
        return part->burst_bytes;
    case LEASE_STATE_BUSY:
        return largest(part->burst_bytes, part->taken_bytes);
    case LEASE_STATE_QUEUED:
    case LEASE_STATE_PARKED:
    case LEASE_STATE_DRAINING:
        break;
    }
    return 0;
}

static struct tally part_tally(const struct part *part)
{
    uint64_t charge_bytes = largest(part_claimed_bytes(part), part->measured_bytes);
    const struct lease *lease = part->lease;

    if (lease->state == LEASE_STATE_DRAINING)
        return (struct tally){ .draining_bytes = charge_bytes, .draining_count = 1 };
    return (struct tally){
        .charged_bytes = charge_bytes,
        .resident_bytes = part->resident_bytes + part->overdraft_bytes,
        .loading_count = lease->state == LEASE_STATE_LOADING,
        .alone_count = lease->state == LEASE_STATE_LOADING && lease->claim.is_load_alone,
        .busy_count = lease->state == LEASE_STATE_BUSY && !lease->claim.is_always_busy,
    };
}

/* Unsigned arithmetic: taking back `from` and adding `to` is exact whatever their order. */
static void tally_move(struct tally *sum, const struct tally *from, const struct tally *to)
{
    sum->charged_bytes += to->charged_bytes - from->charged_bytes;
    sum->draining_bytes += to->draining_bytes - from->draining_bytes;
    sum->resident_bytes += to->resident_bytes - from->resident_bytes;
    sum->loading_count += to->loading_count - from->loading_count;
    sum->busy_count += to->busy_count - from->busy_count;
    sum->alone_count += to->alone_count - from->alone_count;
    sum->draining_count += to->draining_count - from->draining_count;
}

void ledger_deinit(struct ledger *ledger)
{
    heap_deinit(&ledger->charges);
    heap_deinit(&ledger->extras);
}

int ledger_reserve(struct ledger *ledger)
{
    int r = heap_reserve(&ledger->charges, ledger->charges.count + 1);

    return r < 0 ? r : heap_reserve(&ledger->extras, ledger->charges.count + 1);
}

void ledger_enter(struct ledger *ledger, struct part *part)
{
    assert(!part->ledger);
    part->ledger = ledger;
    part->tally = (struct tally){ 0 };
    part->by_charge.owner = part;
    part->by_extra.owner = part;
    heap_push(&ledger->charges, &part->by_charge, 0);
    heap_push(&ledger->extras, &part->by_extra, 0);
    ledger_settle(part);
}

void ledger_settle(struct part *part)
{
    struct ledger *ledger = part->ledger;
    struct tally tally = part_tally(part);
    uint64_t claimed_bytes = part_claimed_bytes(part);

    tally_move(&ledger->sum, &part->tally, &tally);
    part->tally = tally;
    heap_update(&ledger->charges, &part->by_charge, part_charge_bytes(part));
    if (part->lease->state == LEASE_STATE_DRAINING)
        heap_remove(&ledger->extras, &part->by_extra);
    else
        heap_update(&ledger->extras, &part->by_extra, part_extra_bytes(part));

    part->claimed_peak_bytes = largest(part->claimed_peak_bytes, claimed_bytes);
    if (part->measured_bytes > claimed_bytes || tally.draining_count > 0)
        ledger->is_facts_behind = true;
    ledger_watch(part);
}

void ledger_leave(struct part *part)
{
    struct ledger *ledger = part->ledger;

    if (!ledger)
        return;
    tally_move(&ledger->sum, &part->tally, &(struct tally){ 0 });
    part->tally = (struct tally){ 0 };
    ledger->measured_bytes -= part->measured_bytes;
    part->measured_bytes = 0;
    heap_remove(&ledger->charges, &part->by_charge);
    heap_remove(&ledger->extras, &part->by_extra);
    ledger_unwatch(part);
    part->ledger = NULL;
}

void ledger_watch(struct part *part)
{
    struct ledger *ledger = part->ledger;

    if (part->is_watched)
        return;
    part->is_watched = true;
    part->watch_prev = NULL;
    part->watch_next = ledger->watched;
    if (ledger->watched)
        ledger->watched->watch_prev = part;
    ledger->watched = part;
}

void ledger_unwatch(struct part *part)
{
    if (!part->is_watched)
        return;
    part->is_watched = false;
    if (part->watch_prev)
        part->watch_prev->watch_next = part->watch_next;
    else
        part->ledger->watched = part->watch_next;
    if (part->watch_next)
        part->watch_next->watch_prev = part->watch_prev;
}

uint64_t ledger_bound_bytes(const struct ledger *ledger)
{
    return ledger->reserve_bytes + ledger->foreign_bytes + ledger->sum.draining_bytes +
           ledger->sum.charged_bytes;
}

uint64_t ledger_resident_bytes(const struct ledger *ledger)
{
    return ledger->reserve_bytes + ledger->foreign_bytes + ledger->sum.draining_bytes +
           ledger->sum.resident_bytes;
}

uint64_t ledger_progress_bytes(const struct ledger *ledger)
{
    return ledger_resident_bytes(ledger) + heap_top_key(&ledger->extras);
}

bool ledger_holds(const struct ledger *ledger)
{
    return ledger_bound_bytes(ledger) <= ledger->capacity_bytes &&
           ledger_progress_bytes(ledger) <= ledger->capacity_bytes;
}

uint64_t ledger_free_bytes(const struct ledger *ledger)
{
    return above(ledger->capacity_bytes,
                 largest(ledger_bound_bytes(ledger), ledger_progress_bytes(ledger)));
}

uint64_t ledger_burst_room_bytes(const struct ledger *ledger)
{
    return above(ledger->capacity_bytes, ledger_bound_bytes(ledger));
}

uint64_t ledger_most_bytes(const struct ledger *ledger)
{
    return above(ledger->capacity_bytes, ledger->reserve_bytes);
}

bool ledger_is_fresh(const struct ledger *ledger, uint64_t now_ms, uint64_t max_age_ms)
{
    return ledger->has_facts && above(now_ms, ledger->facts_at_ms) <= max_age_ms;
}
