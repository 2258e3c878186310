/* SPDX-License-Identifier: Apache-2.0 */

/* Opening and closing a batch's database: the directory, its lock, the tables, who runs it. */

#include "store/segments_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"

#define SCHEMA_VERSION  1
#define BUSY_TIMEOUT_MS 5000

static const char schema[] = "BEGIN IMMEDIATE;"
                             "CREATE TABLE IF NOT EXISTS segments ("
                             "  idx INTEGER PRIMARY KEY,"
                             "  hash BLOB NOT NULL,"
                             "  state INTEGER NOT NULL,"
                             "  tries INTEGER NOT NULL DEFAULT 0,"
                             "  attempts INTEGER NOT NULL DEFAULT 0,"
                             "  out_bytes INTEGER NOT NULL DEFAULT 0,"
                             "  out_hash BLOB,"
                             "  reason TEXT"
                             ") STRICT;"
                             "CREATE TABLE IF NOT EXISTS run ("
                             "  one INTEGER PRIMARY KEY CHECK (one = 1),"
                             "  pid INTEGER NOT NULL DEFAULT 0,"
                             "  start_ticks INTEGER NOT NULL DEFAULT 0,"
                             "  started_ms INTEGER NOT NULL DEFAULT 0,"
                             "  ended_ms INTEGER NOT NULL DEFAULT 0,"
                             "  generation INTEGER NOT NULL DEFAULT 0,"
                             "  output TEXT NOT NULL DEFAULT ''"
                             ") STRICT;"
                             "INSERT OR IGNORE INTO run (one) VALUES (1);"
                             "PRAGMA user_version=1;"
                             "COMMIT;";

static void close_segments(struct segments **segments)
{
    if (!*segments)
        return;
    (void)sqlite3_finalize((*segments)->begin_statement);
    (void)sqlite3_finalize((*segments)->done_statement);
    (void)sqlite3_finalize((*segments)->back_statement);
    (void)sqlite3_close((*segments)->db);
    fd_close(&(*segments)->dir_fd);
    free(*segments);
    *segments = NULL;
}

static int open_database(struct segments *segments, int flags, struct error *err)
{
    int version = 0;
    sqlite3_stmt *statement = NULL;

    if (sqlite3_open_v2(segments->path, &segments->db, flags, NULL) != SQLITE_OK) {
        if (!segments->db)
            return error_set(err, -ENOMEM, "%s: out of memory", segments->path);
        return segments_problem(segments, err);
    }
    (void)sqlite3_busy_timeout(segments->db, BUSY_TIMEOUT_MS);
    if (sqlite3_prepare_v2(segments->db, "PRAGMA user_version", -1, &statement, NULL) != SQLITE_OK)
        return segments_problem(segments, err);
    const int code = sqlite3_step(statement);
    version = code == SQLITE_ROW ? sqlite3_column_int(statement, 0) : 0;
    (void)sqlite3_finalize(statement);
    if (code != SQLITE_ROW)
        return segments_problem(segments, err);
    if (version > SCHEMA_VERSION)
        return error_set(err, -EPROTONOSUPPORT,
                         "%s was written by a newer brim (format %d, this one knows %d)",
                         segments->path, version, SCHEMA_VERSION);
    if (version == 0 && (flags & SQLITE_OPEN_READONLY))
        return error_set(err, -ENOENT, "%s is empty: the batch never began", segments->path);
    return 0;
}

