/* SPDX-License-Identifier: Apache-2.0 */

/* Laws 4 and 11: order, overtaking, ageing, deadlines, load windows, bursts among themselves. */

#include "budget_kit.h"

/* A card that is full but for 1 GiB: who holds the rest. */
static uint64_t fill(struct budget *budget, uint32_t gpu)
{
    struct claim claim = kit_claim("full", CARD_BYTES - RESERVE_BYTES - 1 * GIB, 0);

    claim.parts[0].gpu = gpu;
    return kit_idle(budget, &claim, 0);
}

static void test_first_come_first_served_inside_a_priority(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 0);
    uint64_t full = fill(budget, 0);
    uint64_t normal = kit_wait(budget, &claim, 0, CLOCK_NEVER_MS);
    uint64_t second = kit_wait(budget, &claim, 0, CLOCK_NEVER_MS), interactive, background;

    claim.priority = CLAIM_PRIORITY_BACKGROUND;
    background = kit_wait(budget, &claim, 0, CLOCK_NEVER_MS);
    claim.priority = CLAIM_PRIORITY_INTERACTIVE;
    interactive = kit_wait(budget, &claim, 0, CLOCK_NEVER_MS);
    CHECK(budget_release(budget, full, 1) == BUDGET_GRANTED);
    kit_observe(budget, 0, 0, 2);
    CHECK_EQ_U64(kit_decision(budget, DECISION_GRANTED).lease_id, interactive);
    CHECK_EQ_U64(kit_decision(budget, DECISION_GRANTED).lease_id, normal);
    CHECK(budget_release(budget, interactive, 3) == BUDGET_GRANTED);
    kit_observe(budget, 0, 0, 4);
    CHECK_EQ_U64(kit_decision(budget, DECISION_GRANTED).lease_id, second);
    CHECK(budget_release(budget, second, 5) == BUDGET_GRANTED);
    kit_observe(budget, 0, 0, 6);
    CHECK_EQ_U64(kit_decision(budget, DECISION_GRANTED).lease_id, background);
    budget_free(budget);
}

static void test_a_waiter_is_passed_eight_times_and_no_more(void)
{
    struct budget *budget = kit_budget(2);
    struct claim large = kit_claim("large", 9 * GIB, 0), small = kit_claim("small", 64 * MIB, 0);
    struct refusal refusal;
    uint64_t waiter, id = fill(budget, 0);

    waiter = kit_wait(budget, &large, 0, CLOCK_NEVER_MS);
    for (int i = 0; i < 8; i++)
        kit_grant(budget, &small, 1);
    refusal = kit_refused(budget, &small, 1);
    CHECK_EQ_U64(refusal.kind, REFUSAL_BEHIND);
    CHECK_EQ_U64(refusal.waiting_before, 1);
    small.parts[0].gpu = 1;
    kit_grant(budget, &small, 1); /* another gpu's waiters are no concern of its */
    small.parts[0].gpu = CLAIM_GPU_ANY;
    kit_grant(budget, &small, 1);
    CHECK(budget_release(budget, id, 2) == BUDGET_GRANTED);
    kit_observe(budget, 0, 0, 3);
    CHECK_EQ_U64(kit_state(budget, waiter), LEASE_STATE_LOADING);
    budget_free(budget);
}

static void test_a_waiter_is_passed_for_thirty_seconds_and_no_longer(void)
{
    struct budget *budget = kit_budget(1);
    struct claim large = kit_claim("large", 9 * GIB, 0), small = kit_claim("small", 64 * MIB, 0);
    uint64_t waiter;

    fill(budget, 0);
    waiter = kit_wait(budget, &large, 0, CLOCK_NEVER_MS);
    kit_observe(budget, 0, 0, 29999);
    kit_grant(budget, &small, 29999);
    CHECK_EQ_U64(kit_refused(budget, &small, 30000).kind, REFUSAL_BEHIND);
    CHECK(budget_release(budget, waiter, 30000) == BUDGET_GRANTED);
    kit_grant(budget, &small, 30000);
    budget_free(budget);
}

static void test_a_waiter_rises_one_priority_when_it_has_waited_long(void)
{
    struct budget_limits limits = BUDGET_LIMITS_DEFAULT;
    struct claim claim = kit_claim("a", 9 * GIB, 0);
    uint64_t full, old, young;
    struct budget *budget;

    limits.overtake_ms = CLOCK_NEVER_MS;
    budget = kit_budget_with(&limits, 1);
    kit_observe(budget, 0, 0, 0);
    full = fill(budget, 0);
    claim.priority = CLAIM_PRIORITY_BACKGROUND;
    old = kit_wait(budget, &claim, 0, CLOCK_NEVER_MS);
    claim.priority = CLAIM_PRIORITY_NORMAL;
    kit_observe(budget, 0, 0, 119000);
    young = kit_wait(budget, &claim, 119000, CLOCK_NEVER_MS);
    CHECK(budget_release(budget, full, 120000) == BUDGET_GRANTED);
    kit_observe(budget, 0, 0, 120001);
    CHECK_EQ_U64(kit_decision(budget, DECISION_GRANTED).lease_id, old);
    CHECK_EQ_U64(kit_state(budget, young), LEASE_STATE_QUEUED);
    budget_free(budget);
}

