/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_WORKER_H
#define BATCH_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <brim/brim.h>

#include "base/paths.h"
#include "batch/channel.h"
#include "keeper/child.h"

/*
 * Worker: a lease and, under it, a process.
 *
 *   NONE ─worker_ask─▶ QUEUED ─granted─▶ HELD ─worker_spawn─▶ RUNNING ─worker_stop─▶ STOPPING
 *    ▲                   │                ▲                       │                     │
 *    │                   │                └─ ends, is replaced ───┴──────◀──────────────┤
 *    └── worker_release ◀┴──────────────────────── ends ◀───────────────────────────────┘
 *
 * Law 4: a process is only spawned under a lease that holds what it will take. A worker is not
 * known to ask for its bursts before it did so once; until then it has them: as part of its claim's
 * load peak (first process under a lease), or taken by the batch before it spawns or sends. A
 * process that crashed gives its lease back, and its successor asks anew: the dead one's bytes are
 * draining, and whoever waits is served in turn.
 */

enum worker_state {
    WORKER_NONE = 0,
    WORKER_QUEUED,
    WORKER_HELD,
    WORKER_RUNNING,
    WORKER_STOPPING,
};

enum worker_wait {
    WORKER_WAIT_NONE = 0,
    WORKER_WAIT_BURST_TO_SPAWN,
    WORKER_WAIT_BURST_TO_SEND,
    WORKER_WAIT_BURST_ASKED, /* the worker waits for the answer */
    WORKER_WAIT_FLUSHED,
};

struct run;

#define WORKER_REASON_BYTES 400

struct worker {
    struct run *run; /* borrowed */
    unsigned number; /* 1 … */
    enum worker_state state;
    enum worker_wait wait;
    brim_lease *lease;         /* owned */
    struct keeper_child child; /* owned */
    struct channel channel;    /* owned */
    char log_path[PATHS_BYTES];
    off_t log_start; /* of the present process */

    bool has_segment;
    uint64_t segment;
    char *attempt_path; /* owned */
    char *path;         /* owned: where the result will lie */

    bool is_covered; /* the claim's load peak holds a burst as well */
    bool is_loaded;  /* the daemon was told that loading is over */
    bool has_burst;  /* the lease is busy */
    bool can_flush;
    bool has_heartbeat;
    bool has_asked;
    bool wants_flush;
    bool is_restarting;                    /* stopped to be spawned again under the same lease */
    bool is_lost;                          /* killed for a reason that is not its own */
    char stop_reason[WORKER_REASON_BYTES]; /* why it must end at the next boundary; "": it need not
                                            */
    char fault[WORKER_REASON_BYTES];       /* what it did, where we killed it for that */
    uint32_t grown_count;                  /* segments in a row after which it held too much */
    uint64_t measured_ms;                  /* when that was last asked */
    uint32_t done_count, done_since_flush; /* segments answered by this process; since a flush */

    uint64_t burst_bytes; /* of the burst that it asked for */
    uint64_t asked_ms, spawned_ms;
    uint64_t heard_ms;            /* the last line of it */
    uint64_t segment_deadline_ms; /* CLOCK_NEVER_MS: none, as the next one */
    uint64_t stop_deadline_ms;
    uint64_t flush_deadline_ms; /* counts while WORKER_WAIT_FLUSHED */
};

void worker_init(struct worker *worker, struct run *run, unsigned number);

/* NONE: ask for a lease. Negative BRIM_ERR_*. */
int worker_ask(struct worker *worker) __attribute__((warn_unused_result));
/* The lease's descriptor is readable. */
void worker_on_lease(struct worker *worker);
/* What follows from the facts: spawn, assign, flush, stop. */
void worker_step(struct worker *worker);
/* The nearest of its deadlines; worker_on_time when it is reached. */
uint64_t worker_deadline_ms(const struct worker *worker);
void worker_on_time(struct worker *worker, uint64_t now_ms);

/* ending.c: ask it to end after what it does now. */
void worker_stop(struct worker *worker, const char *why);
/* End it now; `fault` is its own doing and counts against its segment, NULL is not. */
void worker_kill(struct worker *worker, const char *fault);
/* The process has ended. */
void worker_on_exit(struct worker *worker);

/* Give the lease back; there is no process. */
void worker_release(struct worker *worker);

/* 1: the burst is held now; 0: it waits; negative BRIM_ERR_*. */
int worker_take_burst(struct worker *worker, uint64_t bytes) __attribute__((warn_unused_result));
void worker_end_burst(struct worker *worker);
/* Loading is over: tell the daemon, once. */
void worker_set_loaded(struct worker *worker);

/* talk.c */
void talk_send_segment(struct worker *worker);
void talk_on_burst(struct worker *worker);
void talk_on_burst_refused(struct worker *worker, const char *why);
void talk_flush(struct worker *worker);
/* The worker has not answered a flush in time: another process takes its place. */
void talk_on_flush_late(struct worker *worker);
void talk_stop(struct worker *worker, const char *why);
/* The channel is readable. */
void talk_on_readable(struct worker *worker);
/* Read what a process that has ended left behind. */
void talk_drain(struct worker *worker);

/* spawn.c: the process under a held lease. Fails the run, or only the segment it was for. */
void worker_spawn(struct worker *worker);

#endif
