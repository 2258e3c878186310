/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_LEASE_H
#define BUDGET_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "budget/budget.h"
#include "budget/ledger.h"
#include "budget/waitlist.h"

/* Lease: a claim with a state. While it waits, for its grant or for a burst, its waiter stands in a
 * waitlist; from its grant until it is drained its parts are counted in ledgers. */
struct lease {
    uint64_t id;
    struct claim claim; /* a part's gpu is CLAIM_GPU_ANY until it is granted */
    enum lease_state state;
    uint64_t since_ms;
    struct waiter waiter;
    struct ledger *stop_ledger; /* borrowed: the gpu for which it was asked to stop, or NULL */
    struct lease *next, *prev;  /* borrowed: in the order of ids */
    struct part parts[];        /* claim.part_count */
};

/* What a part of a claim needs at its grant. */
struct need {
    uint64_t charge_bytes;   /* law 1 */
    uint64_t resident_bytes; /* law 2 */
    uint64_t extra_bytes;    /* law 2: its largest step */
};

/* REFUSAL_NONE or REFUSAL_BAD_CLAIM: zero bytes, a sum that wraps around, parts that clash. */
enum refusal_kind claim_check(const struct claim *claim);
/* Of a checked claim; no sum of a need wraps around. */
struct need claim_need(const struct claim *claim, uint32_t part_index);
/* The most that a part will ever be charged: its resident and its largest step. */
uint64_t need_total_bytes(const struct need *need);

/* NULL: no memory. The lease belongs to the caller until it is in a table. */
struct lease *lease_new(const struct claim *claim);
void lease_free(struct lease *lease);
bool lease_is_held(const struct lease *lease); /* LOADING, IDLE, BUSY: it has a living holder */
/* What a burst of `bytes` (0: as claimed) takes on a part. */
uint64_t lease_burst_bytes(const struct lease *lease, uint32_t part_index, uint64_t bytes);
/* It waits for a burst that would not fit even if every other burst had ended: for as long as
 * foreign bytes or an overdraft break law 2. */
bool lease_burst_is_hopeless(const struct lease *lease);

/* Lease table: id -> lease in O(1), and all leases in the order of their ids. */
struct lease_table {
    struct lease **slots; /* owned array: open addressing, linear probing */
    uint32_t capacity, count;
    uint64_t next_id;
    struct lease *first, *last; /* borrowed */
};

void lease_table_deinit(struct lease_table *table); /* frees all leases */
int lease_table_reserve(struct lease_table *table) __attribute__((warn_unused_result));
/* Takes the lease; its id is set, new to the table, and there is room. */
void lease_table_add(struct lease_table *table, struct lease *take_lease);
/* NULL: none has that id. */
struct lease *lease_table_find(const struct lease_table *table, uint64_t id);
/* Takes it out and frees it. */
void lease_table_drop(struct lease_table *table, struct lease *lease);

#endif
