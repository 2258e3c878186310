/* SPDX-License-Identifier: Apache-2.0 */

/* Law 1's facts: foreign bytes, draining, overdraft, facts that are too old, recovery. */

#include "budget_kit.h"

static void test_foreign_bytes_stand_beside_claims_that_are_not_in_use_yet(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 0), other = kit_claim("b", 5 * GIB, 0);
    uint64_t id = kit_grant(budget, &claim, 0);

    kit_observe(budget, 0, 3 * GIB, 1);
    CHECK_EQ_U64(kit_gpu(budget, 0).foreign_bytes, 3 * GIB);
    CHECK_EQ_U64(kit_refused(budget, &other, 1).kind, REFUSAL_NO_ROOM);
    CHECK_EQ_U64(kit_gpu(budget, 0).free_bytes, CARD_BYTES - RESERVE_BYTES - 7 * GIB);
    /* Once it is in use, its bytes are in both figures, and nothing is counted twice. */
    kit_observe_one(budget, 3 * GIB, id, 4 * GIB, 2);
    CHECK_EQ_U64(kit_gpu(budget, 0).foreign_bytes, 3 * GIB);
    CHECK_EQ_U64(kit_gpu(budget, 0).free_bytes, CARD_BYTES - RESERVE_BYTES - 7 * GIB);
    budget_free(budget);
}

static void test_an_overdraft_moves_bytes_from_foreign_to_its_owner_and_is_said_once(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 0);
    uint64_t id = kit_idle(budget, &claim, 0);
    struct decision decision;

    kit_observe_one(budget, 0, id, 5 * GIB, 1);
    decision = kit_decision(budget, DECISION_OVERDRAFT);
    CHECK_EQ_U64(decision.lease_id, id);
    CHECK_EQ_U64(decision.bytes, 1 * GIB);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 5 * GIB);
    CHECK_EQ_U64(kit_gpu(budget, 0).foreign_bytes, 0);
    kit_observe_one(budget, 0, id, 5 * GIB, 2);
    CHECK_EQ_U64(kit_decision(budget, DECISION_OVERDRAFT).kind, 0);
    kit_observe_one(budget, 0, id, 3 * GIB, 3);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 4 * GIB);
    budget_free(budget);
}

static void
test_a_burst_that_has_just_ended_is_no_overdraft_but_is_charged_until_a_newer_sample(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 2 * GIB), other = kit_claim("b", 4 * GIB, 0);
    uint64_t id = kit_idle(budget, &claim, 0);
    struct refusal refusal;

    other.parts[0].load_peak_bytes = 11 * GIB / 2;
    CHECK(budget_burst_begin(budget, id, 0, 1, 1, &refusal) == BUDGET_GRANTED);
    kit_observe_one(budget, 0, id, 6 * GIB, 2);
    CHECK(budget_burst_end(budget, id, 3) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 6 * GIB);
    kit_wait(budget, &other, 3, 100);
    CHECK_EQ_U64(kit_decision(budget, DECISION_NEED_FACTS).gpu, 0);
    kit_observe_one(budget, 0, id, 6 * GIB, 4); /* sampled before the end, seen after it */
    CHECK_EQ_U64(kit_decision(budget, DECISION_OVERDRAFT).kind, 0);
    kit_observe_one(budget, 0, id, 4 * GIB, 5);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 19 * GIB / 2);
    budget_free(budget);
}

static void test_a_released_lease_drains_until_the_driver_shows_its_bytes_back(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 8 * GIB, 0);
    uint64_t id = kit_idle(budget, &claim, 0), second;

    kit_observe_one(budget, 0, id, 7 * GIB, 1);
    CHECK(budget_release(budget, id, 10) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_gpu(budget, 0).draining_bytes, 8 * GIB);
    second = kit_wait(budget, &claim, 10, CLOCK_NEVER_MS);
    kit_observe_one(budget, 0, id, 7 * GIB, 5); /* an older sample proves nothing */
    CHECK_EQ_U64(kit_gpu(budget, 0).draining_bytes, 8 * GIB);
    kit_observe_one(budget, 0, id, 7 * GIB, 11);
    CHECK_EQ_U64(kit_gpu(budget, 0).draining_bytes, 7 * GIB);
    CHECK_EQ_U64(kit_state(budget, second), LEASE_STATE_QUEUED);
    CHECK_EQ_U64(kit_decision(budget, DECISION_NEED_FACTS).gpu, 0);
    CHECK_EQ_U64(budget_next_wakeup_ms(budget), 11 + 10 + 1); /* looks again soon */
    kit_observe(budget, 0, 0, 30);
    CHECK_EQ_U64(kit_decision(budget, DECISION_DRAINED).lease_id, id);
    CHECK_EQ_U64(kit_decision(budget, DECISION_GRANTED).lease_id, second);
    budget_free(budget);
}

