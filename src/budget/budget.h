/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_BUDGET_H
#define BUDGET_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "budget/claim.h"
#include "budget/refusal.h"

/*
 * Budget: who holds how many bytes of which gpu, who waits for them, and who is next. Pure: time
 * and facts are arguments, decisions come out as values. One thread.
 *
 * Laws, checked by budget_check():
 *
 * 1. Never over: at every grant, on each gpu, Σ charges + draining + reserve + foreign <= capacity,
 *    and the facts are at most facts_max_age_ms old.
 * 2. Progress: at every grant of residence, reserve + foreign + draining + Σ resident + the largest
 *    burst (or load_peak - resident while one loads) of any holder <= capacity.
 * 3. One owner: every charged byte belongs to exactly one lease; the sums equal their parts.
 * 4. Overtaking: a waiter is passed at most overtake_max times or for overtake_ms, whichever is
 *    first; after age_ms it rises one priority.
 *
 *            budget_acquire           budget_ready          budget_burst_begin
 *   (none) ------> QUEUED ---> LOADING -----------> IDLE <-----------------> BUSY
 *                    |            |                   |    budget_burst_end    |
 *                    | budget_release, the deadline   | budget_release         |
 *                    v            v                   v                        v
 *                  (gone)      DRAINING <------------------------------------- +
 *                                 | budget_observe shows its bytes gone
 *                                 v
 *                               (gone)
 */

enum lease_state {
    LEASE_STATE_QUEUED = 1,
    LEASE_STATE_LOADING = 2,
    LEASE_STATE_IDLE = 3,
    LEASE_STATE_BUSY = 4,
    LEASE_STATE_PARKED = 5,
    LEASE_STATE_DRAINING = 6,
};
const char *lease_state_name(enum lease_state state); /* "queued" … */

struct budget_limits {
    uint64_t facts_max_age_ms; /* 250 */
    uint32_t overtake_max;     /* 8: a waiter may be passed so often */
    uint64_t overtake_ms;      /* 30 000: or for so long */
    uint64_t age_ms;           /* 120 000: then it rises one priority */
    uint64_t drain_min_ms;     /* a draining lease without measurement is gone after that: 1 000 */
    uint32_t lease_max;        /* leases and waiters in all: 20 000 */
};
#define BUDGET_LIMITS_DEFAULT                                                                      \
    {                                                                                              \
        .facts_max_age_ms = 250, .overtake_max = 8, .overtake_ms = 30000, .age_ms = 120000,        \
        .drain_min_ms = 1000, .lease_max = 20000                                                   \
    }

/* Answers of the functions that ask for something. Negative: -ENOMEM. */
enum budget_answer {
    BUDGET_GRANTED = 0,
    BUDGET_QUEUED = 1,
    BUDGET_REFUSED = 2,
};

/* What came of a wait, or what a holder must be asked. Taken by budget_next_decision(). */
enum decision_kind {
    DECISION_GRANTED = 1,   /* a queued lease is now LOADING (or BUSY, where it is always busy) */
    DECISION_BURST_GRANTED, /* a waiting burst is now taken */
    DECISION_REFUSED,       /* a queued lease's deadline passed; it is gone */
    DECISION_BURST_REFUSED, /* a waiting burst's deadline passed; the lease stays IDLE */
    DECISION_DRAINED,       /* a draining lease's bytes are back; it is gone */
    DECISION_ASK_TRIM,      /* over the sum: ask this idle holder to free `bytes` */
    DECISION_ASK_STOP,      /* the laws no longer hold: ask this holder to leave at its boundary */
    DECISION_OVERDRAFT,     /* a lease is measured above its claim by `bytes` (once per growth) */
    DECISION_NEED_FACTS,    /* someone waits for newer facts of `gpu` */
};

struct decision {
    enum decision_kind kind;
    uint64_t lease_id;
    uint32_t gpu;
    uint64_t bytes;
    struct refusal refusal; /* REFUSED, BURST_REFUSED, ASK_STOP: why; else only its kind, NONE */
};

struct budget; /* opaque; owned by whoever called budget_new */

int budget_new(const struct budget_limits *limits, struct budget **ret_budget);
void budget_free(struct budget *budget); /* NULL is fine */

/* Gpus are numbered 0, 1 … in the order of adding. reserve_bytes are never granted. */
int budget_add_gpu(struct budget *budget, uint64_t capacity_bytes, uint64_t reserve_bytes,
                   uint32_t *ret_gpu);
/* Not managed by us (another arbiter holds it, or it is lost): nothing is granted there. */
void budget_set_gpu_managed(struct budget *budget, uint32_t gpu, bool is_managed);

/* One measurement of one gpu. measured: bytes of the process trees of leases (draining ones too),
 * each lease at most once; leases that are not listed measure 0. Foreign = used - Σ measured, never
 * below 0. Where the driver gives no bytes for processes, has_process_bytes is false and foreign =
 * used - Σ charges. now_ms: when the sample was begun; one from before a release does not end the
 * draining. May grant: take the decisions afterwards. */
