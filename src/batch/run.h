/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_RUN_H
#define BATCH_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "batch/batch.h"
#include "batch/input.h"
#include "batch/progress.h"
#include "batch/worker.h"
#include "store/segments.h"

/*
 * Run: one run of a batch, from the lock on its directory to its summary. One thread, one poll()
 * loop; everything that happens only changes facts, and run_step() then does what follows from
 * them, so that no order of events is a special case.
 *
 *   run.c       the loop, signals, begin and end     worker.c   leases and processes
 *   pool.c      how many workers                     talk.c     the protocol with one worker
 *   work.c      what becomes of a segment            ending.c   how processes end
 *   report.c    lines, bar, summary                  spawn.c    how they start
 */

/* Whether this program asks for its bursts; found out by its first worker. */
enum run_asks {
    RUN_ASKS_UNKNOWN = 0,
    RUN_ASKS_YES,
    RUN_ASKS_NO,
};

struct work {
    enum segment_state state;
    uint32_t tries;
    uint32_t attempts;
};

struct tally {
    uint64_t done_before; /* by earlier runs */
    uint64_t done;        /* all */
    uint64_t failed;      /* set aside */
    uint64_t retried;     /* attempts that failed and were followed by another */
    uint64_t refusals;    /* claims that had to wait or were refused */
    uint64_t flushes;
    uint64_t crashes;  /* workers that ended without being asked */
    uint64_t answered; /* segments answered in this run, done or failed */
    unsigned workers_max, workers_min;
    bool has_started; /* a worker was there */
};

struct run {
    const struct stack_batch *spec;      /* borrowed */
    const struct batch_options *options; /* borrowed */
    struct segments *segments;           /* owned */
    struct input input;                  /* owned */
    struct work *works;                  /* owned, one a segment */
    uint64_t *queue;                     /* owned: a ring of pending segments, room for all */
    uint64_t queue_first, queue_count;
    uint64_t running_count; /* segments that workers have */
    struct worker workers[STACK_WORKER_MAX];

    enum run_asks asks;
    bool is_growth_over;    /* one more worker can never fit */
    bool has_told_wait;     /* the present wait for memory is told and counted */
    uint64_t not_before_ms; /* no new claim before (crashes, refusals) */
    unsigned crash_streak;  /* crashes soon after the start, in a row */
    unsigned start_deaths;  /* deaths while nobody has answered a segment */

    bool is_ending;  /* no new segment, no new worker */
    bool is_killing; /* workers are killed, what they had goes back */
    int signal_number;
    int failure; /* 0, or why it gives up (-errno) */
    bool is_never_fits;
    struct error reason; /* of the failure */

    uint64_t started_ms;
    struct tally tally;
    struct progress progress;
    int log_fd;    /* owned */
    int signal_fd; /* owned */
};

/* Segments that are neither done nor set aside. */
uint64_t run_left(const struct run *run);
/* Give up: workers are killed, the message is the run's. The first reason stays. */
void run_fail(struct run *run, int code, const struct error *err);

/* pool.c */
void pool_step(struct run *run);
/* Ask anew for what still waits: the reason that was told is no longer true. */
void pool_ask_anew(struct run *run);
unsigned pool_alive(const struct run *run);

/* work.c: the queue, and what becomes of a worker's segment. */
bool work_take(struct run *run, struct worker *worker);
void work_done(struct run *run, struct worker *worker);
void work_failed(struct run *run, struct worker *worker, const char *reason);
void work_give_back(struct run *run, struct worker *worker);
void work_push(struct run *run, uint64_t index);

/* report.c */
void report_line(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
void report_progress(struct run *run, bool is_last);
int report_summary(const struct run *run, const struct batch_result *result, struct error *err)
    __attribute__((warn_unused_result));

#endif