static void test_without_bytes_for_processes_a_lease_drains_for_a_while(void)
{
    struct budget_facts facts = { .used_bytes = 4 * GIB };
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 0);
    uint64_t id = kit_idle(budget, &claim, 0);

    CHECK(budget_observe(budget, 0, &facts, 1) == 0);
    CHECK_EQ_U64(kit_gpu(budget, 0).foreign_bytes, 0);
    CHECK(budget_release(budget, id, 10) == BUDGET_GRANTED);
    facts.used_bytes = 0;
    CHECK(budget_observe(budget, 0, &facts, 1009) == 0);
    CHECK_EQ_U64(kit_state(budget, id), LEASE_STATE_DRAINING);
    CHECK(budget_observe(budget, 0, &facts, 1010) == 0);
    CHECK_EQ_U64(kit_state(budget, id), 0);
    budget_free(budget);
}

static void test_a_load_does_not_hide_foreign_bytes_where_processes_have_none(void)
{
    struct budget_facts facts = { .used_bytes = 3 * GIB };
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 0);
    uint64_t id;

    CHECK(budget_observe(budget, 0, &facts, 1) == 0);
    id = kit_grant(budget, &claim, 1);
    CHECK(budget_observe(budget, 0, &facts, 2) == 0);
    CHECK_EQ_U64(kit_gpu(budget, 0).foreign_bytes, 3 * GIB);
    CHECK(budget_ready(budget, id, 3) == BUDGET_GRANTED);
    facts.used_bytes = 7 * GIB;
    CHECK(budget_observe(budget, 0, &facts, 4) == 0);
    CHECK_EQ_U64(kit_gpu(budget, 0).foreign_bytes, 3 * GIB);
    budget_free(budget);
}

static void test_nothing_is_granted_on_old_facts_and_nobody_is_refused_for_them(void)
{
    struct budget *budget = kit_budget(1);
    struct claim fits = kit_claim("fits", 4 * GIB, 0), large = kit_claim("large", 9 * GIB, 0);
    struct kit_answer first = kit_acquire(budget, &fits, 1000, 1000);
    uint64_t second = kit_wait(budget, &large, 1000, 1000);
    struct decision decision;

    CHECK(first.answer == BUDGET_QUEUED);
    CHECK_EQ_U64(first.refusal.kind, REFUSAL_STALE_FACTS);
    CHECK_EQ_U64(kit_decision(budget, DECISION_NEED_FACTS).gpu, 0);
    budget_advance(budget, 1100);
    CHECK_EQ_U64(kit_state(budget, first.id), LEASE_STATE_QUEUED);
    kit_observe(budget, 0, 0, 1100);
    CHECK_EQ_U64(kit_state(budget, first.id), LEASE_STATE_LOADING);
    CHECK_EQ_U64(kit_state(budget, second), 0);
    decision = kit_decision(budget, DECISION_REFUSED);
    CHECK_EQ_U64(decision.lease_id, second);
    CHECK_EQ_U64(decision.refusal.kind, REFUSAL_NO_ROOM);
    budget_free(budget);
}

static void test_whoever_does_not_wait_is_told_when_no_facts_come_at_all(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 0);
    uint64_t id = kit_wait(budget, &claim, 1000, 1000);
    struct decision decision;

    CHECK_EQ_U64(budget_next_wakeup_ms(budget), 6000);
    budget_advance(budget, 6000);
    decision = kit_decision(budget, DECISION_REFUSED);
    CHECK_EQ_U64(decision.lease_id, id);
    CHECK_EQ_U64(decision.refusal.kind, REFUSAL_STALE_FACTS);
    budget_free(budget);
}

/* Two holders, one of them less important, and a foreign program that takes the rest. */
static void test_foreign_growth_asks_the_idle_to_trim_then_the_least_important_to_stop(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 0), small = kit_claim("c", 1 * GIB, 0);
    uint64_t important = kit_idle(budget, &claim, 0), lesser;
    struct decision decision;

    claim.priority = CLAIM_PRIORITY_BACKGROUND;
    lesser = kit_idle(budget, &claim, 0);
    kit_observe(budget, 0, 5 * GIB, 1);
    CHECK_EQ_U64(kit_refused(budget, &small, 1).kind, REFUSAL_OVERCOMMITTED);
    decision = kit_decision(budget, DECISION_ASK_TRIM);
    CHECK_EQ_U64(decision.bytes, 13 * GIB + RESERVE_BYTES - CARD_BYTES);
    CHECK_EQ_U64(kit_decision(budget, DECISION_ASK_TRIM).kind, DECISION_ASK_TRIM);
    CHECK_EQ_U64(kit_decision(budget, DECISION_ASK_STOP).kind, 0);
    kit_observe(budget, 0, 5 * GIB, 2);
    decision = kit_decision(budget, DECISION_ASK_STOP);
    CHECK_EQ_U64(decision.lease_id, lesser);
    CHECK_EQ_U64(decision.refusal.kind, REFUSAL_OVERCOMMITTED);
    kit_observe(budget, 0, 9 * GIB, 3);
    CHECK_EQ_U64(kit_decision(budget, DECISION_ASK_STOP).kind, 0); /* one at a time */
    CHECK(budget_release(budget, lesser, 4) == BUDGET_GRANTED);
    kit_observe(budget, 0, 9 * GIB, 5);
    CHECK_EQ_U64(kit_decision(budget, DECISION_ASK_STOP).lease_id, important);
    kit_observe(budget, 0, 0, 6); /* it went away again: the ask is over, and may come anew */
    kit_observe(budget, 0, 9 * GIB, 7);
    kit_observe(budget, 0, 9 * GIB, 8);
    CHECK_EQ_U64(kit_decision(budget, DECISION_ASK_STOP).lease_id, important);
    budget_free(budget);
}

