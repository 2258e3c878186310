/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_STATE_H
#define BUDGET_STATE_H

#include "budget/budget.h"
#include "budget/decision.h"
#include "budget/lease.h"
#include "budget/ledger.h"
#include "budget/queue.h"

/* The inside of struct budget, for the files of this folder. Who does what:
 *   budget.c   gpus, clock, the life of the whole      lifecycle.c  acquire, ready, release;
 * resize.c admit.c    may this be granted now, and why not    burst.c      bursts pump.c     grants
 * to those who wait, deadlines     observe.c    facts, draining, recovery explain.c  verdicts to
 * refusals                    view.c, check.c
 */

#define BUDGET_GPU_MAX 64

/* Who asked without waiting while the facts were too old is told so at last if none come. */
#define BUDGET_STALE_GRACE_MS 5000
/* Someone waits for draining bytes: look first after this long, then ever more seldom. */
#define BUDGET_DRAIN_POLL_MS 10

struct budget {
    struct budget_limits limits;
    uint64_t now_ms;                        /* never goes back */
    struct ledger *ledgers[BUDGET_GPU_MAX]; /* owned */
    uint32_t gpu_count;
    struct lease_table leases;
    struct queue queue;
    struct decisions decisions;
    uint64_t sample_serial;
};

/* May it be granted now? NONE and not stale: yes. */
struct verdict {
    enum refusal_kind kind;
    bool is_stale;        /* the facts of that gpu are too old to grant on */
    uint32_t gpu;         /* where it goes, or which came closest */
    uint64_t asked_bytes; /* on that gpu */
    uint64_t short_bytes;
};

static inline bool verdict_is_yes(const struct verdict *verdict)
{
    return verdict->kind == REFUSAL_NONE && !verdict->is_stale;
}
/* No wait can help. */
bool verdict_is_final(const struct verdict *verdict);

/* admit.c. waiter: NULL if it comes just now. */
struct verdict admit_claim(const struct budget *budget, const struct claim *claim,
                           const struct waiter *waiter);
struct verdict admit_burst(const struct budget *budget, const struct lease *lease, uint64_t bytes,
                           const struct waiter *waiter);
struct verdict admit_waiter(const struct budget *budget, const struct waiter *waiter);
/* Do open bursts wait on this gpu until a closed claim is in? */
bool admit_holds_bursts(const struct budget *budget, uint32_t gpu);

/* lifecycle.c. The lease is not queued any more; gpu replaces "any". -ENOMEM changes nothing. */
int lease_reserve_parts(struct budget *budget, const struct lease *lease, uint32_t gpu);
void lease_grant(struct budget *budget, struct lease *lease, uint32_t gpu);
void lease_set_state(struct budget *budget, struct lease *lease, enum lease_state state);
/* A bit for each gpu that its wait concerns. */
uint64_t waiter_gpus(const struct budget *budget, const struct lease *lease);
void lease_dirty_gpus(struct budget *budget, const struct lease *lease);

/* burst.c */
void burst_take(struct budget *budget, struct lease *lease, uint64_t bytes);

/* pump.c: grant to whoever waits and can be served, wherever something was freed; then say which
 * facts are needed. Every function that changes something ends with it. */
void budget_pump(struct budget *budget);
void budget_want_facts(struct budget *budget, uint32_t gpu);
void budget_pass_time(struct budget *budget, uint64_t now_ms);
/* Put a lease, whose waiter is filled in, into the queue. There is room. */
void queue_wait(struct budget *budget, struct lease *lease);
/* Refuse a waiter. false: no memory to say so, it stays. */
bool waiter_refuse(struct budget *budget, struct waiter *waiter, const struct verdict *verdict);

void budget_refuse_overdue(struct budget *budget);

/* observe.c: leases that drain on a gpu of which no facts may ever come. */
void budget_drain_lost(struct budget *budget, uint32_t gpu);

/* explain.c. refusal may be NULL. name, lease: who asked; lease is NULL for one that has none. */
void refusal_fill(const struct budget *budget, const struct verdict *verdict,
                  const struct claim *claim, const struct lease *lease, struct refusal *refusal);
/* On the heap; NULL: no memory. */
struct refusal *refusal_new(const struct budget *budget, const struct verdict *verdict,
                            const struct lease *lease);

#endif