struct budget_measure {
    uint64_t lease_id;
    uint64_t bytes;
};
struct budget_facts {
    uint64_t used_bytes; /* by the driver, all processes */
    bool has_process_bytes;
    const struct budget_measure *measured; /* borrowed */
    size_t measured_count;
};
int budget_observe(struct budget *budget, uint32_t gpu, const struct budget_facts *facts,
                   uint64_t now_ms);

/* Ask for a lease. GRANTED: *ret_lease_id is LOADING. QUEUED: it waits until deadline_ms
 * (CLOCK_NEVER_MS: for ever), *ret_refusal says for what. REFUSED: nothing changed; deadline_ms <=
 * now_ms never queues, except for the facts that it needs and does not have: the next observation
 * grants or refuses it. What can never fit is refused at once whatever the deadline. ret_refusal
 * may be NULL, here and below. */
int budget_acquire(struct budget *budget, const struct claim *claim, uint64_t now_ms,
                   uint64_t deadline_ms, uint64_t *ret_lease_id, struct refusal *ret_refusal);

/* Put back a lease that is known to live (a restart, an adoption), whatever the sum says.
 * lease_id: the one it had, or 0 for a fresh one. claim's parts name their gpus. */
int budget_restore(struct budget *budget, const struct claim *claim, uint64_t lease_id,
                   enum lease_state state, uint64_t now_ms, uint64_t *ret_lease_id);

/* The ids below have been given out before: new leases get larger ones. */
void budget_reserve_ids(struct budget *budget, uint64_t next_lease_id);

int budget_ready(struct budget *budget, uint64_t lease_id, uint64_t now_ms);
/* bytes: 0 = the claim's burst, on every part. Waits, and is refused, as a claim is. */
int budget_burst_begin(struct budget *budget, uint64_t lease_id, uint64_t bytes, uint64_t now_ms,
                       uint64_t deadline_ms, struct refusal *ret_refusal);
int budget_burst_end(struct budget *budget, uint64_t lease_id, uint64_t now_ms);
/* A new claim, the same on every part, without a wait. Growing needs fresh facts: refused with
 * REFUSAL_STALE_FACTS, it is worth another try after the next observation. */
int budget_resize(struct budget *budget, uint64_t lease_id, uint64_t resident_bytes,
                  uint64_t burst_bytes, uint64_t now_ms, struct refusal *ret_refusal);
/* The holder is gone or gives back: a waiter vanishes, a holder drains. */
int budget_release(struct budget *budget, uint64_t lease_id, uint64_t now_ms);

/* Pass the time: deadlines, ageing, grants. */
void budget_advance(struct budget *budget, uint64_t now_ms);
/* When budget_advance() is due next; CLOCK_NEVER_MS: not before something else happens. */
uint64_t budget_next_wakeup_ms(const struct budget *budget);
/* Of that, when the first wait's deadline comes. */
uint64_t budget_next_deadline_ms(const struct budget *budget);
/* Take the oldest decision; false when there is none. */
bool budget_next_decision(struct budget *budget, struct decision *ret_decision);

/* Why a queued lease or a waiting burst still waits; REFUSAL_NONE when it does not. */
void budget_explain(const struct budget *budget, uint64_t lease_id, uint64_t now_ms,
                    struct refusal *ret_refusal);
/* What would be said to this claim now, changing nothing (`brim why`, `brim ps`). */
void budget_probe(const struct budget *budget, const struct claim *claim, uint64_t now_ms,
                  struct refusal *ret_refusal);

/* Views, for people. */
struct budget_gpu_view {
    uint64_t capacity_bytes, reserve_bytes, used_bytes, foreign_bytes, charged_bytes,
        draining_bytes;
    uint64_t free_bytes;          /* what a new lease without a burst could get now */
    uint64_t largest_burst_bytes; /* of the holders: kept free by law 2 */
    uint64_t facts_at_ms;
    bool has_facts, has_process_bytes, is_managed;
};
struct budget_lease_view {
    uint64_t id;
    const struct claim *claim; /* borrowed; parts name the gpus that were granted */
    enum lease_state state;
    bool is_burst_waiting;
    uint64_t charge_bytes[CLAIM_PART_MAX], measured_bytes[CLAIM_PART_MAX];
    uint64_t burst_taken_bytes;
    uint64_t since_ms; /* of the state */
    uint32_t waiting_before;
};
size_t budget_gpu_count(const struct budget *budget);
void budget_view_gpu(const struct budget *budget, uint32_t gpu, struct budget_gpu_view *ret_view);
/* false: no such lease. */
bool budget_view_lease(const struct budget *budget, uint64_t lease_id,
                       struct budget_lease_view *ret_view);
/* Walk all leases in the order of their ids: start with 0, ends with 0. */
uint64_t budget_next_lease(const struct budget *budget, uint64_t lease_id);

/* The laws as code, O(n log n): aborts with a line that names the law. For tests and simulation. */
void budget_check(const struct budget *budget);

#endif
