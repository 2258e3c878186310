/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Observation: what one sample of a gpu changes. Measured bytes per part, overdraft, foreign bytes,
 * draining leases that are gone, and recovery where the laws do not hold any more.
 *
 * A draining part holds what it was charged at its release until a sample that was begun at the
 * release or later; then what that sample measures; at 0 it is gone. Without bytes for processes it
 * is gone with the first sample after drain_min_ms, so that the same sample's used figure speaks of
 * the rest. On a gpu that is not managed no sample may ever come: there drain_min_ms alone counts.
 *
 * Recovery. Only foreign growth, an overdraft and a restore can break a law. The first sample that
 * finds one broken asks every idle holder to trim; each further one asks the least important holder
 * to leave, one at a time, until the laws hold again: lowest priority first, then one that stands
 * at a boundary (idle), then the one with the most bytes there, then the youngest; never a pinned
 * one. A holder that is asked while it waits for a burst that can never be served has that burst
 * refused, so that a program that is blocked in the call hears of it: no state has every holder
 * waiting.
 */

#include <assert.h>
#include <errno.h>

#include "base/clock.h"
#include "budget/state.h"

static uint64_t clamp_bytes(uint64_t bytes)
{
    return bytes < LEDGER_BYTES_MAX ? bytes : LEDGER_BYTES_MAX;
}

static uint64_t above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static struct part *lease_part_on(struct lease *lease, const struct ledger *ledger)
{
    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        if (lease->parts[i].ledger == ledger)
            return &lease->parts[i];
    return NULL;
}

/* Note a sample's figures at their parts; a part that measures 0 needs a visit only if watched. */
static void sample_note(struct budget *budget, struct ledger *ledger,
                        const struct budget_facts *facts)
{
    budget->sample_serial++;
    for (size_t i = 0; facts->has_process_bytes && i < facts->measured_count; i++) {
        const struct budget_measure *measure = &facts->measured[i];
        struct lease *lease = lease_table_find(&budget->leases, measure->lease_id);
        struct part *part = lease ? lease_part_on(lease, ledger) : NULL;

        if (!part)
            continue; /* its bytes count as foreign */
        part->sample_serial = budget->sample_serial;
        part->sample_bytes = clamp_bytes(measure->bytes);
        if (measure->bytes > 0)
            ledger_watch(part);
    }
}

static void part_say_overdraft(struct budget *budget, const struct part *part)
{
    if (decisions_reserve(&budget->decisions, 1) < 0)
        return; /* it is charged all the same, and shown */
    decisions_add(&budget->decisions, &(struct decision_record){ .kind = DECISION_OVERDRAFT,
                                                                 .lease_id = part->lease->id,
                                                                 .gpu = part->ledger->gpu,
                                                                 .bytes = part->overdraft_bytes });
}

/* Most parts are, at most samples: then there is nothing to count anew. */
static bool part_is_as_before(const struct part *part, uint64_t measured_bytes)
{
    return measured_bytes == part->measured_bytes &&
           part->overdraft_bytes == above(measured_bytes, part->claimed_peak_bytes) &&
           part->lease->state != LEASE_STATE_DRAINING;
}

static void part_measure(struct budget *budget, struct part *part, uint64_t measured_bytes,
                         bool is_newer_than_release)
{
    struct ledger *ledger = part->ledger;
    uint64_t overdraft_bytes = part->overdraft_bytes;

    if (part_is_as_before(part, measured_bytes)) {
        part->claimed_peak_bytes = part_claimed_bytes(part);
        return;
    }
    ledger->measured_bytes += measured_bytes - part->measured_bytes;
    part->measured_bytes = measured_bytes;
    if (part->lease->state == LEASE_STATE_DRAINING) {
        part->overdraft_bytes = 0;
        if (is_newer_than_release && ledger->has_process_bytes)
            part->drain_bytes = 0;
    } else {
        part->overdraft_bytes = above(measured_bytes, part->claimed_peak_bytes);
        if (part->overdraft_bytes > overdraft_bytes)
            part_say_overdraft(budget, part);
    }
    ledger_settle(part);
    part->claimed_peak_bytes = part_claimed_bytes(part);
}

static bool part_is_drained(const struct budget *budget, const struct part *part,
                            uint64_t sampled_ms)
{
    if (part->lease->state != LEASE_STATE_DRAINING)
        return false;
    if (part->ledger->has_process_bytes)
        return part->drain_bytes == 0 && part->measured_bytes == 0;
    return above(sampled_ms, part->lease->since_ms) >= budget->limits.drain_min_ms;
}

