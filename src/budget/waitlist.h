/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_WAITLIST_H
#define BUDGET_WAITLIST_H

#include <stdbool.h>
#include <stdint.h>

#include "budget/heap.h"

/*
 * Waitlist: one line of waiters, first come first. It answers in O(log n)
 *   - which is the first that could fit into what is free (a tree over the places holds the
 * smallest needs below each node);
 *   - how many stand before a place;
 * and it counts how often each was passed. Who is granted passes a front part of the line, never
 * some in the middle; so the front one has been passed most, and it is enough to keep, at the last
 * place of each passed part, how often that part was passed: a waiter's count is the sum from its
 * place to the end, the front's is the sum of all.
 *
 * Places are the slots of an array in the order of arrival; who leaves leaves a hole, and holes go
 * when the array is full.
 */

struct lease;
struct waitlist;

struct waiter {
    struct lease *lease;   /* borrowed: the one it is in */
    struct waitlist *list; /* borrowed; NULL: it does not wait */
    uint32_t place;
    uint64_t seq; /* order of arrival over all lists */
    uint64_t queued_ms, deadline_ms;
    uint64_t gpus;        /* a bit for each gpu it waits for */
    uint64_t burst_bytes; /* a burst: as asked for; 0: the claim's */
    bool is_burst;
    bool is_judged;         /* fresh facts have said no at least once */
    bool is_closed;         /* it was granted because nothing may pass it any more */
    bool is_overdue;        /* its deadline came before any fresh facts */
    struct heap_node timer; /* owner: the lease */
    struct waiter *overdue_next, *overdue_prev; /* borrowed */
};

/* What must be free for a waiter: law 1, law 2 without and with its own burst. Of several parts the
 * smallest of each. */
struct room {
    uint64_t charge_bytes, resident_bytes, total_bytes;
};

struct waitlist_slot {
    struct waiter *waiter; /* borrowed; NULL: a hole */
    uint64_t seq, queued_ms;
    uint64_t passed; /* how often the line up to here was passed */
};

struct waitlist_node {
    struct room least;
    uint32_t count;
};

struct waitlist {
    struct waitlist_slot *slots; /* owned */
    struct waitlist_node *nodes; /* owned: a binary tree, root at 1, leaves from capacity on */
    uint32_t capacity, length;
    uint32_t front;  /* the first waiter's place; 0 when nobody waits, as is length */
    uint64_t passed; /* the sum over all slots */
};

#define WAITLIST_NONE UINT32_MAX

void waitlist_deinit(struct waitlist *list);
/* Room for one more. -ENOMEM. */
int waitlist_reserve(struct waitlist *list) __attribute__((warn_unused_result));
void waitlist_append(struct waitlist *list, struct waiter *waiter, const struct room *need);
void waitlist_remove(struct waiter *waiter);

static inline uint32_t waitlist_count(const struct waitlist *list)
{
    return list->capacity > 0 ? list->nodes[1].count : 0;
}

/* The first place at or after `from` whose waiter could fit into room (NULL: any waiter). */
uint32_t waitlist_find(const struct waitlist *list, uint32_t from, const struct room *room);
/* Could this waiter fit? */
bool waitlist_may_fit(const struct waiter *waiter, const struct room *room);
/* How many wait at places below `end`. */
uint32_t waitlist_count_before(const struct waitlist *list, uint32_t end);
/* The end of the front part that came before seq; that waits since queued_ms or longer. */
uint32_t waitlist_end_of_seq(const struct waitlist *list, uint64_t seq);
uint32_t waitlist_end_of_time(const struct waitlist *list, uint64_t queued_ms);

/* Everybody below `end` was passed once more. */
void waitlist_pass(struct waitlist *list, uint32_t end);
/* How often a waiter was passed: O(1) for the front, else O(n). */
uint64_t waitlist_passed(const struct waitlist *list, const struct waiter *waiter);

#endif