static void test_a_deadline_ends_a_wait_with_its_reason(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("late", 9 * GIB, 0);
    uint64_t waiter;
    struct decision decision;

    fill(budget, 0);
    waiter = kit_wait(budget, &claim, 0, 100);
    CHECK_EQ_U64(budget_next_wakeup_ms(budget), 100);
    budget_advance(budget, 99);
    CHECK_EQ_U64(kit_decision(budget, DECISION_REFUSED).kind, 0);
    budget_advance(budget, 100);
    decision = kit_decision(budget, DECISION_REFUSED);
    CHECK_EQ_U64(decision.lease_id, waiter);
    CHECK_EQ_U64(decision.refusal.kind, REFUSAL_NO_ROOM);
    CHECK(strcmp(decision.refusal.name, "late") == 0);
    CHECK(strcmp(decision.refusal.holders[0].name, "full") == 0);
    CHECK_EQ_U64(kit_state(budget, waiter), 0);
    CHECK_EQ_U64(budget_next_wakeup_ms(budget), CLOCK_NEVER_MS);
    budget_free(budget);
}

static void test_why_somebody_waits_is_told_at_any_time(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 9 * GIB, 0);
    struct budget_lease_view view;
    struct refusal refusal;
    uint64_t first, second;

    fill(budget, 0);
    first = kit_wait(budget, &claim, 0, CLOCK_NEVER_MS);
    second = kit_wait(budget, &claim, 0, CLOCK_NEVER_MS);
    budget_explain(budget, first, 10, &refusal);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NO_ROOM);
    CHECK_EQ_U64(refusal.waiting_before, 0);
    CHECK(budget_view_lease(budget, second, &view));
    CHECK_EQ_U64(view.waiting_before, 1);
    budget_explain(budget, 12345, 10, &refusal);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NONE);
    claim.parts[0].resident_bytes = 1 * GIB;
    budget_probe(budget, &claim, 10, &refusal);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NONE);
    claim.parts[0].resident_bytes = 20 * GIB;
    budget_probe(budget, &claim, 10, &refusal);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NEVER_FITS);
    budget_free(budget);
}

static void test_who_loads_alone_has_the_gpu_to_itself_until_it_is_ready(void)
{
    struct budget *budget = kit_budget(1);
    struct claim alone = kit_claim("alone", 2 * GIB, 0), claim = kit_claim("a", 1 * GIB, 1 * GIB);
    uint64_t holder = kit_idle(budget, &claim, 0), id;
    struct refusal refusal;

    alone.is_load_alone = true;
    CHECK(budget_burst_begin(budget, holder, 0, 0, 0, &refusal) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_refused(budget, &alone, 0).kind, REFUSAL_LOAD_WINDOW);
    id = kit_wait(budget, &alone, 0, CLOCK_NEVER_MS);
    CHECK(budget_burst_end(budget, holder, 1) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_decision(budget, DECISION_GRANTED).lease_id, id);
    CHECK_EQ_U64(kit_refused(budget, &claim, 1).kind, REFUSAL_LOAD_WINDOW);
    CHECK(budget_burst_begin(budget, holder, 0, 1, 100, &refusal) == BUDGET_QUEUED);
    CHECK_EQ_U64(refusal.kind, REFUSAL_LOAD_WINDOW);
    CHECK(budget_ready(budget, id, 2) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_decision(budget, DECISION_BURST_GRANTED).lease_id, holder);
    budget_check(budget);
    budget_free(budget);
}

static void test_a_burst_deadline_leaves_the_lease_idle(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 3 * GIB);
    uint64_t first = kit_idle(budget, &claim, 0), second = kit_idle(budget, &claim, 0);
    struct decision decision;
    struct refusal refusal;

    CHECK(budget_burst_begin(budget, first, 0, 0, 0, &refusal) == BUDGET_GRANTED);
    CHECK(budget_burst_begin(budget, second, 0, 0, 0, &refusal) == BUDGET_REFUSED);
    CHECK(budget_burst_begin(budget, second, 0, 0, 50, &refusal) == BUDGET_QUEUED);
    CHECK(budget_burst_begin(budget, second, 0, 0, 50, &refusal) == BUDGET_REFUSED);
    CHECK_EQ_U64(refusal.kind, REFUSAL_BAD_STATE);
    budget_advance(budget, 50);
    decision = kit_decision(budget, DECISION_BURST_REFUSED);
    CHECK_EQ_U64(decision.lease_id, second);
    CHECK_EQ_U64(decision.refusal.kind, REFUSAL_NO_ROOM);
    CHECK_EQ_U64(kit_state(budget, second), LEASE_STATE_IDLE);
    CHECK(budget_burst_begin(budget, second, 0, 51, 90, &refusal) == BUDGET_QUEUED);
    CHECK(budget_burst_end(budget, second, 52) == BUDGET_GRANTED); /* it waits no longer */
    CHECK(budget_burst_end(budget, first, 53) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_decision(budget, DECISION_BURST_GRANTED).kind, 0);
    budget_free(budget);
}

