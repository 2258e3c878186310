/* SPDX-License-Identifier: Apache-2.0 */

/* Laws 1, 2 and 3 at admission, the life of a lease, claims that make no sense. */

#include <errno.h>

#include "budget_kit.h"

static void test_two_leases_share_what_their_peaks_together_would_not_fit(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("worker", 4 * GIB, 21 * GIB / 10);
    uint64_t first = kit_idle(budget, &claim, 0);
    uint64_t second = kit_idle(budget, &claim, 0);
    struct refusal refusal;

    CHECK(budget_burst_begin(budget, first, 0, 1, 1000, &refusal) == BUDGET_GRANTED);
    CHECK(budget_burst_begin(budget, second, 0, 1, 1000, &refusal) == BUDGET_QUEUED);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NO_ROOM);
    CHECK(budget_burst_end(budget, first, 2) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_decision(budget, DECISION_BURST_GRANTED).lease_id, second);
    CHECK_EQ_U64(kit_state(budget, second), LEASE_STATE_BUSY);
    CHECK(budget_burst_end(budget, second, 3) == BUDGET_GRANTED);
    budget_check(budget);
    budget_free(budget);
}

static void test_a_holder_whose_burst_could_never_be_served_is_held_at_admission(void)
{
    struct budget *budget = kit_budget(1);
    struct claim first = kit_claim("first", 5200000000, 2100000000);
    struct claim second = kit_claim("second", 5200000000, 2100000000);
    struct refusal refusal;

    kit_idle(budget, &first, 0);
    refusal = kit_refused(budget, &second, 0);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NO_PROGRESS);
    CHECK_EQ_U64(refusal.blocked.burst_bytes, 2100000000);
    CHECK_EQ_U64(refusal.short_bytes,
                 2 * UINT64_C(5200000000) + 2100000000 + RESERVE_BYTES - CARD_BYTES);
    second = kit_claim("second", 5200000000, 1000000000);
    refusal = kit_refused(budget, &second, 0);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NO_PROGRESS);
    CHECK(strcmp(refusal.blocked.name, "first") == 0);
    budget_free(budget);
}

static void test_a_reason_names_only_the_burst_that_is_yet_to_come(void)
{
    struct budget *budget = kit_budget(1);
    struct claim first = kit_claim("first", 5 * GIB, 2 * GIB);
    struct claim second = kit_claim("second", 7 * GIB, 0);
    struct refusal refusal;

    first.parts[0].load_peak_bytes = 7 * GIB; /* the load covers a burst */
    const uint64_t id = kit_grant(budget, &first, 0);
    CHECK_EQ_U64(kit_refused(budget, &second, 0).holders[0].burst_bytes, 0);
    CHECK(budget_ready(budget, id, 1) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_refused(budget, &second, 1).holders[0].burst_bytes, 2 * GIB);
    CHECK(budget_burst_begin(budget, id, GIB / 2, 2, 1000, &refusal) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_refused(budget, &second, 2).holders[0].burst_bytes, 3 * GIB / 2);
    budget_free(budget);
}

static void test_the_reserve_is_never_granted(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", CARD_BYTES - RESERVE_BYTES - 1 * GIB, 0);
    struct claim rest = kit_claim("b", 1 * GIB + 1, 0);
    struct refusal refusal;

    kit_grant(budget, &claim, 0);
    refusal = kit_refused(budget, &rest, 0);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NO_ROOM);
    CHECK_EQ_U64(refusal.free_bytes, 1 * GIB);
    CHECK_EQ_U64(refusal.short_bytes, 1);
    rest.parts[0].resident_bytes = 1 * GIB;
    kit_grant(budget, &rest, 0);
    CHECK_EQ_U64(kit_gpu(budget, 0).free_bytes, 0);
    budget_free(budget);
}

static void test_a_claim_larger_than_the_card_is_refused_at_once_however_long_it_would_wait(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("big", 13 * GIB, 0);
    struct kit_answer answer = kit_acquire(budget, &claim, 0, CLOCK_NEVER_MS);

    CHECK(answer.answer == BUDGET_REFUSED);
    CHECK_EQ_U64(answer.refusal.kind, REFUSAL_NEVER_FITS);
    CHECK_EQ_U64(answer.refusal.most_bytes, CARD_BYTES - RESERVE_BYTES);
    CHECK_EQ_U64(answer.refusal.short_bytes, 13 * GIB - (CARD_BYTES - RESERVE_BYTES));
    claim = kit_claim("peak", 1 * GIB, 0);
    claim.parts[0].load_peak_bytes = 12 * GIB;
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_NEVER_FITS);
    claim = kit_claim("burst", 6 * GIB, 6 * GIB);
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_NEVER_FITS);
    budget_free(budget);
}

