/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_DECISION_H
#define BUDGET_DECISION_H

#include "budget/budget.h"

/*
 * Decisions that wait to be taken, oldest first. Whoever decides makes room first
 * (decisions_reserve) and does nothing without it: a decision is never lost for want of memory,
 * only later.
 */

struct decision_record {
    enum decision_kind kind;
    enum refusal_kind reason; /* REFUSAL_NONE, or the refusal's kind: it survives want of memory */
    uint32_t gpu;
    uint64_t lease_id;
    uint64_t bytes;
    struct refusal *refusal; /* owned; NULL: none */
};

struct decisions {
    struct decision_record *records; /* owned: a ring */
    uint32_t capacity, first, count;
};

void decisions_deinit(struct decisions *decisions);
int decisions_reserve(struct decisions *decisions, uint32_t more)
    __attribute__((warn_unused_result));
void decisions_add(struct decisions *decisions, const struct decision_record *take_record);
bool decisions_take(struct decisions *decisions, struct decision *ret_decision);

#endif
