/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every allocation fails once: a call says -ENOMEM and has changed nothing, or goes on without;
 * after that the same history ends as it ends with memory. Linked with --wrap for malloc and its
 * kin.
 */

#include <errno.h>

#include "budget_kit.h"

/* The names are the linker's (--wrap). */
/* NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming) */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
/* NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming) */

static uint64_t allocations, failing; /* the failing-th fails; 0: none does */

static bool fails_now(void)
{
    return ++allocations == failing;
}

void *__wrap_malloc(size_t bytes)
{
    return fails_now() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails_now() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    return fails_now() ? NULL : __real_realloc(old, bytes);
}

#define HOLDERS 12

/* What a failed call must not change. */
static uint64_t fingerprint(const struct budget *budget)
{
    uint64_t print = 0;

    for (uint32_t gpu = 0; gpu < budget_gpu_count(budget); gpu++) {
        struct budget_gpu_view view = kit_gpu(budget, gpu);

        print = print * 31 + view.charged_bytes + 7 * view.draining_bytes + 13 * view.free_bytes;
    }
    for (uint64_t id = budget_next_lease(budget, 0); id; id = budget_next_lease(budget, id))
        print = print * 31 + id * 7 + kit_state(budget, id);
    return print;
}

static uint64_t acquire_until_there_is_memory(struct budget *budget, const struct claim *claim,
                                              uint64_t now_ms)
{
    uint64_t before = fingerprint(budget), id = 0;
    int answer = budget_acquire(budget, claim, now_ms, CLOCK_NEVER_MS, &id, NULL);

    budget_check(budget);
    if (answer == -ENOMEM) {
        CHECK_EQ_U64(fingerprint(budget), before);
        CHECK_EQ_U64(id, 0);
        answer = budget_acquire(budget, claim, now_ms, CLOCK_NEVER_MS, &id, NULL);
    }
    CHECK(answer == BUDGET_GRANTED || answer == BUDGET_QUEUED);
    return id;
}

static void burst_until_there_is_memory(struct budget *budget, uint64_t id, uint64_t now_ms)
{
    uint64_t before = fingerprint(budget);
    int answer = budget_burst_begin(budget, id, 0, now_ms, CLOCK_NEVER_MS, NULL);

    budget_check(budget);
    if (answer == -ENOMEM) {
        CHECK_EQ_U64(fingerprint(budget), before);
        answer = budget_burst_begin(budget, id, 0, now_ms, CLOCK_NEVER_MS, NULL);
    }
    CHECK(answer == BUDGET_GRANTED || answer == BUDGET_QUEUED || answer == BUDGET_REFUSED);
}

static int set_up(struct budget **ret_budget)
{
    struct budget_limits limits = BUDGET_LIMITS_DEFAULT;
    uint32_t gpu;
    int r = budget_new(&limits, ret_budget);

    for (int i = 0; i < 2 && r == 0; i++)
        r = budget_add_gpu(*ret_budget, CARD_BYTES, RESERVE_BYTES, &gpu);
    return r;
}

/* More ask than fit, all burst, all leave, one after the other: who waited is in at the end. */
static void run_history(struct budget *budget)
{
    struct claim claim = kit_claim("a", 2 * GIB, 1 * GIB);
    uint64_t ids[HOLDERS], now_ms = 1;

    claim.parts[0].gpu = CLAIM_GPU_ANY;
    for (uint32_t gpu = 0; gpu < 2; gpu++)
        kit_observe(budget, gpu, 0, now_ms);
    for (size_t i = 0; i < HOLDERS; i++)
        ids[i] = acquire_until_there_is_memory(budget, &claim, now_ms);
    for (size_t i = 0; i < HOLDERS; i++) {
        if (kit_state(budget, ids[i]) == LEASE_STATE_LOADING)
            CHECK(budget_ready(budget, ids[i], now_ms) == BUDGET_GRANTED);
        burst_until_there_is_memory(budget, ids[i], now_ms);
    }
    for (size_t i = 0; i < HOLDERS; i++) {
        now_ms += 10;
        CHECK(budget_release(budget, ids[i], now_ms) == BUDGET_GRANTED);
        for (int sample = 0; sample < 3; sample++)
            for (uint32_t gpu = 0; gpu < 2; gpu++)
                kit_observe(budget, gpu, 0, ++now_ms);
        budget_advance(budget, now_ms);
        kit_forget_decisions(budget);
        CHECK(i + 1 == HOLDERS || kit_state(budget, ids[i + 1]) != LEASE_STATE_QUEUED);
    }
    CHECK_EQ_U64(budget_next_lease(budget, 0), 0);
    CHECK_EQ_U64(kit_gpu(budget, 0).charged_bytes + kit_gpu(budget, 0).draining_bytes, 0);
}

static void test_every_allocation_fails_once_and_nothing_is_lost(void)
{
    uint64_t setups = 0;

    for (failing = 1;; failing++) {
        struct budget *budget = NULL;

        allocations = 0;
        if (set_up(&budget) == -ENOMEM) {
            budget_free(budget);
            setups++;
            continue;
        }
        run_history(budget);
        budget_free(budget);
        if (allocations < failing)
            break;
    }
    printf("# %" PRIu64 " allocations failed once each, %" PRIu64 " of them at the set-up\n",
           failing - 1, setups);
    CHECK(failing > 30 && setups > 4);
}

TESTS(TEST(test_every_allocation_fails_once_and_nothing_is_lost))
