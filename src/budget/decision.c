/* SPDX-License-Identifier: Apache-2.0 */

#include "budget/decision.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void decisions_deinit(struct decisions *decisions)
{
    for (uint32_t i = 0; i < decisions->count; i++)
        free(decisions->records[(decisions->first + i) & (decisions->capacity - 1)].refusal);
    free(decisions->records);
    *decisions = (struct decisions){ 0 };
}

int decisions_reserve(struct decisions *decisions, uint32_t more)
{
    uint32_t capacity = decisions->capacity > 0 ? decisions->capacity : 16;
    struct decision_record *records;

    if (decisions->count + more <= decisions->capacity)
        return 0;
    while (capacity < decisions->count + more)
        capacity *= 2;
    records = malloc(capacity * sizeof(*records));
    if (!records)
        return -ENOMEM;
    for (uint32_t i = 0; i < decisions->count; i++)
        records[i] = decisions->records[(decisions->first + i) & (decisions->capacity - 1)];
    free(decisions->records);
    decisions->records = records;
    decisions->capacity = capacity;
    decisions->first = 0;
    return 0;
}

void decisions_add(struct decisions *decisions, const struct decision_record *take_record)
{
    assert(decisions->count < decisions->capacity);
    decisions->records[(decisions->first + decisions->count) & (decisions->capacity - 1)] =
        *take_record;
    decisions->count++;
}

bool decisions_take(struct decisions *decisions, struct decision *ret_decision)
{
    struct decision_record *record;

    if (decisions->count == 0)
        return false;
    record = &decisions->records[decisions->first];
    decisions->first = (decisions->first + 1) & (decisions->capacity - 1);
    decisions->count--;

    ret_decision->kind = record->kind;
    ret_decision->lease_id = record->lease_id;
    ret_decision->gpu = record->gpu;
    ret_decision->bytes = record->bytes;
    if (record->refusal)
        ret_decision->refusal = *record->refusal;
    else if (record->reason != REFUSAL_NONE)
        ret_decision->refusal = (struct refusal){ .kind = record->reason, .gpu = record->gpu };
    else
        ret_decision->refusal.kind = REFUSAL_NONE;
    free(record->refusal);
    return true;
}
