/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_EVENT_LOG_H
#define STORE_EVENT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * The event log: the daemon's events on the disk, so that their numbers go on and `brim events` can
 * tell what happened before a restart. One SQLite file (0600), the newest EVENT_LOG_KEPT rows. It
 * is written behind and is no source of truth for anything: a power cut may take its last rows, and
 * a file that is no database is put aside and begun anew.
 *
 * One thread at a time.
 */

#define EVENT_LOG_KEPT 100000

struct event_row {
    uint64_t number;
    uint64_t at_unix_ms;
    uint64_t lease_id; /* 0: none */
    uint64_t bytes;    /* 0: none */
    int gpu;           /* -1: none */
    const char *kind;  /* texts: borrowed */
    const char *name;  /* may be NULL */
    const char *text;  /* may be NULL */
};

struct event_log;

/* *ret_was_closed: false where the last writer ended without event_log_close(), so that numbers may
 * have been used that are not here. */
int event_log_open(const char *path, struct event_log **ret_log, bool *ret_was_closed,
                   struct error *err) __attribute__((warn_unused_result));
void event_log_close(struct event_log *log);

/* All or none. A number that is there already is left as it is. */
int event_log_append(struct event_log *log, const struct event_row *rows, size_t count,
                     struct error *err) __attribute__((warn_unused_result));

/* The newest `count`, oldest first; a row's texts last as long as the call. A function that returns
 * a negative value ends the walk, and is the result. */
int event_log_walk(struct event_log *log, uint64_t count,
                   int (*on_row)(void *user, const struct event_row *row), void *user,
                   struct error *err) __attribute__((warn_unused_result));

#endif