static void test_the_pinned_are_never_asked_to_stop(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 8 * GIB, 0);

    claim.is_pinned = true;
    claim.priority = CLAIM_PRIORITY_BACKGROUND;
    kit_idle(budget, &claim, 0);
    for (uint64_t now_ms = 1; now_ms < 5; now_ms++)
        kit_observe(budget, 0, 9 * GIB, now_ms);
    CHECK_EQ_U64(kit_decision(budget, DECISION_ASK_STOP).kind, 0);
    budget_free(budget);
}

static void test_a_burst_that_can_never_be_served_does_not_hold_its_holder_for_ever(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 3 * GIB);
    uint64_t first = kit_idle(budget, &claim, 0), second = kit_idle(budget, &claim, 0);
    struct decision decision;
    struct refusal refusal;

    kit_observe(budget, 0, 1 * GIB, 1);
    CHECK(budget_burst_begin(budget, first, 0, 1, CLOCK_NEVER_MS, &refusal) == BUDGET_QUEUED);
    CHECK(budget_burst_begin(budget, second, 0, 1, CLOCK_NEVER_MS, &refusal) == BUDGET_QUEUED);
    kit_forget_decisions(budget);
    kit_observe(budget, 0, 1 * GIB, 2);
    CHECK(budget_next_decision(budget, &decision));
    CHECK_EQ_U64(decision.kind, DECISION_ASK_STOP);
    CHECK_EQ_U64(decision.lease_id, second);
    CHECK(budget_next_decision(budget, &decision));
    CHECK_EQ_U64(decision.kind, DECISION_BURST_REFUSED);
    CHECK_EQ_U64(decision.lease_id, second);
    CHECK(budget_release(budget, second, 3) == BUDGET_GRANTED);
    kit_observe(budget, 0, 1 * GIB, 4);
    CHECK_EQ_U64(kit_decision(budget, DECISION_BURST_GRANTED).lease_id, first);
    budget_free(budget);
}

static void test_a_gpu_that_is_not_managed_grants_nothing_and_drains_by_time(void)
{
    struct budget *budget = kit_budget(2);
    struct claim claim = kit_claim("a", 8 * GIB, 0);
    uint64_t id = kit_idle(budget, &claim, 0), waiter = kit_wait(budget, &claim, 0, CLOCK_NEVER_MS);
    struct decision decision;

    budget_set_gpu_managed(budget, 0, false);
    decision = kit_decision(budget, DECISION_REFUSED);
    CHECK_EQ_U64(decision.lease_id, waiter);
    CHECK_EQ_U64(decision.refusal.kind, REFUSAL_NO_GPU);
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_NO_GPU);
    CHECK(budget_release(budget, id, 10) == BUDGET_GRANTED);
    CHECK_EQ_U64(budget_next_wakeup_ms(budget), 1010);
    budget_advance(budget, 1010);
    CHECK_EQ_U64(kit_state(budget, id), 0);
    claim.parts[0].gpu = CLAIM_GPU_ANY;
    kit_observe(budget, 1, 0, 1010);
    id = kit_grant(budget, &claim, 1010);
    CHECK_EQ_U64(kit_state(budget, id), LEASE_STATE_LOADING);
    budget_check(budget);
    budget_free(budget);
}

TESTS(TEST(test_foreign_bytes_stand_beside_claims_that_are_not_in_use_yet),
      TEST(test_an_overdraft_moves_bytes_from_foreign_to_its_owner_and_is_said_once),
      TEST(test_a_burst_that_has_just_ended_is_no_overdraft_but_is_charged_until_a_newer_sample),
      TEST(test_a_released_lease_drains_until_the_driver_shows_its_bytes_back),
      TEST(test_without_bytes_for_processes_a_lease_drains_for_a_while),
      TEST(test_a_load_does_not_hide_foreign_bytes_where_processes_have_none),
      TEST(test_nothing_is_granted_on_old_facts_and_nobody_is_refused_for_them),
      TEST(test_whoever_does_not_wait_is_told_when_no_facts_come_at_all),
      TEST(test_foreign_growth_asks_the_idle_to_trim_then_the_least_important_to_stop),
      TEST(test_the_pinned_are_never_asked_to_stop),
      TEST(test_a_burst_that_can_never_be_served_does_not_hold_its_holder_for_ever),
      TEST(test_a_gpu_that_is_not_managed_grants_nothing_and_drains_by_time))