static void test_a_burst_over_two_gpus_is_taken_on_both_or_none(void)
{
    struct budget *budget = kit_budget(2);
    struct claim wide = kit_claim("wide", 4 * GIB, 3 * GIB),
                 one = kit_claim("one", 4 * GIB, 3 * GIB);
    uint64_t wide_id, one_id;
    struct refusal refusal;

    wide.part_count = 2;
    wide.parts[1] = wide.parts[0];
    wide.parts[1].gpu = 1;
    one.parts[0].gpu = 1;
    wide_id = kit_idle(budget, &wide, 0);
    one_id = kit_idle(budget, &one, 0);
    CHECK(budget_burst_begin(budget, one_id, 0, 1, 1, &refusal) == BUDGET_GRANTED);
    CHECK(budget_burst_begin(budget, wide_id, 0, 1, CLOCK_NEVER_MS, &refusal) == BUDGET_QUEUED);
    CHECK_EQ_U64(refusal.gpu, 1);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 4 * GIB);
    CHECK(budget_burst_end(budget, one_id, 2) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_decision(budget, DECISION_BURST_GRANTED).lease_id, wide_id);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 7 * GIB);
    budget_check(budget);
    budget_free(budget);
}

/* Bursts that never all end at once would keep a claim out for ever. */
static void test_bursts_wait_for_a_closed_claim_that_law_2_admits(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 3 * GIB / 2, 3 * GIB / 2);
    struct claim next = kit_claim("next", 27 * GIB / 10, 0);
    uint64_t holders[4], waiter;
    struct refusal refusal;

    for (size_t i = 0; i < 4; i++)
        holders[i] = kit_idle(budget, &claim, 0);
    for (size_t i = 0; i < 3; i++)
        CHECK(budget_burst_begin(budget, holders[i], 0, 0, 0, &refusal) == BUDGET_GRANTED);
    waiter = kit_wait(budget, &next, 0, CLOCK_NEVER_MS);
    kit_observe(budget, 0, 0, 30000);
    CHECK(budget_burst_end(budget, holders[0], 30000) == BUDGET_GRANTED);
    CHECK(budget_burst_begin(budget, holders[3], 0, 30000, 40000, &refusal) == BUDGET_QUEUED);
    CHECK_EQ_U64(refusal.kind, REFUSAL_BEHIND);
    CHECK_EQ_U64(kit_state(budget, waiter), LEASE_STATE_QUEUED);
    CHECK(budget_burst_end(budget, holders[1], 30001) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_decision(budget, DECISION_GRANTED).lease_id, waiter);
    CHECK(budget_burst_end(budget, holders[2], 30002) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_state(budget, holders[3]), LEASE_STATE_BUSY);
    budget_check(budget);
    budget_free(budget);
}

static void test_a_claim_that_holders_must_leave_for_holds_back_no_burst(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 2 * GIB), next = kit_claim("next", 9 * GIB, 0);
    uint64_t holder = kit_idle(budget, &claim, 0);
    struct refusal refusal;

    kit_wait(budget, &next, 0, CLOCK_NEVER_MS);
    kit_observe(budget, 0, 0, 60000);
    CHECK(budget_burst_begin(budget, holder, 0, 60000, 60000, &refusal) == BUDGET_GRANTED);
    budget_free(budget);
}

TESTS(TEST(test_first_come_first_served_inside_a_priority),
      TEST(test_a_waiter_is_passed_eight_times_and_no_more),
      TEST(test_a_waiter_is_passed_for_thirty_seconds_and_no_longer),
      TEST(test_a_waiter_rises_one_priority_when_it_has_waited_long),
      TEST(test_a_deadline_ends_a_wait_with_its_reason),
      TEST(test_why_somebody_waits_is_told_at_any_time),
      TEST(test_who_loads_alone_has_the_gpu_to_itself_until_it_is_ready),
      TEST(test_a_burst_deadline_leaves_the_lease_idle),
      TEST(test_a_burst_over_two_gpus_is_taken_on_both_or_none),
      TEST(test_bursts_wait_for_a_closed_claim_that_law_2_admits),
      TEST(test_a_claim_that_holders_must_leave_for_holds_back_no_burst))