/* A draining part has given everything back; with the last one the lease goes. Without memory to
 * say so it stays for the next sample. */
static void part_end(struct budget *budget, struct part *part)
{
    struct lease *lease = part->lease;
    struct ledger *ledger = part->ledger;
    struct decision_record record = { .kind = DECISION_DRAINED,
                                      .lease_id = lease->id,
                                      .gpu = ledger->gpu };

    if (decisions_reserve(&budget->decisions, 1) < 0)
        return;
    ledger_leave(part);
    ledger->is_dirty = true;
    for (uint32_t i = 0; i < lease->claim.part_count; i++)
        if (lease->parts[i].ledger)
            return;
    if (lease->stop_ledger)
        lease->stop_ledger->stop_count--;
    lease_table_drop(&budget->leases, lease);
    decisions_add(&budget->decisions, &record);
}

static void ledger_measure_all(struct budget *budget, struct ledger *ledger, uint64_t sampled_ms)
{
    struct part *next;

    for (struct part *part = ledger->watched; part; part = next) {
        bool is_listed = part->sample_serial == budget->sample_serial;

        next = part->watch_next;
        part_measure(budget, part, is_listed ? part->sample_bytes : 0,
                     sampled_ms >= part->lease->since_ms);
        if (part_is_drained(budget, part, sampled_ms))
            part_end(budget, part);
        else if (part->measured_bytes == 0 && part->lease->state != LEASE_STATE_DRAINING)
            ledger_unwatch(part);
    }
}

static void ledger_set_foreign(struct ledger *ledger, bool had_facts)
{
    uint64_t charges_bytes = ledger->sum.charged_bytes + ledger->sum.draining_bytes;
    uint64_t foreign_bytes;

    if (ledger->has_process_bytes) {
        ledger->foreign_bytes = above(ledger->used_bytes, ledger->measured_bytes);
        return;
    }
    foreign_bytes = above(ledger->used_bytes, charges_bytes);
    if (ledger->sum.loading_count > 0 && had_facts && ledger->foreign_bytes > foreign_bytes)
        return;
    ledger->foreign_bytes = foreign_bytes;
}

/* Is a less important than b, as one who has to leave this gpu? */
static bool lease_is_lesser(const struct lease *a, uint64_t a_bytes, const struct lease *b,
                            uint64_t b_bytes)
{
    bool is_a_idle = a->state == LEASE_STATE_IDLE, is_b_idle = b->state == LEASE_STATE_IDLE;

    if (a->claim.priority != b->claim.priority)
        return a->claim.priority < b->claim.priority;
    if (is_a_idle != is_b_idle)
        return is_a_idle;
    if (a_bytes != b_bytes)
        return a_bytes > b_bytes;
    return a->id > b->id;
}

static struct lease *ledger_victim(const struct ledger *ledger)
{
    struct lease *victim = NULL;
    uint64_t victim_bytes = 0;

    for (uint32_t i = 0; i < ledger->charges.count; i++) {
        const struct part *part = ledger->charges.entries[i].node->owner;
        struct lease *lease = part->lease;

        if (!lease_is_held(lease) || lease->claim.is_pinned || lease->stop_ledger)
            continue;
        if (victim && !lease_is_lesser(lease, part_charge_bytes(part), victim, victim_bytes))
            continue;
        victim = lease;
        victim_bytes = part_charge_bytes(part);
    }
    return victim;
}

static uint64_t ledger_excess_bytes(const struct ledger *ledger)
{
    uint64_t bound_bytes = above(ledger_bound_bytes(ledger), ledger->capacity_bytes);
    uint64_t progress_bytes = above(ledger_progress_bytes(ledger), ledger->capacity_bytes);

    return bound_bytes > progress_bytes ? bound_bytes : progress_bytes;
}

static void ask_trim(struct budget *budget, struct ledger *ledger)
{
    if (decisions_reserve(&budget->decisions, ledger->charges.count) < 0)
        return;
    ledger->is_trim_asked = true;
    for (uint32_t i = 0; i < ledger->charges.count; i++) {
        const struct part *part = ledger->charges.entries[i].node->owner;

        if (part->lease->state != LEASE_STATE_IDLE)
            continue;
        decisions_add(&budget->decisions,
                      &(struct decision_record){ .kind = DECISION_ASK_TRIM,
                                                 .lease_id = part->lease->id,
                                                 .gpu = ledger->gpu,
                                                 .bytes = ledger_excess_bytes(ledger) });
    }
}

