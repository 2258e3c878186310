/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_HABITS_H
#define DAEMON_HABITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Habits: what a lease did, on average, told when it ends: how long it loaded, how long its bursts
 * were, and how long it was idle before one. Times are of the monotonic clock.
 */

struct habits {
    uint64_t wait_ms; /* how long its claim would have waited; CLOCK_NEVER_MS: for ever */
    uint64_t granted_ms, ready_ms; /* 0: not yet */
    uint64_t since_ms;             /* of being idle, or busy */
    uint64_t busy_ms, idle_ms;     /* sums over the bursts */
    uint32_t burst_count;          /* those that have ended */
    bool is_busy;
};

void habits_granted(struct habits *habits, uint64_t now_ms);
void habits_ready(struct habits *habits, uint64_t now_ms);
void habits_burst(struct habits *habits, uint64_t now_ms);
void habits_burst_end(struct habits *habits, uint64_t now_ms);
/* "load=1.200s busy=0.800s idle=8s", in the words of a trace. Returns text. */
#define HABITS_TEXT_BYTES 96
const char *habits_text(const struct habits *habits, char text[HABITS_TEXT_BYTES]);

#endif
