/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_REFUSAL_H
#define BUDGET_REFUSAL_H

#include <stddef.h>
#include <stdint.h>

#include "budget/claim.h"

/*
 * A refusal is a reason as data: what was asked, what is free, who holds the rest, what would have
 * to give way, what to change. The same struct explains why a queued lease or burst still waits.
 * refusal_text() is the one place that makes sentences of it.
 */

#define REFUSAL_HOLDER_MAX 6

enum refusal_kind {
    REFUSAL_NONE = 0,
    REFUSAL_NEVER_FITS,    /* larger than capacity - reserve: no wait can help */
    REFUSAL_NO_ROOM,       /* Σ charges + draining + reserve + foreign leaves too little (law 1) */
    REFUSAL_NO_PROGRESS,   /* it fits, but somebody's burst could then never be served (law 2) */
    REFUSAL_BEHIND,        /* it would fit, but others have waited longer or come first */
    REFUSAL_LOAD_WINDOW,   /* another lease loads alone on that gpu, or this one waits for bursts */
    REFUSAL_STALE_FACTS,   /* the gpu's facts are too old to grant on */
    REFUSAL_OVERCOMMITTED, /* foreign use or an overdraft broke the sum: nothing new until it holds
                            */
    REFUSAL_NO_GPU,        /* no such gpu, or none at all */
    REFUSAL_BAD_CLAIM,     /* zero bytes, overflow, too many parts, the same gpu twice */
    REFUSAL_BAD_STATE,     /* a burst while loading, a second burst, an unknown lease … */
    REFUSAL_QUEUE_FULL,    /* a limit of the budget is reached */
    REFUSAL_CANCELLED,
};

struct refusal_holder {
    uint64_t lease_id;
    char name[CLAIM_NAME_BYTES];
    uint64_t charge_bytes;
    uint64_t burst_bytes; /* what it may still take */
    uint8_t state;        /* enum lease_state */
};

struct refusal {
    enum refusal_kind kind;
    char name[CLAIM_NAME_BYTES]; /* who asked */
    uint32_t gpu;                /* the gpu it speaks of (of "any": the one that came closest) */
    uint64_t asked_bytes;        /* what must fit at that moment */
    uint64_t free_bytes;         /* what could be charged at that moment */
    uint64_t short_bytes;        /* how much is missing */
    uint64_t capacity_bytes, reserve_bytes, foreign_bytes, charged_bytes, draining_bytes;
    uint64_t most_bytes; /* what this gpu could ever give: capacity - reserve */
    /* NO_PROGRESS: whose burst could never be served, and how large it is (may be the asker's). */
    struct refusal_holder blocked;
    /* The largest holders, largest first. */
    uint32_t holder_count; /* how many there are in all; the first REFUSAL_HOLDER_MAX follow */
    struct refusal_holder holders[REFUSAL_HOLDER_MAX];
    uint32_t waiting_before; /* BEHIND: how many go first */
};

/* The reason for a person, one or more lines without a trailing newline: what failed, on what, and
 * what to do. gpu_name is how people call that gpu ("gpu 0 (NVIDIA H200)"); NULL: its number. */
const char *refusal_text(const struct refusal *refusal, const char *gpu_name, char *text,
                         size_t text_bytes);

/* One line of at most about 100 columns, for tables. Returns text. */
const char *refusal_line(const struct refusal *refusal, char *text, size_t text_bytes);

#endif
