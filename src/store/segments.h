/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_SEGMENTS_H
#define STORE_SEGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * Segments: what a batch has done, so that it goes on after any interruption.
 *
 *   new ──▶ PENDING ──segments_begin──▶ RUNNING ──segments_done──▶ DONE
 *              ▲                           │ └──segments_fail──▶ FAILED (set aside)
 *              └──segments_retry, or the next segments_load─┘
 *
 * A segment is its index and the hash of its content; the content itself is not kept. One SQLite
 * file a batch (batch.db in the batch's own directory, 0600). Laws:
 *
 *   - segments_done and segments_fail are on the disk when they return (WAL, synchronous=FULL).
 *     The caller has made the output durable before it calls segments_done.
 *   - Attempt numbers only grow, also over a restart: two attempts never share a path. (They
 * survive a killed batch; after a power cut nobody is left who could write to an old path.)
 *   - One runner: segments_open holds the directory's flock until segments_close. Readers take
 * none.
 */

#define SEGMENTS_HASH_BYTES   32
#define SEGMENTS_REASON_BYTES 512

enum segment_state {
    SEGMENT_PENDING = 0,
    SEGMENT_RUNNING = 1,
    SEGMENT_DONE = 2,
    SEGMENT_FAILED = 3,
};

struct segment_row {
    uint64_t index;
    enum segment_state state;
    uint32_t tries;    /* that failed and counted */
    uint32_t attempts; /* begun so far; the next one's number is one more */
    uint64_t out_bytes;
    unsigned char hash[SEGMENTS_HASH_BYTES];
    unsigned char out_hash[SEGMENTS_HASH_BYTES];
    char reason[SEGMENTS_REASON_BYTES]; /* of the last failure; "" where there is none */
};

/* What segments_load found when it compared the input with what was there. */
struct segments_change {
    uint64_t new_count;
    uint64_t changed_count;
    uint64_t dropped_count;
    uint64_t interrupted_count; /* were running when the last run ended */
};

struct segments_info {
    uint64_t total, pending, running, done, failed;
    pid_t runner_pid; /* 0: it ended in order */
    uint64_t runner_start_ticks;
    uint64_t started_unix_ms, ended_unix_ms; /* of the last run; 0: not yet */
    uint64_t generation;                     /* how often it was started over */
    char output[1024];                       /* the output pattern of the last run */
};

struct segments;

/* Open (or make) the batch's directory for its runner. -EBUSY, with who it is, while another runs
 * it. On success the runner is recorded as this process. */
int segments_open(const char *dir, const char *output, struct segments **ret_segments,
                  struct error *err) __attribute__((warn_unused_result));
/* For those who only look. -ENOENT where there is no such batch. */
int segments_open_read(const char *dir, struct segments **ret_segments, struct error *err)
    __attribute__((warn_unused_result));
/* Records an orderly end for a runner. NULL is fine. */
void segments_close(struct segments *segments);

/* Make the store equal the input: count hashes of SEGMENTS_HASH_BYTES each, one behind the other.
 * New and changed segments become PENDING, vanished ones go, RUNNING ones become PENDING. With
 * retry_failed those that were set aside become PENDING too. */
int segments_load(struct segments *segments, const unsigned char *hashes, uint64_t count,
                  bool retry_failed, struct segments_change *ret_change, struct error *err)
    __attribute__((warn_unused_result));

/* Forget all of them and count one generation up (--again). */
int segments_clear(struct segments *segments, struct error *err)
    __attribute__((warn_unused_result));

int segments_begin(struct segments *segments, uint64_t index, uint32_t attempt, struct error *err)
    __attribute__((warn_unused_result));
int segments_done(struct segments *segments, uint64_t index, uint64_t out_bytes,
                  const unsigned char out_hash[SEGMENTS_HASH_BYTES], struct error *err)
    __attribute__((warn_unused_result));
/* Back to PENDING; reason "" keeps the last one. */
int segments_retry(struct segments *segments, uint64_t index, uint32_t tries, const char *reason,
                   struct error *err) __attribute__((warn_unused_result));
int segments_fail(struct segments *segments, uint64_t index, uint32_t tries, const char *reason,
                  struct error *err) __attribute__((warn_unused_result));

/* Rows in the order of their index, until the callback returns other than 0, which is returned. */
int segments_each(struct segments *segments,
                  int (*on_row)(const struct segment_row *row, void *user), void *user,
                  struct error *err) __attribute__((warn_unused_result));
int segments_read_info(struct segments *segments, struct segments_info *ret_info, struct error *err)
    __attribute__((warn_unused_result));

#endif
