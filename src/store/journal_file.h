/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_JOURNAL_FILE_H
#define STORE_JOURNAL_FILE_H

#include <sqlite3.h>

#include "base/error.h"

/* The insides of the journal, for its two files: journal_file.c opens and loads, journal.c writes.
 */

struct journal {
    sqlite3 *db; /* owned */
    char *path;  /* owned */
};

/* What SQLite says, as our error: -ENOSPC, -EIO … Returns its code. */
int journal_problem(const struct journal *journal, struct error *err);
/* One or more statements without results. */
int journal_run(struct journal *journal, const char *sql, struct error *err);
int journal_prepare(struct journal *journal, const char *sql, sqlite3_stmt **ret_statement,
                    struct error *err);
/* For OWNED(). */
void journal_finalize(sqlite3_stmt **statement);

#endif