static int prepare_tables(struct segments *segments, struct error *err)
{
    /* Set apart from the rest: the journal mode cannot change inside a transaction. */
    if (sqlite3_exec(segments->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;", NULL, NULL,
                     NULL) != SQLITE_OK ||
        sqlite3_exec(segments->db, schema, NULL, NULL, NULL) != SQLITE_OK)
        return segments_problem(segments, err);
    segments->is_durable = true;
    if (sqlite3_prepare_v2(segments->db,
                           "UPDATE segments SET state = 1, attempts = ?2 WHERE idx = ?1", -1,
                           &segments->begin_statement, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(segments->db,
                           "UPDATE segments SET state = 2, out_bytes = ?2, out_hash = ?3, "
                           "reason = NULL WHERE idx = ?1",
                           -1, &segments->done_statement, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(segments->db,
                           "UPDATE segments SET state = ?2, tries = ?3, "
                           "reason = CASE ?4 WHEN '' THEN reason ELSE ?4 END WHERE idx = ?1",
                           -1, &segments->back_statement, NULL) != SQLITE_OK)
        return segments_problem(segments, err);
    return 0;
}

/* Who holds the lock, as its database tells; the lock itself is what counts. */
static int refuse_second_runner(const char *dir, struct error *err)
{
    struct segments *other = NULL;
    struct segments_info info = { 0 };
    const char *name = strrchr(dir, '/') ? strrchr(dir, '/') + 1 : dir;

    if (segments_open_read(dir, &other, NULL) < 0 || segments_read_info(other, &info, NULL) < 0)
        info.runner_pid = 0;
    segments_close(other);
    if (info.runner_pid == 0)
        return error_set(err, -EBUSY, "batch '%s' is already being run by another process", name);
    return error_set(err, -EBUSY,
                     "batch '%s' is already run by process %d (%" PRIu64 " of %" PRIu64
                     " segments done); wait for it, or end it: brim batch cancel %s",
                     name, (int)info.runner_pid, info.done, info.total, name);
}

static int lock_directory(const char *dir, struct segments *segments, struct error *err)
{
    segments->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (segments->dir_fd < 0)
        return error_set(err, -errno, "%s: %s", dir, strerror(errno));
    if (flock(segments->dir_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return error_set(err, -errno, "cannot lock %s: %s", dir, strerror(errno));
    return refuse_second_runner(dir, err);
}

static int record_runner(struct segments *segments, const char *output, struct error *err)
{
    struct process_info self = { 0 };
    sqlite3_stmt *statement = NULL;
    int r = process_read(getpid(), &self);

    if (r < 0)
        return error_set(err, r, "cannot read /proc/self: %s", strerror(-r));
    if (sqlite3_prepare_v2(segments->db,
                           "UPDATE run SET pid = ?, start_ticks = ?, started_ms = ?, ended_ms = 0, "
                           "output = ?",
                           -1, &statement, NULL) != SQLITE_OK)
        return segments_problem(segments, err);
    (void)sqlite3_bind_int(statement, 1, getpid());
    (void)sqlite3_bind_int64(statement, 2, (sqlite3_int64)self.start_ticks);
    (void)sqlite3_bind_int64(statement, 3, (sqlite3_int64)clock_wall_ms());
    (void)sqlite3_bind_text(statement, 4, output, -1, SQLITE_STATIC);
    if (sqlite3_step(statement) != SQLITE_DONE)
        r = segments_problem(segments, err);
    (void)sqlite3_finalize(statement);
    return r;
}

static int new_segments(const char *dir, struct segments **ret_segments, struct error *err)
{
    OWNED(close_segments) struct segments *segments = calloc(1, sizeof(*segments));
    int r = 0;

    if (!segments)
        return error_set(err, -ENOMEM, "out of memory");
    segments->dir_fd = -1;
    r = paths_join(segments->path, sizeof(segments->path), dir, "batch.db", err);
    if (r < 0)
        return r;
    *ret_segments = TAKE(segments);
    return 0;
}

int segments_open(const char *dir, const char *output, struct segments **ret_segments,
                  struct error *err)
{
    OWNED(close_segments) struct segments *segments = NULL;
    OWNED(fd_close) int fd = -1;
    int r = new_segments(dir, &segments, err);

    if (r == 0)
        r = paths_make_private(dir, err);
    if (r == 0)
        r = lock_directory(dir, segments, err);
    if (r < 0)
        return r;
    /* Made by us, so that the mode is ours whatever the umask says; SQLite's side files copy it. */
    fd = open(segments->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set(err, -errno, "cannot make %s: %s", segments->path, strerror(errno));
    /* Before SQLite opens it: closing any descriptor of a file drops the process's locks on it. */
    fd_close(&fd);
    r = paths_sync_parents(segments->path);
    if (r < 0)
        return error_set(err, r, "cannot make %s durable: %s", segments->path, strerror(-r));
    r = open_database(segments, SQLITE_OPEN_READWRITE, err);
    if (r == 0)
        r = prepare_tables(segments, err);
    if (r == 0)
        r = record_runner(segments, output, err);
    if (r < 0)
        return r;
    *ret_segments = TAKE(segments);
    return 0;
}

int segments_open_read(const char *dir, struct segments **ret_segments, struct error *err)
{
    OWNED(close_segments) struct segments *segments = NULL;
    int r = new_segments(dir, &segments, err);

    if (r < 0)
        return r;
    if (access(segments->path, F_OK) < 0)
        return error_set(err, -ENOENT, "there is no batch in %s", dir);
    r = open_database(segments, SQLITE_OPEN_READONLY, err);
    if (r < 0)
        return r;
    *ret_segments = TAKE(segments);
    return 0;
}

void segments_close(struct segments *segments)
{
    char sql[96];

    if (segments && segments->dir_fd >= 0 && segments->db) {
        (void)snprintf(sql, sizeof(sql), "UPDATE run SET pid = 0, ended_ms = %" PRIu64,
                       clock_wall_ms());
        /* If it cannot be written, the pid and its start time still tell that nobody runs it. */
        (void)sqlite3_exec(segments->db, sql, NULL, NULL, NULL);
    }
    close_segments(&segments);
}
