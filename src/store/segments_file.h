/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_SEGMENTS_FILE_H
#define STORE_SEGMENTS_FILE_H

#include <sqlite3.h>

#include "base/paths.h"
#include "store/segments.h"

/* The open database behind struct segments; only segments.c and segments_file.c know it. */

struct segments {
    char path[PATHS_BYTES];        /* of batch.db, for messages */
    int dir_fd;                    /* holds the flock of a runner; -1 for a reader */
    bool is_durable;               /* synchronous=FULL is set */
    sqlite3 *db;                   /* owned */
    sqlite3_stmt *begin_statement; /* owned, as the next two; NULL for a reader */
    sqlite3_stmt *done_statement;
    sqlite3_stmt *back_statement;
};

/* The database's last error as a sentence; returns its -errno. */
int segments_problem(struct segments *segments, struct error *err);

#endif