static void test_hostile_sizes_are_refused_and_change_nothing(void)
{
    static const uint64_t sizes[] = { UINT64_MAX, UINT64_MAX - 1, UINT64_MAX / 2, UINT64_C(1) << 63,
                                      UINT64_C(1) << 47 };
    struct budget *budget = kit_budget(1);
    uint64_t id = 0;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (size_t k = 0; k < 3; k++) {
            struct claim claim = kit_claim("x", 1, 1);

            claim.parts[0].resident_bytes = k == 0 ? sizes[i] : 1 + RESERVE_BYTES * (k == 1);
            claim.parts[0].burst_bytes = k == 1 ? sizes[i] : sizes[i] * (k == 0);
            claim.parts[0].load_peak_bytes = k == 2 ? sizes[i] : 0;
            for (int busy = 0; busy < 2; busy++) {
                claim.is_always_busy = busy;
                kit_refused(budget, &claim, 0);
                CHECK(budget_restore(budget, &claim, 0, LEASE_STATE_IDLE, 0, &id) == -EINVAL);
            }
        }
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 0);
    CHECK_EQ_U64(budget_next_lease(budget, 0), 0);
    budget_free(budget);
}

static void test_claims_that_make_no_sense_are_refused(void)
{
    struct budget *budget = kit_budget(2);
    struct claim claim = kit_claim("zero", 0, 0);

    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_BAD_CLAIM);
    claim = kit_claim("none", 1, 0);
    claim.part_count = 0;
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_BAD_CLAIM);
    claim.part_count = CLAIM_PART_MAX + 1;
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_BAD_CLAIM);
    claim.part_count = 2;
    claim.parts[1] = claim.parts[0];
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_BAD_CLAIM);
    claim.parts[1].gpu = CLAIM_GPU_ANY;
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_BAD_CLAIM);
    claim = kit_claim("gpu 7", 1, 0);
    claim.parts[0].gpu = 7;
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_NO_GPU);
    claim = kit_claim("prio", 1, 0);
    claim.priority = 77;
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_BAD_CLAIM);
    budget_free(budget);
}

static void test_a_load_peak_is_charged_until_the_lease_is_ready(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 0), other = kit_claim("b", 5 * GIB, 0);
    uint64_t id;

    claim.parts[0].load_peak_bytes = 7 * GIB;
    id = kit_grant(budget, &claim, 0);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 7 * GIB);
    CHECK_EQ_U64(kit_refused(budget, &other, 0).kind, REFUSAL_NO_ROOM);
    CHECK(budget_ready(budget, id, 1) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 4 * GIB);
    kit_grant(budget, &other, 1);
    budget_free(budget);
}

static void test_one_that_is_always_busy_holds_its_burst_for_life(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 2 * GIB);
    struct refusal refusal;
    uint64_t id;

    claim.is_always_busy = true;
    id = kit_grant(budget, &claim, 0);
    CHECK_EQ_U64(kit_state(budget, id), LEASE_STATE_BUSY);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 6 * GIB);
    CHECK(budget_ready(budget, id, 1) == BUDGET_GRANTED);
    CHECK(budget_burst_begin(budget, id, 0, 1, 1, &refusal) == BUDGET_GRANTED);
    CHECK(budget_burst_end(budget, id, 2) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 6 * GIB);
    CHECK_EQ_U64(kit_gpu(budget, 0).largest_burst_bytes, 0);
    budget_free(budget);
}

static void test_release_twice_gives_back_once(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 0);
    uint64_t id = kit_idle(budget, &claim, 0);

    CHECK(budget_release(budget, id, 1) == BUDGET_GRANTED);
    CHECK(budget_release(budget, id, 1) == BUDGET_REFUSED);
    CHECK_EQ_U64(kit_gpu(budget, 0).draining_bytes, 4 * GIB);
    kit_observe(budget, 0, 0, 2);
    CHECK_EQ_U64(kit_gpu(budget, 0).draining_bytes, 0);
    CHECK(budget_release(budget, id, 3) == BUDGET_REFUSED);
    CHECK_EQ_U64(budget_next_lease(budget, 0), 0);
    budget_free(budget);
}

