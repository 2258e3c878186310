/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_HOLDERS_H
#define DAEMON_HOLDERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "budget/budget.h"
#include "daemon/habits.h"
#include "daemon/watch.h"

/*
 * What the daemon knows of a lease beside the budget: who holds it, on which connection, and which
 * process tree its bytes are. One entry for each lease of the budget, from the moment it waits
 * until its bytes are back (draining ones are still needed to tell whose bytes they are).
 *
 * The registry finds entries by id in O(1) and walks them all; it decides nothing.
 */

struct session;
struct daemon;

struct holder {
    uint64_t id;
    LIST_ENTRY(holder) bucket;
    LIST_ENTRY(holder) root_bucket;
    LIST_ENTRY(holder) entry;
    LIST_ENTRY(holder) dirty_entry; /* of the recorder */
    struct daemon *daemon;          /* borrowed */
    struct session *session;        /* borrowed; NULL: its connection has ended */

    /* The holder: the peer, or the adopted process. Its end ends the lease (but see
     * HELD_BY_PROCESS). */
    struct watch_listener process;
    pid_t pid;
    uint64_t start_ticks;
    uid_t uid;

    /* The root of the process tree that uses the bytes; set by lease_set_root(). */
    pid_t root_pid;
    uint64_t root_ticks;

    char name[CLAIM_NAME_BYTES]; /* for when the budget has let go of it */
    uint32_t flags;              /* BRIM_CLAIM_* of brim.h, as they came */
    bool is_granted;             /* not waiting any more */
    bool is_released;            /* drains */
    uint64_t released_ticks; /* when, in the ticks of process start times: what starts later is not
                                of it */
    bool is_held_by_pid;     /* lives while its process does, connection or not */
    bool is_holder_gone;     /* that process has ended; the connection, passed on, still holds it */
    bool is_burst_waiting;   /* burst_seq is to be answered */
    bool is_answer_owed;     /* granted; acquire_seq is answered when the journal has it */
    uint32_t acquire_seq;    /* the requests that wait for an answer */
    uint32_t burst_seq;

    /* What the waiting one was told last: QUEUED is sent again when the kind of reason changes. */
    enum refusal_kind told_kind;
    uint64_t told_at_ms;
    uint64_t looked_at_ms; /* whether it has changed */

    bool is_anywhere; /* it asked for any gpu */
    struct habits habits;

    uint64_t since_unix_ms;
    uint64_t reattach_until_ms; /* restored, and nobody has come for it yet; 0: not so */
    uint64_t awaited_until_ms;  /* nothing is granted to others before it came or then; 0: not so */
    uint64_t kill_at_ms;        /* asked to end by SIGTERM; 0: not so */
    char stop_reason[128];      /* why, for the log */

    bool is_journaled; /* the journal has a row of it */
    bool is_dirty;     /* the row is not what it should be */
};

LIST_HEAD(holder_list, holder);

/* How many leases and waiters are one user's. */
struct holder_user {
    uid_t uid;
    size_t count;
};

struct holders {
    struct holder_list *buckets;      /* owned */
    struct holder_list *root_buckets; /* owned; by root_pid */
    size_t bucket_count;              /* of each, a power of two */
    size_t count;
    size_t draining_count; /* those that are released */
    size_t awaited_count;  /* those that others wait for after a restart */
    struct holder_list all;
    struct holder_user *users; /* owned */
    size_t user_count;
};

#define HOLDER_USER_MAX 4096 /* leases and waiters of one user, in the system scope */

int holders_init(struct holders *holders);
/* Frees all entries. Twice is fine. */
void holders_deinit(struct holders *holders);

/* A fresh entry under this id, which is not taken yet. */
int holder_new(struct holders *holders, uint64_t id, uid_t uid, struct holder **ret_lease);
size_t holders_of_user(const struct holders *holders, uid_t uid);
void holder_free(struct holders *holders, struct holder *holder);
struct holder *holder_find(const struct holders *holders, uint64_t id); /* NULL: none */

void holder_set_root(struct holders *holders, struct holder *holder, pid_t pid,
                     uint64_t start_ticks);
/* Walk the leases whose tree starts at this process: `after` is NULL first, then the last one. */
struct holder *holder_next_of_root(const struct holders *holders, pid_t pid, uint64_t start_ticks,
                                   const struct holder *after);

#endif
