/* SPDX-License-Identifier: Apache-2.0 */

#include "store/segments.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "store/segments_file.h"
#include "store/store_errno.h"

static void finalize(sqlite3_stmt **statement)
{
    (void)sqlite3_finalize(*statement); /* its result repeats the step's */
    *statement = NULL;
}

int segments_problem(struct segments *segments, struct error *err)
{
    const char *what = sqlite3_errmsg(segments->db);

    if (store_errno(segments->db) == -ENOSPC)
        return error_set(err, -ENOSPC, "%s: the disk is full; make room and run the batch again",
                         segments->path);
    switch (sqlite3_errcode(segments->db) & 0xff) {
    case SQLITE_NOMEM:
        return error_set(err, -ENOMEM, "%s: out of memory", segments->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        /* SQLite tells a disk that does not answer and a file of nonsense alike. */
        return error_set(err, -EIO,
                         "%s cannot be read (%s); if the disk is sound, the file is damaged: move "
                         "it away to start over, outputs stay",
                         segments->path, what);
    case SQLITE_CANTOPEN:
        return error_set(err, -EIO, "%s: cannot open it, or its -wal and -shm beside it: %s",
                         segments->path, strerror(sqlite3_system_errno(segments->db)));
    case SQLITE_READONLY:
        return error_set(err, -EIO,
                         "%s: cannot write to it; look at its permissions and at the disk",
                         segments->path);
    case SQLITE_IOERR:
        return error_set(err, -EIO, "%s: cannot read or write: %s", segments->path, what);
    default:
        return error_set(err, -EIO, "%s: %s", segments->path, what);
    }
}

/* NORMAL leaves the sync to a later durable commit or the checkpoint: enough for what may be lost
 * in a power cut. Outside of a transaction only. */
static int set_durable(struct segments *segments, bool is_durable, struct error *err)
{
    if (segments->is_durable == is_durable)
        return 0;
    if (sqlite3_exec(segments->db,
                     is_durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", NULL,
                     NULL, NULL) != SQLITE_OK)
        return segments_problem(segments, err);
    segments->is_durable = is_durable;
    return 0;
}

static int run_sql(struct segments *segments, const char *sql, struct error *err)
{
    return sqlite3_exec(segments->db, sql, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : segments_problem(segments, err);
}

static int step_once(struct segments *segments, sqlite3_stmt *statement, struct error *err)
{
    const int code = sqlite3_step(statement);
    int r = 0;

    if (code != SQLITE_DONE && code != SQLITE_ROW)
        r = segments_problem(segments, err);
    (void)sqlite3_reset(statement);
    return r;
}

static int begin(struct segments *segments, struct error *err)
{
    const int r = set_durable(segments, true, err);

    return r < 0 ? r : run_sql(segments, "BEGIN IMMEDIATE", err);
}

static int commit_or_rollback(struct segments *segments, int r, struct error *err)
{
    if (r == 0)
        r = run_sql(segments, "COMMIT", err);
    if (r < 0) /* already rolled back where SQLite did so itself; then this has nothing to do */
        (void)sqlite3_exec(segments->db, "ROLLBACK", NULL, NULL, NULL);
    return r;
}

struct load {
    sqlite3_stmt *find, *put; /* borrowed */
    struct segments_change *change;
};

/* One row of the input against the store: whether it is new, changed or as it was. */
static int load_row(struct segments *segments, const struct load *load, uint64_t index,
                    const unsigned char *hash, struct error *err)
{
    sqlite3_stmt *const find = load->find, *const put = load->put;
    (void)sqlite3_bind_int64(find, 1, (sqlite3_int64)index);
    const int code = sqlite3_step(find);
    bool is_same = false;

    if (code == SQLITE_ROW) {
        is_same = sqlite3_column_bytes(find, 0) == SEGMENTS_HASH_BYTES &&
                  memcmp(sqlite3_column_blob(find, 0), hash, SEGMENTS_HASH_BYTES) == 0;
        load->change->changed_count += !is_same;
    } else if (code == SQLITE_DONE) {
        load->change->new_count++;
    } else {
        return segments_problem(segments, err);
    }
    (void)sqlite3_reset(find);
    if (is_same)
        return 0;
    (void)sqlite3_bind_int64(put, 1, (sqlite3_int64)index);
    (void)sqlite3_bind_blob(put, 2, hash, SEGMENTS_HASH_BYTES, SQLITE_STATIC);
    return step_once(segments, put, err);
}

static int load_rows(struct segments *segments, const unsigned char *hashes, uint64_t count,
                     struct segments_change *change, struct error *err)
{
    OWNED(finalize) sqlite3_stmt *find = NULL;
    OWNED(finalize) sqlite3_stmt *put = NULL;
    int r = 0;

    /* A changed segment keeps its attempts: an old one's late writer must not meet a new one. */
    if (sqlite3_prepare_v2(segments->db, "SELECT hash FROM segments WHERE idx = ?", -1, &find,
                           NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(segments->db,
                           "INSERT INTO segments (idx, hash, state) VALUES (?1, ?2, 0) "
                           "ON CONFLICT (idx) DO UPDATE SET hash = ?2, state = 0, tries = 0, "
                           "reason = NULL, out_bytes = 0, out_hash = NULL",
                           -1, &put, NULL) != SQLITE_OK)
        return segments_problem(segments, err);
    const struct load load = { .find = find, .put = put, .change = change };
    for (uint64_t i = 0; i < count && r == 0; i++)
        r = load_row(segments, &load, i, hashes + i * SEGMENTS_HASH_BYTES, err);
    return r;
}

int segments_load(struct segments *segments, const unsigned char *hashes, uint64_t count,
                  bool retry_failed, struct segments_change *ret_change, struct error *err)
{
    struct segments_change change = { 0 };
    char sql[160];
    int r = begin(segments, err);

    if (r < 0)
        return r;
    (void)snprintf(sql, sizeof(sql), "DELETE FROM segments WHERE idx >= %" PRIu64, count);
    r = run_sql(segments, sql, err);
    change.dropped_count = (uint64_t)sqlite3_changes64(segments->db);
    if (r == 0)
        r = run_sql(segments, "UPDATE segments SET state = 0 WHERE state NOT IN (0, 2, 3)", err);
    change.interrupted_count = r == 0 ? (uint64_t)sqlite3_changes64(segments->db) : 0;
    if (r == 0 && retry_failed)
        r = run_sql(segments, "UPDATE segments SET state = 0, tries = 0 WHERE state = 3", err);
    if (r == 0)
        r = load_rows(segments, hashes, count, &change, err);
    CRASH_POINT(segments_load_half);
    r = commit_or_rollback(segments, r, err);
    CRASH_POINT(segments_loaded);
    if (r == 0)
        *ret_change = change;
    return r;
}

int segments_clear(struct segments *segments, struct error *err)
{
    int r = begin(segments, err);

    if (r < 0)
        return r;
    r = run_sql(segments, "DELETE FROM segments", err);
    if (r == 0)
        r = run_sql(segments, "UPDATE run SET generation = generation + 1", err);
    return commit_or_rollback(segments, r, err);
}

int segments_begin(struct segments *segments, uint64_t index, uint32_t attempt, struct error *err)
{
    sqlite3_stmt *statement = segments->begin_statement;
    const int r = set_durable(segments, false, err);

    if (r < 0)
        return r;
    (void)sqlite3_bind_int64(statement, 1, (sqlite3_int64)index);
    (void)sqlite3_bind_int64(statement, 2, attempt);
    return step_once(segments, statement, err);
}

int segments_done(struct segments *segments, uint64_t index, uint64_t out_bytes,
                  const unsigned char out_hash[SEGMENTS_HASH_BYTES], struct error *err)
{
    sqlite3_stmt *statement = segments->done_statement;
    const int r = set_durable(segments, true, err);

    if (r < 0)
        return r;
    (void)sqlite3_bind_int64(statement, 1, (sqlite3_int64)index);
    (void)sqlite3_bind_int64(statement, 2, (sqlite3_int64)out_bytes);
    (void)sqlite3_bind_blob(statement, 3, out_hash, SEGMENTS_HASH_BYTES, SQLITE_TRANSIENT);
    return step_once(segments, statement, err);
}

static int put_back(struct segments *segments, uint64_t index, enum segment_state state,
                    uint32_t tries, const char *reason, struct error *err)
{
    sqlite3_stmt *statement = segments->back_statement;
    const int r = set_durable(segments, state == SEGMENT_FAILED, err);

    if (r < 0)
        return r;
    (void)sqlite3_bind_int64(statement, 1, (sqlite3_int64)index);
    (void)sqlite3_bind_int(statement, 2, (int)state);
    (void)sqlite3_bind_int64(statement, 3, tries);
    (void)sqlite3_bind_text(statement, 4, reason, -1, SQLITE_TRANSIENT);
    return step_once(segments, statement, err);
}

int segments_retry(struct segments *segments, uint64_t index, uint32_t tries, const char *reason,
                   struct error *err)
{
    return put_back(segments, index, SEGMENT_PENDING, tries, reason, err);
}

int segments_fail(struct segments *segments, uint64_t index, uint32_t tries, const char *reason,
                  struct error *err)
{
    return put_back(segments, index, SEGMENT_FAILED, tries, reason, err);
}

static void read_hash(sqlite3_stmt *statement, int column, unsigned char hash[SEGMENTS_HASH_BYTES])
{
    if (sqlite3_column_bytes(statement, column) == SEGMENTS_HASH_BYTES)
        memcpy(hash, sqlite3_column_blob(statement, column), SEGMENTS_HASH_BYTES);
}

static void read_row(sqlite3_stmt *statement, struct segment_row *row)
{
    const unsigned char *reason = sqlite3_column_text(statement, 5);
    const int state = sqlite3_column_int(statement, 1);

    *row = (struct segment_row){
        .index = (uint64_t)sqlite3_column_int64(statement, 0),
        /* One that a damaged file gives is done again, as segments_load does it. */
        .state = state >= SEGMENT_PENDING && state <= SEGMENT_FAILED ? (enum segment_state)state
                                                                     : SEGMENT_PENDING,
        .tries = (uint32_t)sqlite3_column_int64(statement, 2),
        .attempts = (uint32_t)sqlite3_column_int64(statement, 3),
        .out_bytes = (uint64_t)sqlite3_column_int64(statement, 4),
    };
    (void)snprintf(row->reason, sizeof(row->reason), "%s", reason ? (const char *)reason : "");
    read_hash(statement, 6, row->hash);
    read_hash(statement, 7, row->out_hash);
}

int segments_each(struct segments *segments,
                  int (*on_row)(const struct segment_row *row, void *user), void *user,
                  struct error *err)
{
    OWNED(finalize) sqlite3_stmt *statement = NULL;
    struct segment_row row;
    int r = 0, code = SQLITE_ROW;

    if (sqlite3_prepare_v2(segments->db,
                           "SELECT idx, state, tries, attempts, out_bytes, reason, hash, out_hash "
                           "FROM segments ORDER BY idx",
                           -1, &statement, NULL) != SQLITE_OK)
        return segments_problem(segments, err);
    while (r == 0 && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        read_row(statement, &row);
        r = on_row(&row, user);
    }
    return r == 0 && code != SQLITE_DONE ? segments_problem(segments, err) : r;
}

static int read_counts(struct segments *segments, struct segments_info *info, struct error *err)
{
    OWNED(finalize) sqlite3_stmt *statement = NULL;
    int code = SQLITE_OK;

    if (sqlite3_prepare_v2(segments->db, "SELECT state, count(*) FROM segments GROUP BY state", -1,
                           &statement, NULL) != SQLITE_OK)
        return segments_problem(segments, err);
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        uint64_t *const counts[] = { &info->pending, &info->running, &info->done, &info->failed };
        const int state = sqlite3_column_int(statement, 0);
        const uint64_t count = (uint64_t)sqlite3_column_int64(statement, 1);
        if (state >= SEGMENT_PENDING && state <= SEGMENT_FAILED)
            *counts[state] = count;
        info->total += count;
    }
    return code == SQLITE_DONE ? 0 : segments_problem(segments, err);
}

int segments_read_info(struct segments *segments, struct segments_info *ret_info, struct error *err)
{
    OWNED(finalize) sqlite3_stmt *statement = NULL;
    struct segments_info info = { 0 };
    int r = 0;

    if (sqlite3_prepare_v2(segments->db,
                           "SELECT pid, start_ticks, started_ms, ended_ms, generation, output "
                           "FROM run",
                           -1, &statement, NULL) != SQLITE_OK)
        return segments_problem(segments, err);
    if (sqlite3_step(statement) != SQLITE_ROW)
        return segments_problem(segments, err);
    info.runner_pid = sqlite3_column_int(statement, 0);
    info.runner_start_ticks = (uint64_t)sqlite3_column_int64(statement, 1);
    info.started_unix_ms = (uint64_t)sqlite3_column_int64(statement, 2);
    info.ended_unix_ms = (uint64_t)sqlite3_column_int64(statement, 3);
    info.generation = (uint64_t)sqlite3_column_int64(statement, 4);
    const unsigned char *output = sqlite3_column_text(statement, 5);
    (void)snprintf(info.output, sizeof(info.output), "%s", output ? (const char *)output : "");
    r = read_counts(segments, &info, err);
    if (r == 0)
        *ret_info = info;
    return r;
}
