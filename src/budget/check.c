/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The laws as code. What holds at all times is checked here; what holds at a grant only (laws 1 and
 * 2: foreign bytes may break them later) is asserted where grants are made, by lease_grant().
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "budget/state.h"

static void check(bool holds, const char *law, uint64_t where)
{
    if (holds)
        return;
    (void)fprintf(stderr, "budget: broken law: %s (gpu or lease %" PRIu64 ")\n", law, where);
    abort();
}

static void check_part(const struct part *part)
{
    uint64_t claimed_bytes = part_claimed_bytes(part);
    uint64_t charge_bytes = part_charge_bytes(part);
    uint64_t id = part->lease->id;
    bool is_draining = part->lease->state == LEASE_STATE_DRAINING;

    check(charge_bytes >= claimed_bytes, "1: a measurement never lowers a charge", id);
    check(charge_bytes >= part->measured_bytes, "1: what is measured is charged", id);
    check(charge_bytes == claimed_bytes || charge_bytes == part->measured_bytes,
          "3: a charge is a claim or a measurement", id);
    check(!is_draining || part->tally.charged_bytes == 0, "3: who drains holds nothing", id);
    check(is_draining || part->tally.resident_bytes >= part->resident_bytes,
          "2: residents are counted", id);
    check(is_draining || part->by_extra.place > 0, "2: a burst is kept free", id);
}

static void check_lease(const struct budget *budget, const struct lease *lease)
{
    bool is_waiting = lease->waiter.list != NULL;

    check(lease_table_find(&budget->leases, lease->id) == lease, "3: one id, one lease", lease->id);
    check(!lease->next || lease->next->id > lease->id, "3: leases are in order", lease->id);
    switch (lease->state) {
    case LEASE_STATE_QUEUED:
        check(is_waiting && !lease->waiter.is_burst, "4: a queued lease waits", lease->id);
        break;
    case LEASE_STATE_IDLE:
        check(!is_waiting || lease->waiter.is_burst, "4: a holder waits for a burst", lease->id);
        break;
    case LEASE_STATE_LOADING:
    case LEASE_STATE_BUSY:
    case LEASE_STATE_DRAINING:
        check(!is_waiting, "4: who works or drains does not wait", lease->id);
        break;
    case LEASE_STATE_PARKED:
        check(false, "nobody is parked", lease->id);
        break;
    }
    for (uint32_t i = 0; i < lease->claim.part_count; i++) {
        const struct part *part = &lease->parts[i];

        if (lease->state == LEASE_STATE_QUEUED)
            check(!part->ledger, "3: who waits is not charged", lease->id);
        else if (lease->state != LEASE_STATE_DRAINING)
            check(part->ledger == budget->ledgers[lease->claim.parts[i].gpu],
                  "3: a part is charged on its gpu", lease->id);
        if (part->ledger)
            check_part(part);
    }
}

static void check_heap(const struct heap *heap, uint64_t gpu)
{
    for (uint32_t i = 0; i < heap->count; i++) {
        check(heap->entries[i].node->place == i + 1, "a heap's nodes know their place", gpu);
        check(i == 0 || heap->entries[(i - 1) / 2].key >= heap->entries[i].key,
              "a heap is in order", gpu);
    }
}

