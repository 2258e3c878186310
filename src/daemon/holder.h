/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_HOLDER_H
#define DAEMON_HOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "budget/budget.h"
#include "daemon/holders.h"

/*
 * The life of a lease's holder, and what the budget hears of it.
 *
 *   kind of lease      ends when
 *   common             its connection ends, or the peer's process does, whichever is first
 *   HELD_BY_PROCESS    its process has ended and its connection too (a child may have inherited it)
 *   ADOPT              the adopted process ends
 *   restored           nobody has come back for it in REATTACH_MS; HELD_BY_PROCESS: its process
 * ends
 *
 * Whoever only waits is gone with its connection, whatever the kind.
 */

#define REATTACH_MS   10000 /* after a restart, for holders to come back */
#define AWAIT_MS      3000  /* of it, what others wait for: libbrim comes within a second or two */
#define KILL_AFTER_MS 10000 /* SIGTERM, then SIGKILL */

struct daemon;
struct session;
struct watch_listener;

/* An entry for a lease of the budget's. The holder's process is watched: share of `process` (the
 * peer's), or an own one of pid where that is not the peer. On failure there is no entry, and the
 * budget's lease is the caller's to release. */
struct holder_terms {
    uint64_t lease_id;
    uint32_t flags; /* BRIM_CLAIM_* */
    uid_t uid;
    pid_t pid;
    uint64_t start_ticks; /* 0: whichever it is now */
};
int holder_begin(struct daemon *daemon, const struct holder_terms *terms, struct session *session,
                 struct holder **ret_lease);

/* The lease is granted now: tell the events, the journal, and the session (acquire_seq). A holder
 * that will not come back after a restart, as it is to become another program, is told only when
 * the journal has its lease. */
void holder_granted(struct holder *holder);
/* Tell the session. */
void holder_tell_granted(struct holder *holder);
/* The connection has ended. lease may be gone afterwards. */
void holder_disconnected(struct holder *holder);
/* Give back what it has; a waiter vanishes. lease may be gone afterwards. */
void holder_release(struct holder *holder, const char *reason);
/* The budget has let go of it: the entry ends. */
void holder_forget(struct holder *holder);

/* After a restart: it may be in a burst that the journal missed by a moment, so that until it has
 * told, or AWAIT_MS have passed, nothing is granted to anybody. */
void holder_await(struct holder *holder);
/* It has told, or is gone. */
void holder_await_no_more(struct holder *holder);

/* Ask the holder to end: a message, or SIGTERM where nobody listens. */
void holder_stop(struct holder *holder, const char *reason);

/* Once a second: deadlines of stops and of restored leases, news for waiters. true: there is
 * something left to look after. */
bool holders_look_after(struct daemon *daemon);

#endif
