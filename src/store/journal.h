/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_JOURNAL_H
#define STORE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "budget/budget.h"
#include "budget/claim.h"

/*
 * The journal: what a daemon must find again after its restart. Which leases there were and whose,
 * the refusals of late, and the numbers that must not be given twice. SQLite (WAL), 0600, one
 * writer.
 *
 * It is a memory aid, not the truth: whether a holder lives the kernel says, what it uses the
 * driver. So it may be a little behind, a broken one is moved aside, and nobody waits for it. A
 * journal may be used from any thread, by one at a time.
 */

#define JOURNAL_GPU_BYTES     48
#define JOURNAL_REFUSALS_KEPT 1000

struct journal;

struct journal_lease {
    uint64_t id;
    enum lease_state state;
    uint32_t flags; /* BRIM_CLAIM_* */
    uid_t uid;
    pid_t holder_pid, root_pid;
    uint64_t holder_ticks, root_ticks;
    uint64_t since_unix_ms;
    struct claim claim;                           /* its gpu numbers say nothing: */
    char gpus[CLAIM_PART_MAX][JOURNAL_GPU_BYTES]; /* UUIDs, one a part */
};

struct journal_refusal {
    uint64_t id;
    uint64_t at_unix_ms;
    pid_t pid;
    uid_t uid;
    uint32_t kind;
    char name[CLAIM_NAME_BYTES];
    char gpu[JOURNAL_GPU_BYTES];
    uint64_t asked_bytes, free_bytes, short_bytes, capacity_bytes, reserve_bytes, foreign_bytes,
        charged_bytes, draining_bytes;
    char *text; /* in a batch: owned by it; from journal_load: borrowed for the call */
};

/* Changes, written in one transaction. All owned by whoever made the batch. */
struct journal_batch {
    bool is_whole; /* the leases are all there are: forget those that are not among them */
    struct journal_lease *leases;
    size_t lease_count;
    uint64_t *gone;
    size_t gone_count;
    struct journal_refusal *refusals;
    size_t refusal_count;
    uint64_t next_lease; /* the id from which the next daemon goes on; 0: as it was */
};
void journal_batch_deinit(struct journal_batch *batch);

/* Opens or makes it. One that cannot be read is renamed to PATH.broken first, and ret_was_broken
 * says so. */
int journal_open(const char *path, struct journal **ret_journal, bool *ret_was_broken,
                 struct error *err);
void journal_close(struct journal *journal); /* NULL is fine */

/* Tell all there is, oldest first; *ret_next_lease stays where the file has none. A callback that
 * fails ends it with its result. */
struct journal_reader {
    void *user; /* borrowed */
    int (*on_lease)(void *user, const struct journal_lease *lease);
    int (*on_refusal)(void *user, const struct journal_refusal *refusal);
};
int journal_load(struct journal *journal, const struct journal_reader *reader,
                 uint64_t *ret_next_lease, struct error *err);

int journal_write(struct journal *journal, const struct journal_batch *batch, struct error *err);

#endif