static void check_ledger(const struct budget *budget, const struct ledger *ledger)
{
    struct tally sum = { 0 };
    uint64_t measured_bytes = 0;
    uint32_t parts = 0, stops = 0;

    for (const struct lease *lease = budget->leases.first; lease; lease = lease->next) {
        stops += lease->stop_ledger == ledger;
        for (uint32_t i = 0; i < lease->claim.part_count; i++) {
            const struct part *part = &lease->parts[i];

            if (part->ledger != ledger)
                continue;
            parts++;
            measured_bytes += part->measured_bytes;
            sum.charged_bytes += part->tally.charged_bytes;
            sum.draining_bytes += part->tally.draining_bytes;
            sum.resident_bytes += part->tally.resident_bytes;
            sum.loading_count += part->tally.loading_count;
            sum.busy_count += part->tally.busy_count;
            sum.alone_count += part->tally.alone_count;
            sum.draining_count += part->tally.draining_count;
        }
    }
    check(sum.charged_bytes == ledger->sum.charged_bytes, "3: charges sum up", ledger->gpu);
    check(sum.draining_bytes == ledger->sum.draining_bytes, "3: draining sums up", ledger->gpu);
    check(sum.resident_bytes == ledger->sum.resident_bytes, "3: residents sum up", ledger->gpu);
    check(measured_bytes == ledger->measured_bytes, "3: measurements sum up", ledger->gpu);
    check(sum.loading_count == ledger->sum.loading_count &&
              sum.busy_count == ledger->sum.busy_count &&
              sum.alone_count == ledger->sum.alone_count &&
              sum.draining_count == ledger->sum.draining_count,
          "3: states are counted", ledger->gpu);
    check(parts == ledger->charges.count, "3: every part is in its heap", ledger->gpu);
    check(stops == ledger->stop_count, "who is asked to stop is counted", ledger->gpu);
    check(sum.alone_count <= 1, "one loads alone", ledger->gpu);
    check_heap(&ledger->charges, ledger->gpu);
    check_heap(&ledger->extras, ledger->gpu);
}

/* A wide line is charged with grants on gpus that not all of its waiters want, and a line of bursts
 * with those that passed a hopeless one: the tests count these by their own book. */
static uint32_t check_line(const struct queue *queue, const struct waitlist *line, bool is_exact)
{
    uint64_t passed = line->passed, last_seq = 0;
    uint32_t count = 0, first = 0;

    for (uint32_t place = 0; place < line->length; place++) {
        const struct waitlist_slot *slot = &line->slots[place];

        if (!slot->waiter) {
            check(slot->passed == 0, "4: a hole is not passed", place);
            continue;
        }
        check(count == 0 || slot->seq > last_seq, "4: a line is in order of arrival", slot->seq);
        check(slot->waiter->place == place && slot->waiter->list == line,
              "4: a waiter knows its place", slot->seq);
        check(!is_exact || passed <= queue->limits->overtake_max,
              "4: a waiter is passed at most so often", slot->seq);
        if (count == 0)
            first = place;
        last_seq = slot->seq;
        passed -= slot->passed;
        count++;
    }
    check(line->front == first, "4: a line knows its front", line->length);
    check(passed == 0, "4: passes sum up", line->length);
    check(count == waitlist_count(line), "4: a line's waiters are counted", line->length);
    return count;
}

void budget_check(const struct budget *budget)
{
    uint32_t waiting = 0;

    for (const struct lease *lease = budget->leases.first; lease; lease = lease->next)
        check_lease(budget, lease);
    for (uint32_t gpu = 0; gpu < budget->gpu_count; gpu++)
        check_ledger(budget, budget->ledgers[gpu]);
    for (uint32_t i = 0; i < budget->queue.scope_count; i++) {
        uint32_t in_scope = 0;

        for (uint32_t k = 0; k < WAIT_CLASS_COUNT; k++) {
            const struct wait_scope *scope = budget->queue.scopes[i];
            uint32_t in_line =
                check_line(&budget->queue, &scope->lines[k], i > 0 && k >= WAIT_CLAIM_BACKGROUND);

            check((scope->waiting >> k & 1) == (in_line > 0), "4: where somebody waits is known",
                  i);
            in_scope += in_line;
        }
        check(in_scope == budget->queue.scopes[i]->count, "4: waiters are counted", i);
        waiting += in_scope;
    }
    check(waiting == budget->queue.count, "4: waiters are counted", waiting);
    check(waiting == budget->queue.timers.count, "4: every waiter has its deadline", waiting);
    check_heap(&budget->queue.timers, 0);
}
