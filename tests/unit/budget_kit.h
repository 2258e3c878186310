/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BUDGET_KIT_H
#define TESTS_BUDGET_KIT_H

/* What the budget's tests share: the card of the issue, claims in one line, facts in one line. */

#include "base/clock.h"
#include "base/size.h"
#include "budget/budget.h"
#include "check.h"

#define CARD_BYTES    (12282 * MIB)
#define RESERVE_BYTES (800 * MIB)

static inline struct budget *kit_budget_with(const struct budget_limits *limits, uint32_t gpus)
{
    struct budget *budget = NULL;
    uint32_t gpu;

    CHECK(budget_new(limits, &budget) == 0);
    for (uint32_t i = 0; i < gpus; i++) {
        CHECK(budget_add_gpu(budget, CARD_BYTES, RESERVE_BYTES, &gpu) == 0);
        CHECK_EQ_U64(gpu, i);
    }
    return budget;
}

/* A sample in which only foreign programs use the card. */
static inline void kit_observe(struct budget *budget, uint32_t gpu, uint64_t foreign_bytes,
                               uint64_t now_ms)
{
    struct budget_facts facts = { .used_bytes = foreign_bytes, .has_process_bytes = true };

    CHECK(budget_observe(budget, gpu, &facts, now_ms) == 0);
    budget_check(budget);
}

/* A sample in which one lease uses some bytes. */
static inline void kit_observe_one(struct budget *budget, uint64_t foreign_bytes, uint64_t lease_id,
                                   uint64_t bytes, uint64_t now_ms)
{
    struct budget_measure measure = { .lease_id = lease_id, .bytes = bytes };
    struct budget_facts facts = { .used_bytes = foreign_bytes + bytes,
                                  .has_process_bytes = true,
                                  .measured = &measure,
                                  .measured_count = 1 };

    CHECK(budget_observe(budget, 0, &facts, now_ms) == 0);
    budget_check(budget);
}

static inline struct budget *kit_budget(uint32_t gpus)
{
    struct budget_limits limits = BUDGET_LIMITS_DEFAULT;
    struct budget *budget = kit_budget_with(&limits, gpus);

    for (uint32_t i = 0; i < gpus; i++)
        kit_observe(budget, i, 0, 0);
    return budget;
}

static inline struct claim kit_claim(const char *name, uint64_t resident_bytes,
                                     uint64_t burst_bytes)
{
    struct claim claim = { .priority = CLAIM_PRIORITY_NORMAL, .part_count = 1 };

    (void)snprintf(claim.name, sizeof(claim.name), "%s", name);
    claim.parts[0].resident_bytes = resident_bytes;
    claim.parts[0].burst_bytes = burst_bytes;
    return claim;
}

struct kit_answer {
    int answer;
    uint64_t id;
    struct refusal refusal;
};

static inline struct kit_answer kit_acquire(struct budget *budget, const struct claim *claim,
                                            uint64_t now_ms, uint64_t deadline_ms)
{
    struct kit_answer answer = { 0 };

    answer.answer = budget_acquire(budget, claim, now_ms, deadline_ms, &answer.id, &answer.refusal);
    budget_check(budget);
    return answer;
}

static inline uint64_t kit_grant(struct budget *budget, const struct claim *claim, uint64_t now_ms)
{
    struct kit_answer answer = kit_acquire(budget, claim, now_ms, now_ms);

    CHECK_EQ_U64((uint64_t)answer.answer, BUDGET_GRANTED);
    return answer.id;
}

/* A granted lease that has loaded. */
static inline uint64_t kit_idle(struct budget *budget, const struct claim *claim, uint64_t now_ms)
{
    uint64_t id = kit_grant(budget, claim, now_ms);

    CHECK(budget_ready(budget, id, now_ms) == BUDGET_GRANTED);
    return id;
}

static inline uint64_t kit_wait(struct budget *budget, const struct claim *claim, uint64_t now_ms,
                                uint64_t deadline_ms)
{
    struct kit_answer answer = kit_acquire(budget, claim, now_ms, deadline_ms);

    CHECK_EQ_U64((uint64_t)answer.answer, BUDGET_QUEUED);
    return answer.id;
}

/* The kind of refusal of a claim that does not wait. */
static inline struct refusal kit_refused(struct budget *budget, const struct claim *claim,
                                         uint64_t now_ms)
{
    struct kit_answer answer = kit_acquire(budget, claim, now_ms, now_ms);

    CHECK_EQ_U64((uint64_t)answer.answer, BUDGET_REFUSED);
    return answer.refusal;
}

static inline enum lease_state kit_state(const struct budget *budget, uint64_t id)
{
    struct budget_lease_view view;

    return budget_view_lease(budget, id, &view) ? view.state : 0;
}

static inline struct budget_gpu_view kit_gpu(const struct budget *budget, uint32_t gpu)
{
    struct budget_gpu_view view;

    budget_view_gpu(budget, gpu, &view);
    return view;
}

/* Take decisions until one of that kind comes; kind 0 in the result: there is none. */
static inline struct decision kit_decision(struct budget *budget, enum decision_kind kind)
{
    struct decision decision;

    while (budget_next_decision(budget, &decision))
        if (decision.kind == kind)
            return decision;
    return (struct decision){ 0 };
}

static inline void kit_forget_decisions(struct budget *budget)
{
    struct decision decision;

    while (budget_next_decision(budget, &decision))
        ;
}

#endif
