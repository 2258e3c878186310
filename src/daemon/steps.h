/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_STEPS_H
#define DAEMON_STEPS_H

#include <stdint.h>

#include "budget/claim.h"

/*
 * Steps: all that leases do, one by one, bursts among them, for whoever records a trace of it
 * (`brim plan --record`, docs/internals/api.md). Nothing is made or kept while nobody follows. What
 * a program is, its arguments or its environment, is no part of it: only the name of its lease.
 */

struct daemon;
struct holder;

/* The claim of a lease in the words of a trace. Returns words. */
#define STEP_WORDS_BYTES 256
const char *step_words(const struct holder *holder, char words[STEP_WORDS_BYTES]);

/* A claim is asked for; lease_id 0: it got none, and `refused` follows. wait_ms: it waits so long;
 * CLOCK_NEVER_MS: for ever. */
void step_asked(struct daemon *daemon, uint64_t lease_id, const struct claim *claim,
                uint64_t wait_ms);
/* kind: a static text of docs/internals/api.md. */
void step_lease(struct daemon *daemon, const char *kind, uint64_t lease_id, uint64_t bytes);
/* Foreign use of a gpu (its number in the table), if it has changed. */
void step_foreign(struct daemon *daemon, uint32_t number);
/* Somebody begins to follow: what there is already. */
void steps_begin(struct daemon *daemon);

#endif
