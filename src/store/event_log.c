/* SPDX-License-Identifier: Apache-2.0 */

#include "store/event_log.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "store/store_errno.h"

#define FORMAT_VERSION  1
#define BUSY_TIMEOUT_MS 1000
#define PATH_BYTES      4096

struct event_log {
    sqlite3 *db;          /* owned */
    sqlite3_stmt *put;    /* owned */
    sqlite3_stmt *forget; /* owned */
    char path[PATH_BYTES];
};

static int fail(const struct event_log *log, struct error *err, const char *what)
{
    const int code = store_errno(log->db);

    if (code == -ENOSPC)
        return error_set(err, code, "%s: the disk is full; make room", log->path);
    return error_set(err, code, "%s: %s: %s", log->path, what, sqlite3_errmsg(log->db));
}

static void deinit(struct event_log *log)
{
    (void)sqlite3_finalize(log->put);
    (void)sqlite3_finalize(log->forget);
    (void)sqlite3_close(log->db);
    log->put = NULL;
    log->forget = NULL;
    log->db = NULL;
}

/* 0600 from the start: SQLite would make it by the umask. */
static int make_private(const char *path, struct error *err)
{
    OWNED(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd < 0 ? error_set(err, -errno, "%s: %s", path, strerror(errno)) : 0;
}

static int64_t read_number(const struct event_log *log, const char *query)
{
    sqlite3_stmt *statement = NULL;
    int64_t number = -1;

    if (sqlite3_prepare_v2(log->db, query, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        number = sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement);
    return number;
}

static int init(struct event_log *log, bool *ret_was_closed, struct error *err)
{
    static const char schema[] =
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, at_unix_ms INTEGER NOT NULL,"
        " kind TEXT NOT NULL, lease_id INTEGER, name BLOB, gpu INTEGER, bytes INTEGER, text BLOB)"
        " STRICT;"
        "CREATE TABLE IF NOT EXISTS writer (is_open INTEGER NOT NULL) STRICT;"
        "INSERT INTO writer SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM writer);";
    static const char put[] = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    static const char forget[] = "DELETE FROM events WHERE number <= "
                                 "(SELECT max(number) FROM events) - ?";

    if (sqlite3_open_v2(log->path, &log->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        return fail(log, err, "open");
    (void)sqlite3_busy_timeout(log->db, BUSY_TIMEOUT_MS);
    const int64_t version = read_number(log, "PRAGMA user_version");
    if (version > FORMAT_VERSION)
        return error_set(err, -EPROTONOSUPPORT,
                         "%s was written by a later version of Brim; move it away, or update",
                         log->path);
    if (version < 0 || sqlite3_exec(log->db, schema, NULL, NULL, NULL) != SQLITE_OK)
        return fail(log, err, "prepare");
    *ret_was_closed = read_number(log, "SELECT is_open FROM writer") == 0;
    if (sqlite3_exec(log->db, "PRAGMA user_version=1; UPDATE writer SET is_open = 1", NULL, NULL,
                     NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(log->db, put, -1, &log->put, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(log->db, forget, -1, &log->forget, NULL) != SQLITE_OK)
        return fail(log, err, "prepare");
    return 0;
}

static bool is_broken(const struct event_log *log)
{
    const int code = log->db ? sqlite3_errcode(log->db) : SQLITE_OK;

    return code == SQLITE_NOTADB || code == SQLITE_CORRUPT;
}

/* Beside it under another name, its journals gone: nothing here is worth failing for. */
static void put_aside(const struct event_log *log)
{
    static const char *const journals[] = { "-wal", "-shm" };
    char path[PATH_BYTES + 8];

    (void)snprintf(path, sizeof(path), "%s.broken", log->path);
    (void)rename(log->path, path);
    for (size_t i = 0; i < sizeof(journals) / sizeof(journals[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", log->path, journals[i]);
        (void)unlink(path);
    }
}

int event_log_open(const char *path, struct event_log **ret_log, bool *ret_was_closed,
                   struct error *err)
{
    struct event_log *log = calloc(1, sizeof(*log));

    if (!log)
        return error_set(err, -ENOMEM, "out of memory");
    if (snprintf(log->path, sizeof(log->path), "%s", path) >= (int)sizeof(log->path)) {
        free(log);
        return error_set(err, -ENAMETOOLONG, "%s: the path is too long", path);
    }
    int r = make_private(path, err);
    if (r == 0)
        r = init(log, ret_was_closed, err);
    if (r < 0 && is_broken(log)) {
        deinit(log);
        put_aside(log);
        r = make_private(path, err);
        if (r == 0)
            r = init(log, ret_was_closed, err);
        if (r == 0)
            *ret_was_closed = false;
    }
    if (r < 0) {
        deinit(log);
        free(log);
        return r;
    }
    *ret_log = log;
    return 0;
}

void event_log_close(struct event_log *log)
{
    if (!log)
        return;
    (void)sqlite3_exec(log->db, "UPDATE writer SET is_open = 0", NULL, NULL, NULL);
    deinit(log);
    free(log);
}

static int put_row(struct event_log *log, const struct event_row *row)
{
    sqlite3_stmt *const put = log->put;

    (void)sqlite3_bind_int64(put, 1, (sqlite3_int64)row->number);
    (void)sqlite3_bind_int64(put, 2, (sqlite3_int64)row->at_unix_ms);
    (void)sqlite3_bind_text(put, 3, row->kind, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(put, 4, (sqlite3_int64)row->lease_id);
    /* Names may be any bytes: blobs, so that they come back as they were. */
    if (row->name)
        (void)sqlite3_bind_blob(put, 5, row->name, (int)strlen(row->name) + 1, SQLITE_STATIC);
    (void)sqlite3_bind_int(put, 6, row->gpu);
    (void)sqlite3_bind_int64(put, 7, (sqlite3_int64)row->bytes);
    if (row->text)
        (void)sqlite3_bind_blob(put, 8, row->text, (int)strlen(row->text) + 1, SQLITE_STATIC);
    const int code = sqlite3_step(put);
    (void)sqlite3_reset(put);
    (void)sqlite3_clear_bindings(put);
    return code == SQLITE_DONE ? 0 : -EIO;
}

static int forget_oldest(struct event_log *log)
{
    (void)sqlite3_bind_int64(log->forget, 1, EVENT_LOG_KEPT);
    const int code = sqlite3_step(log->forget);
    (void)sqlite3_reset(log->forget);
    return code == SQLITE_DONE ? 0 : -EIO;
}

int event_log_append(struct event_log *log, const struct event_row *rows, size_t count,
                     struct error *err)
{
    int r = sqlite3_exec(log->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK ? 0 : -EIO;

    for (size_t i = 0; i < count && r == 0; i++)
        r = put_row(log, &rows[i]);
    if (r == 0)
        r = forget_oldest(log);
    if (r == 0 && sqlite3_exec(log->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    r = fail(log, err, "write");
    (void)sqlite3_exec(log->db, "ROLLBACK", NULL, NULL, NULL);
    return r;
}

/* A text is only believed with its end in it. */
static const char *column_text(sqlite3_stmt *statement, int column)
{
    const char *const text = sqlite3_column_blob(statement, column);
    const int bytes = sqlite3_column_bytes(statement, column);

    return text && bytes > 0 && text[bytes - 1] == '\0' ? text : NULL;
}

int event_log_walk(struct event_log *log, uint64_t count,
                   int (*on_row)(void *user, const struct event_row *row), void *user,
                   struct error *err)
{
    static const char query[] =
        "SELECT * FROM (SELECT * FROM events ORDER BY number DESC LIMIT ?) ORDER BY number";
    sqlite3_stmt *walk = NULL;
    int code = SQLITE_OK, r = 0;

    if (sqlite3_prepare_v2(log->db, query, -1, &walk, NULL) != SQLITE_OK)
        return fail(log, err, "read");
    (void)sqlite3_bind_int64(walk, 1, (sqlite3_int64)count);
    while (r >= 0 && (code = sqlite3_step(walk)) == SQLITE_ROW) {
        const char *const kind = (const char *)sqlite3_column_text(walk, 2);
        const struct event_row row = {
            .number = (uint64_t)sqlite3_column_int64(walk, 0),
            .at_unix_ms = (uint64_t)sqlite3_column_int64(walk, 1),
            .kind = kind ? kind : "",
            .lease_id = (uint64_t)sqlite3_column_int64(walk, 3),
            .name = column_text(walk, 4),
            .gpu = sqlite3_column_int(walk, 5),
            .bytes = (uint64_t)sqlite3_column_int64(walk, 6),
            .text = column_text(walk, 7),
        };
        r = on_row(user, &row);
    }
    if (r >= 0)
        r = code == SQLITE_DONE ? 0 : fail(log, err, "read");
    (void)sqlite3_finalize(walk);
    return r;
}
