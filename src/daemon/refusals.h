/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_REFUSALS_H
#define DAEMON_REFUSALS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "budget/refusal.h"

/*
 * The refusals of late, each with an id (r1, r2 …) for `brim why`: the last REFUSALS_KEPT in
 * memory, and in the journal behind it, so that a reason outlives the daemon that gave it.
 */

#define REFUSALS_KEPT 1000

struct refusal_record {
    uint64_t id; /* 0: an empty place */
    uint64_t at_unix_ms;
    pid_t pid;
    uid_t uid;
    uint32_t kind; /* enum refusal_kind */
    char name[CLAIM_NAME_BYTES];
    char gpu_uuid[48];
    uint64_t asked_bytes, free_bytes, short_bytes, capacity_bytes, reserve_bytes, foreign_bytes,
        charged_bytes, draining_bytes;
    char *text; /* owned */
};

struct refusals {
    struct refusal_record *ring; /* owned; the place of id is id % REFUSALS_KEPT */
    uint64_t next_id;
};

int refusals_init(struct refusals *refusals);
void refusals_deinit(struct refusals *refusals);

/* Keep one: fills id, copies the rest. Returns the record, which lasts until REFUSALS_KEPT more
 * have come; NULL when memory is out. */
const struct refusal_record *refusals_add(struct refusals *refusals,
                                          const struct refusal_record *record);
/* One from the journal, under its id; next_id goes past it. */
int refusals_restore(struct refusals *refusals, const struct refusal_record *record);

const struct refusal_record *refusals_find(const struct refusals *refusals, uint64_t id);
/* The newest with this name. */
const struct refusal_record *refusals_find_name(const struct refusals *refusals, const char *name);

#endif
