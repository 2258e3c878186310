/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_HELPER_H
#define DAEMON_HELPER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "wire/facts.h"

/*
 * The supervision of brim-helper, the child that asks the driver. Driver calls can hang for ever,
 * so every answer has a deadline: a helper that misses it, ends, or talks nonsense is killed and
 * started again, later and later (100 ms … 10 s) while it keeps failing.
 *
 *              helper_open              the answer's end
 *   (none) --------------> IDLE <------------------------- ASKED
 *                           | ^ \ ------ helper_ask ------> |
 *          the child ended  | | the backoff has passed      | the deadline, the child ended,
 *                           v |                             | or a packet that is no answer
 *                          DOWN <---------------------------+
 */

#define HELPER_DEADLINE_MS 2000

struct helper;

/* All run in the loop. An answer is on_gpu for each gpu, then on_end once; a failure is on_failed
 * once, whatever came before it. A fresh child says on_ready. */
struct helper_events {
    void *user; /* borrowed */
    void (*on_gpu)(void *user, const struct facts_gpu *gpu);
    void (*on_end)(void *user, const struct facts_end *end);
    void (*on_failed)(void *user, const char *problem);
    void (*on_ready)(void *user);
};

/* Fails only where the program is not installed or memory is out. */
int helper_open(uv_loop_t *loop, const struct helper_events *events, struct helper **ret_helper,
                struct error *err);
/* Ask for facts. false: it is down, or still answers the last question. */
bool helper_ask(struct helper *helper);
bool helper_is_asked(const struct helper *helper);
bool helper_is_down(const struct helper *helper);
/* Ends the child; on_closed runs in the loop when all handles are gone, and helper with them. */
void helper_close(struct helper *helper, void (*on_closed)(void *user), void *user);

#endif