static void test_what_is_out_of_order_is_refused(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 1 * GIB, 1 * GIB);
    uint64_t id = kit_grant(budget, &claim, 0);
    struct refusal refusal;

    CHECK(budget_burst_begin(budget, id, 0, 0, 0, &refusal) == BUDGET_REFUSED);
    CHECK_EQ_U64(refusal.kind, REFUSAL_BAD_STATE);
    CHECK(budget_burst_end(budget, id, 0) == BUDGET_REFUSED);
    CHECK(budget_ready(budget, id, 0) == BUDGET_GRANTED);
    CHECK(budget_burst_begin(budget, id, 2 * GIB, 0, 0, &refusal) == BUDGET_REFUSED);
    CHECK_EQ_U64(refusal.kind, REFUSAL_BAD_CLAIM);
    CHECK(budget_burst_begin(budget, id, 0, 0, 0, &refusal) == BUDGET_GRANTED);
    CHECK(budget_burst_begin(budget, id, 0, 0, 0, &refusal) == BUDGET_REFUSED);
    CHECK_EQ_U64(refusal.kind, REFUSAL_BAD_STATE);
    CHECK(budget_ready(budget, 99, 0) == BUDGET_REFUSED);
    CHECK(budget_burst_begin(budget, 99, 0, 0, 0, &refusal) == BUDGET_REFUSED);
    CHECK(budget_resize(budget, 99, 1, 0, 0, &refusal) == BUDGET_REFUSED);
    budget_free(budget);
}

static void test_any_gpu_goes_where_it_fits_best(void)
{
    struct budget *budget = kit_budget(3);
    struct claim claim = kit_claim("a", 3 * GIB, 0);
    struct budget_lease_view view;
    uint64_t id;

    claim.parts[0].gpu = 1;
    kit_grant(budget, &claim, 0);
    claim.parts[0].gpu = 2;
    claim.parts[0].resident_bytes = 9 * GIB;
    kit_grant(budget, &claim, 0);
    claim = kit_claim("any", 4 * GIB, 0);
    claim.parts[0].gpu = CLAIM_GPU_ANY;
    id = kit_grant(budget, &claim, 0);
    CHECK(budget_view_lease(budget, id, &view));
    CHECK_EQ_U64(view.claim->parts[0].gpu, 1);
    claim.parts[0].resident_bytes = 12 * GIB;
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_NEVER_FITS);
    claim.parts[0].resident_bytes = 11 * GIB;
    kit_grant(budget, &claim, 0);
    claim.parts[0].resident_bytes = 5 * GIB;
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).gpu, 1); /* 4.2 GiB free there, the most */
    budget_free(budget);
}

static void test_several_gpus_are_granted_all_or_none(void)
{
    struct budget *budget = kit_budget(2);
    struct claim claim = kit_claim("tp", 4 * GIB, 1 * GIB), other = kit_claim("b", 10 * GIB, 0);
    struct refusal refusal;
    uint64_t id;

    claim.part_count = 2;
    claim.parts[1] = claim.parts[0];
    claim.parts[1].gpu = 1;
    other.parts[0].gpu = 1;
    id = kit_grant(budget, &other, 0);
    refusal = kit_refused(budget, &claim, 0);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NO_ROOM);
    CHECK_EQ_U64(refusal.gpu, 1);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 0);
    CHECK(budget_release(budget, id, 0) == BUDGET_GRANTED);
    kit_observe(budget, 1, 0, 1);
    id = kit_idle(budget, &claim, 1);
    CHECK(budget_burst_begin(budget, id, 0, 1, 1, &refusal) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 5 * GIB);
    CHECK_EQ_U64(kit_gpu(budget, 1).charged_bytes, 5 * GIB);
    CHECK(budget_release(budget, id, 2) == BUDGET_GRANTED);
    kit_observe(budget, 0, 0, 3);
    CHECK_EQ_U64(kit_state(budget, id), LEASE_STATE_DRAINING);
    kit_observe(budget, 1, 0, 3);
    CHECK_EQ_U64(kit_state(budget, id), 0);
    budget_free(budget);
}

