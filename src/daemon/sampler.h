/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_SAMPLER_H
#define DAEMON_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/error.h"

/*
 * When facts are asked for. Nothing is granted on facts older than 250 ms, and an idle daemon
 * does not work:
 *
 *   somebody asks for memory, and the facts are     at once; the request waits for them
 *   older than 50 ms (a lease) or 200 ms (a burst)
 *   a holder ended                                  at once, then 10 ms … 250 ms apart until its
 *                                                   bytes are seen back
 *   a holder frees                                  at once
 *   leases or waiters exist, or did a moment ago    every 200 ms
 *   somebody looked at the status of late           every 2 s
 *   none of these                                   never
 *
 * Two questions are at least 10 ms apart; only the one after a holder's end, for which others may
 * wait, comes sooner, once in 20 ms.
 */

struct daemon;

#define SAMPLER_BURST_MS      200 /* facts this old or younger are good enough for a burst */
#define SAMPLER_ACQUIRE_MS    50  /* for a lease, which takes more, and for longer */
#define SAMPLER_STATUS_MS     100 /* and to be shown */
#define SAMPLER_PROBLEM_BYTES 256

struct refresher;
TAILQ_HEAD(refresher_list, refresher);

struct sampler {
    uv_timer_t timer;
    uint64_t asked_at_ms;      /* when the last question went out */
    uint64_t facts_at_ms;      /* when the one went out that was answered last; 0: none yet */
    uint64_t due_ms;           /* what the timer is set to */
    bool is_wanted;            /* ask as soon as the helper can */
    bool is_hurried;           /* and a holder has ended since the last question */
    uint64_t hurry_from_ms;    /* not sooner than that */
    uint64_t drain_step_ms;    /* the backoff while something drains; 0: nothing does */
    uint64_t active_until_ms;  /* a lease was here a moment ago */
    uint64_t watched_until_ms; /* somebody looks */
    bool is_answering;         /* the helper is in the middle of an answer */
    bool is_helper_failing;    /* the last question had no answer at all */
    bool is_restored;          /* the gpus are known, and the last daemon's leases are back */
    char problem[SAMPLER_PROBLEM_BYTES]; /* "" : none */
    struct refresher_list refreshers;
    uv_timer_t refresh_timer;
};

/* Starts the helper. */
int sampler_open(struct daemon *daemon, struct error *err);
void sampler_close(struct daemon *daemon);

/* The world changed: ask the helper at once, or when it has answered what it is asked. */
void sampler_want(struct daemon *daemon);
/* A holder is gone: look often until its bytes are back. */
void sampler_want_drain(struct daemon *daemon);
/* Leases came or went: plan the next question anew. */
void sampler_plan(struct daemon *daemon);
uint64_t sampler_facts_age_ms(const struct daemon *daemon); /* UINT64_MAX: none yet */

/* See struct api_source: refresh. */
bool sampler_refresh(struct daemon *daemon, void (*on_fresh)(void *context), void *context);

#endif