static void ask_stop(struct budget *budget, struct ledger *ledger)
{
    struct lease *lease = ledger_victim(ledger);
    struct verdict verdict = { .kind = REFUSAL_OVERCOMMITTED,
                               .gpu = ledger->gpu,
                               .short_bytes = ledger_excess_bytes(ledger) };
    struct decision_record record = { .kind = DECISION_ASK_STOP,
                                      .reason = REFUSAL_OVERCOMMITTED,
                                      .gpu = ledger->gpu,
                                      .bytes = ledger_excess_bytes(ledger) };

    if (!lease || decisions_reserve(&budget->decisions, 1) < 0)
        return;
    lease->stop_ledger = ledger;
    ledger->stop_count++;
    record.lease_id = lease->id;
    record.refusal = refusal_new(budget, &verdict, lease);
    decisions_add(&budget->decisions, &record);
}

/* Those who were asked to stop, and wait for a burst that cannot come, must hear of it. */
static void refuse_hopeless(struct budget *budget, struct ledger *ledger)
{
    for (uint32_t i = 0; ledger->stop_count > 0 && i < ledger->charges.count; i++) {
        struct part *part = ledger->charges.entries[i].node->owner;
        struct verdict verdict = { .kind = REFUSAL_OVERCOMMITTED,
                                   .gpu = ledger->gpu,
                                   .short_bytes = ledger_excess_bytes(ledger) };

        if (part->lease->stop_ledger == ledger && part->lease->waiter.list &&
            lease_burst_is_hopeless(part->lease))
            waiter_refuse(budget, &part->lease->waiter, &verdict);
    }
}

static void ledger_forget_asks(struct ledger *ledger)
{
    ledger->is_trim_asked = false;
    for (uint32_t i = 0; ledger->stop_count > 0 && i < ledger->charges.count; i++) {
        struct part *part = ledger->charges.entries[i].node->owner;

        if (part->lease->stop_ledger == ledger) {
            part->lease->stop_ledger = NULL;
            ledger->stop_count--;
        }
    }
}

static void ledger_recover(struct budget *budget, struct ledger *ledger)
{
    if (ledger_holds(ledger)) {
        ledger_forget_asks(ledger);
        return;
    }
    if (!ledger->is_trim_asked)
        ask_trim(budget, ledger);
    else if (ledger->stop_count == 0)
        ask_stop(budget, ledger);
    refuse_hopeless(budget, ledger);
}

int budget_observe(struct budget *budget, uint32_t gpu, const struct budget_facts *facts,
                   uint64_t now_ms)
{
    struct ledger *ledger;
    bool had_facts;

    if (gpu >= budget->gpu_count)
        return -EINVAL;
    budget_pass_time(budget, now_ms);
    ledger = budget->ledgers[gpu];
    if (ledger->has_facts && now_ms < ledger->facts_at_ms)
        return 0; /* an older sample that comes late */

    had_facts = ledger->has_facts;
    ledger->has_facts = true;
    ledger->has_process_bytes = facts->has_process_bytes;
    ledger->used_bytes = clamp_bytes(facts->used_bytes);
    ledger->facts_at_ms = now_ms;
    ledger->is_facts_asked = false;
    sample_note(budget, ledger, facts);
    ledger_measure_all(budget, ledger, now_ms);
    ledger->is_facts_behind = false;
    ledger_set_foreign(ledger, had_facts);
    ledger_recover(budget, ledger);

    ledger->is_dirty = true;
    budget_pump(budget);
    budget_refuse_overdue(budget);
    budget_pump(budget);
    return 0;
}

void budget_drain_lost(struct budget *budget, uint32_t gpu)
{
    struct ledger *ledger = budget->ledgers[gpu];
    struct part *next;

    if (ledger->is_managed || ledger->sum.draining_count == 0)
        return;
    for (struct part *part = ledger->watched; part; part = next) {
        next = part->watch_next;
        if (part->lease->state == LEASE_STATE_DRAINING &&
            budget->now_ms - part->lease->since_ms >= budget->limits.drain_min_ms)
            part_end(budget, part);
    }
}