static void test_resize_grows_within_the_laws_and_always_shrinks(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 4 * GIB, 2 * GIB), other = kit_claim("b", 4 * GIB, 0);
    uint64_t id = kit_idle(budget, &claim, 0);
    struct refusal refusal;

    kit_idle(budget, &other, 0);
    CHECK(budget_resize(budget, id, 8 * GIB, 0, 0, &refusal) == BUDGET_REFUSED);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NO_ROOM);
    CHECK(budget_resize(budget, id, 5 * GIB, 3 * GIB, 0, &refusal) == BUDGET_REFUSED);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NO_PROGRESS);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 8 * GIB);
    CHECK_EQ_U64(kit_gpu(budget, 0).largest_burst_bytes, 2 * GIB);
    CHECK(budget_resize(budget, id, 5 * GIB, 2 * GIB, 0, &refusal) == BUDGET_GRANTED);
    CHECK(budget_resize(budget, id, UINT64_MAX, 1, 0, &refusal) == BUDGET_REFUSED);
    CHECK(budget_resize(budget, id, UINT64_MAX, 0, 0, &refusal) == BUDGET_REFUSED);
    CHECK(budget_resize(budget, id, 1 * GIB, 0, 1000, &refusal) == BUDGET_GRANTED);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes, 5 * GIB);
    CHECK(budget_resize(budget, id, 2 * GIB, 0, 1000, &refusal) == BUDGET_REFUSED);
    CHECK_EQ_U64(refusal.kind, REFUSAL_STALE_FACTS);
    CHECK_EQ_U64(kit_decision(budget, DECISION_NEED_FACTS).kind, DECISION_NEED_FACTS);
    budget_check(budget);
    budget_free(budget);
}

static void test_a_restored_lease_keeps_its_id_whatever_the_sum_says(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("a", 8 * GIB, 1 * GIB);
    uint64_t id = 0;

    CHECK(budget_restore(budget, &claim, 41, LEASE_STATE_IDLE, 0, &id) == 0);
    CHECK_EQ_U64(id, 41);
    CHECK(budget_restore(budget, &claim, 41, LEASE_STATE_IDLE, 0, &id) == -EEXIST);
    CHECK(budget_restore(budget, &claim, 7, LEASE_STATE_BUSY, 0, &id) == 0);
    CHECK(budget_restore(budget, &claim, 0, LEASE_STATE_LOADING, 0, &id) == 0);
    CHECK_EQ_U64(id, 42);
    CHECK(budget_restore(budget, &claim, UINT64_MAX, LEASE_STATE_IDLE, 0, &id) == -EINVAL);
    budget_check(budget);
    CHECK_EQ_U64(budget_next_lease(budget, 0), 7);
    CHECK_EQ_U64(budget_next_lease(budget, 7), 41);
    CHECK_EQ_U64(budget_next_lease(budget, 40), 41);
    CHECK_EQ_U64(budget_next_lease(budget, 42), 0);
    CHECK_EQ_U64(kit_gpu(budget, 0).free_bytes, 0);
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_OVERCOMMITTED);
    budget_free(budget);
}

static void test_the_table_of_leases_is_bounded(void)
{
    struct budget_limits limits = BUDGET_LIMITS_DEFAULT;
    struct claim claim = kit_claim("a", 1, 0);
    struct budget *budget;

    limits.lease_max = 3;
    budget = kit_budget_with(&limits, 1);
    kit_observe(budget, 0, 0, 0);
    for (int i = 0; i < 3; i++)
        kit_grant(budget, &claim, 0);
    CHECK_EQ_U64(kit_refused(budget, &claim, 0).kind, REFUSAL_QUEUE_FULL);
    CHECK_EQ_U64((uint64_t)kit_acquire(budget, &claim, 0, CLOCK_NEVER_MS).answer, BUDGET_REFUSED);
    budget_free(budget);
}

TESTS(TEST(test_two_leases_share_what_their_peaks_together_would_not_fit),
      TEST(test_a_holder_whose_burst_could_never_be_served_is_held_at_admission),
      TEST(test_a_reason_names_only_the_burst_that_is_yet_to_come),
      TEST(test_the_reserve_is_never_granted),
      TEST(test_a_claim_larger_than_the_card_is_refused_at_once_however_long_it_would_wait),
      TEST(test_hostile_sizes_are_refused_and_change_nothing),
      TEST(test_claims_that_make_no_sense_are_refused),
      TEST(test_a_load_peak_is_charged_until_the_lease_is_ready),
      TEST(test_one_that_is_always_busy_holds_its_burst_for_life),
      TEST(test_release_twice_gives_back_once), TEST(test_what_is_out_of_order_is_refused),
      TEST(test_any_gpu_goes_where_it_fits_best), TEST(test_several_gpus_are_granted_all_or_none),
      TEST(test_resize_grows_within_the_laws_and_always_shrinks),
      TEST(test_a_restored_lease_keeps_its_id_whatever_the_sum_says),
      TEST(test_the_table_of_leases_is_bounded))
