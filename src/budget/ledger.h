/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_LEDGER_H
#define BUDGET_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "budget/budget.h"
#include "budget/heap.h"

/*
 * Ledger: the sums of one gpu. A part is one lease's share of one gpu; every byte in a sum belongs
 * to exactly one part (law 3), because a part remembers what it has counted and takes back just
 * that before it counts anew (ledger_settle).
 *
 *   charge    max(what the state claims, what is measured)          law 1: Σ charges
 *   resident  what stays when the burst is over, and the overdraft  law 2: Σ resident
 *   extra     the largest step the holder may yet take: its burst, or load_peak - resident while it
 *             loads                                                 law 2: the largest one
 *
 * Why foreign is not counted twice. One sample gives `used` of the card and `measured` of each
 * lease's process tree at the same moment, so foreign = used - Σ measured is what nobody of ours
 * holds at that moment. A claim that is not in use yet adds nothing to used and nothing to
 * measured: its charge stands for bytes to come, and foreign bytes that are there already stand
 * beside it. Once it is in use its bytes are in used and in measured alike, and foreign stays as it
 * was; the charge is the larger of the two figures and not their sum. A lease that is granted, or
 * that grows, between two samples is covered by its claim. One that is measured above its claim
 * moves bytes from foreign to its own charge. A draining lease that the driver no longer lists, but
 * whose bytes are still in used, turns into foreign until they are gone: the sum does not move.
 *
 * Where the driver gives no bytes for processes, foreign = used - Σ charges. A lease that loads has
 * a charge without the bytes, which would hide foreign bytes behind it; so while one loads the
 * figure may rise and does not fall.
 *
 * Overdraft. A measurement that is older than a change of state (a burst just ended) is not an
 * overdraft. A part's overdraft is what is measured above the most it has claimed since the sample
 * before; the charge takes the plain maximum all the same, until a newer sample shows the bytes
 * gone.
 *
 * No figure may pass LEDGER_BYTES_MAX, so that no sum of all of them can wrap around.
 */

#define LEDGER_BYTES_MAX (UINT64_C(1) << 46)
#define LEDGER_LEASE_MAX (UINT32_C(1) << 17)

struct lease;
struct ledger;

/* What a part has put into its ledger's sums. */
struct tally {
    uint64_t charged_bytes;  /* of a holder */
    uint64_t draining_bytes; /* of one that has gone */
    uint64_t resident_bytes;
    uint32_t loading_count; /* these four: 0 or 1 in a part */
    uint32_t busy_count;    /* a burst that will end: not the always busy */
    uint32_t alone_count;
    uint32_t draining_count;
};

struct part {
    struct lease *lease;   /* borrowed: the one it is in */
    struct ledger *ledger; /* borrowed; NULL: counted nowhere */

    uint64_t resident_bytes; /* claimed; of one that is always busy: everything */
    uint64_t burst_bytes;
    uint64_t load_bytes;  /* while loading: at least resident_bytes */
    uint64_t taken_bytes; /* of the burst, while BUSY */
    uint64_t drain_bytes; /* while DRAINING: the charge at the release, 0 once observed */

    uint64_t measured_bytes;
    uint64_t overdraft_bytes;
    uint64_t claimed_peak_bytes; /* the most it has claimed since the last observation */

    struct tally tally;
    struct heap_node by_charge, by_extra;

    uint64_t sample_serial, sample_bytes; /* of the observation in progress */
    struct part *watch_next, *watch_prev; /* borrowed: those the next observation must visit */
    bool is_watched;
};

struct ledger {
    uint32_t gpu;
    bool is_managed, has_facts, has_process_bytes;
    uint64_t capacity_bytes, reserve_bytes;
    uint64_t used_bytes, foreign_bytes;
    uint64_t facts_at_ms;

    struct tally sum;
    uint64_t measured_bytes;
    struct heap charges; /* all parts */
    struct heap extras;  /* of holders, not of draining ones */
    struct part *watched;

    uint64_t drained_ms;  /* the last release: how often to look whether the bytes are back */
    uint32_t stop_count;  /* leases that were asked to stop for this gpu and are still here */
    bool is_trim_asked;   /* a law does not hold, and the idle were asked to trim */
    bool is_facts_asked;  /* NEED_FACTS was said and not answered */
    bool is_facts_behind; /* a newer sample would lower a charge */
    bool is_dirty;        /* something was freed since the queue was looked through */
};

/* What the state claims, without measurement. */
uint64_t part_claimed_bytes(const struct part *part);
/* What is charged: 0 while it is counted nowhere. */
uint64_t part_charge_bytes(const struct part *part);

void ledger_deinit(struct ledger *ledger);
/* Room for one more part. -ENOMEM. */
int ledger_reserve(struct ledger *ledger) __attribute__((warn_unused_result));
/* Count a part, for which there is room. */
void ledger_enter(struct ledger *ledger, struct part *part);
/* Count it anew after its lease's state, its claim or its measurement changed. */
void ledger_settle(struct part *part);
void ledger_leave(struct part *part);

void ledger_watch(struct part *part);
void ledger_unwatch(struct part *part);

/* Law 1's sum: charges, draining, reserve, foreign. */
uint64_t ledger_bound_bytes(const struct ledger *ledger);
/* Law 2's sum without anybody's burst, and with the largest. */
uint64_t ledger_resident_bytes(const struct ledger *ledger);
uint64_t ledger_progress_bytes(const struct ledger *ledger);
bool ledger_holds(const struct ledger *ledger);
/* What a new lease without a burst could be charged: within both laws. */
uint64_t ledger_free_bytes(const struct ledger *ledger);
/* What a burst could be charged: within law 1. */
uint64_t ledger_burst_room_bytes(const struct ledger *ledger);
/* What a gpu could ever give. */
uint64_t ledger_most_bytes(const struct ledger *ledger);
bool ledger_is_fresh(const struct ledger *ledger, uint64_t now_ms, uint64_t max_age_ms);

#endif
