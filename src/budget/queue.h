/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_QUEUE_H
#define BUDGET_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "budget/budget.h"
#include "budget/lease.h"
#include "budget/waitlist.h"

/*
 * Queue: who waits for a grant or for a burst, and who is next (laws 4 and 11).
 *
 * A waiter of one gpu stands in a line of that gpu; one that takes any gpu, or several, in a wide
 * line. Each of these scopes has six lines: bursts and claims of the three priorities. Order:
 *   bursts before claims: who is resident finishes, and gives back;
 *   then the closed: a waiter closes when it was passed overtake_max times or has waited for
 *     overtake_ms, and from then on nothing of its kind passes it on its gpus; closed ones go by
 *     arrival, so that no two can wait for each other;
 *   then by priority, which rises by one for each age_ms waited; inside one by arrival.
 *
 * A claim passes whoever waits on its gpus and came earlier or ranks before it, bursts included; a
 * burst passes bursts only. So each line is passed as a whole front part, and inside a line the
 * closed ones, and the risen ones, are front parts too: nobody is ever moved or looked at twice.
 * A grant on any gpu counts against every wide waiter: these close a little early, never late.
 *
 * Claims do not hold back bursts (a holder waiting for a claim that waits for holders would be a
 * deadlock), with one exception: a closed claim that law 2 admits waits only for what ends by
 * itself (running bursts, loads), so open bursts wait until it is in; closed bursts do not.
 *
 * A burst that could not be served even if all others had ended (foreign bytes broke law 2) closes
 * nothing for others while that lasts: they do not delay it, and would wait for ever with it.
 */

enum wait_class {
    WAIT_BURST_BACKGROUND,
    WAIT_BURST_NORMAL,
    WAIT_BURST_INTERACTIVE,
    WAIT_CLAIM_BACKGROUND,
    WAIT_CLAIM_NORMAL,
    WAIT_CLAIM_INTERACTIVE,
};
#define WAIT_CLASS_COUNT 6

struct wait_scope {
    struct waitlist lines[WAIT_CLASS_COUNT];
    uint32_t waiting;     /* a bit for each line where somebody waits */
    uint32_t count;       /* of all */
    uint32_t burst_count; /* of these: bursts */
};

struct queue {
    const struct budget_limits *limits; /* borrowed */
    struct wait_scope **scopes;         /* owned: [0] is the wide one, [1 + gpu] a gpu's */
    uint32_t scope_count;
    uint32_t count;
    uint64_t next_seq;
    struct heap timers;     /* UINT64_MAX - when the waiter must be looked at again */
    struct waiter *overdue; /* borrowed: deadline gone, no fresh facts yet */
};

void queue_deinit(struct queue *queue);
/* One more gpu. -ENOMEM. */
int queue_add_scope(struct queue *queue) __attribute__((warn_unused_result));
/* Room for a waiter of this lease. -ENOMEM. */
int queue_reserve(struct queue *queue, const struct lease *lease, bool is_burst)
    __attribute__((warn_unused_result));
/* need: of its parts the smallest of each. The waiter's deadline, burst
 * and gpus are set. */
void queue_enter(struct queue *queue, struct lease *lease, const struct room *need,
                 uint64_t now_ms);
void queue_leave(struct queue *queue, struct lease *lease);
void queue_set_overdue(struct queue *queue, struct waiter *waiter, uint64_t give_up_ms);
/* When the first waiter must be looked at; CLOCK_NEVER_MS: none. */
uint64_t queue_next_ms(const struct queue *queue);

/* Does anybody of that kind wait for the gpu? Wide ones may want others only. */
bool queue_is_waited_for(const struct queue *queue, uint32_t gpu, bool is_burst);

/* The closed waiter that goes first on a gpu, among bursts or among claims; NULL: none is closed.
 */
struct waiter *queue_closed(const struct queue *queue, uint32_t gpu, bool is_burst,
                            uint64_t now_ms);

/* Walk those waiters of a gpu that could fit into room, in the order of the queue. */
struct queue_walk {
    const struct queue *queue; /* borrowed */
    uint32_t gpu;
    bool is_burst;
    uint64_t now_ms;
    struct room room;
    uint32_t left;      /* a bit for each line where one is left */
    uint32_t places[6]; /* of the next one there: three wide lines, the gpu's three; by priority */
};
void queue_walk_begin(struct queue_walk *walk);
struct waiter *queue_walk_next(struct queue_walk *walk);

/* Somebody is granted on a gpu: count it against those it passes. waiter: NULL if it came just now.
 */
void queue_pass(struct queue *queue, const uint32_t *gpus, uint32_t gpu_count,
                const struct waiter *waiter, bool is_burst, uint64_t now_ms);
/* How many of its kind wait on that gpu in front of it (NULL: of a claim that comes now). */
uint32_t queue_count_before(const struct queue *queue, uint32_t gpu, const struct waiter *waiter,
                            bool is_burst, uint64_t now_ms);

#endif
