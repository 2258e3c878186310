/* SPDX-License-Identifier: Apache-2.0 */

/* Opening the journal, moving a broken one aside, and reading what the last daemon left. */

#include "store/journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "store/journal.h"
#include "store/store_errno.h"

#define SCHEMA_VERSION 1
#define PATH_BYTES     4096

/* There is one user of the file: no shared memory beside it, and fewer locks. Before anything is
 * read: on a full disk there is no room for that memory. */
static const char lock[] = "PRAGMA locking_mode=EXCLUSIVE";

static const char settings[] =
    "PRAGMA journal_mode=WAL;"
    /* A power cut ends the holders too; only the file must stay readable. */
    "PRAGMA synchronous=NORMAL;"
    "PRAGMA cache_size=-256;"
    "PRAGMA foreign_keys=ON;";

/* Only where there are none: on a full disk, what is there can still be read. */
static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS number (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS lease ("
    "  id INTEGER PRIMARY KEY, state INTEGER NOT NULL, flags INTEGER NOT NULL,"
    "  uid INTEGER NOT NULL, holder_pid INTEGER NOT NULL, holder_ticks INTEGER NOT NULL,"
    "  root_pid INTEGER NOT NULL, root_ticks INTEGER NOT NULL, since_unix_ms INTEGER NOT NULL,"
    "  name TEXT NOT NULL, priority INTEGER NOT NULL, is_load_alone INTEGER NOT NULL,"
    "  is_always_busy INTEGER NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS part ("
    "  lease INTEGER NOT NULL REFERENCES lease ON DELETE CASCADE, place INTEGER NOT NULL,"
    "  gpu TEXT NOT NULL, resident INTEGER NOT NULL, burst INTEGER NOT NULL,"
    "  load_peak INTEGER NOT NULL, PRIMARY KEY (lease, place)) STRICT;"
    "CREATE TABLE IF NOT EXISTS refusal ("
    "  id INTEGER PRIMARY KEY, at_unix_ms INTEGER NOT NULL, pid INTEGER NOT NULL,"
    "  uid INTEGER NOT NULL, kind INTEGER NOT NULL, name TEXT NOT NULL, gpu TEXT NOT NULL,"
    "  asked INTEGER NOT NULL, free INTEGER NOT NULL, short INTEGER NOT NULL,"
    "  capacity INTEGER NOT NULL, reserve INTEGER NOT NULL, foreign_bytes INTEGER NOT NULL,"
    "  charged INTEGER NOT NULL, draining INTEGER NOT NULL, text TEXT NOT NULL) STRICT;"
    "PRAGMA user_version=1;"
    "COMMIT;";

void journal_finalize(sqlite3_stmt **statement)
{
    (void)sqlite3_finalize(*statement);
    *statement = NULL;
}

int journal_problem(const struct journal *journal, struct error *err)
{
    const int code = store_errno(journal->db);

    if (code == -ENOSPC)
        return error_set(err, code, "%s: the disk is full; make room", journal->path);
    return error_set(err, code, "%s: %s", journal->path, sqlite3_errmsg(journal->db));
}

int journal_run(struct journal *journal, const char *sql, struct error *err)
{
    if (sqlite3_exec(journal->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return journal_problem(journal, err);
    return 0;
}

int journal_prepare(struct journal *journal, const char *sql, sqlite3_stmt **ret_statement,
                    struct error *err)
{
    if (sqlite3_prepare_v2(journal->db, sql, -1, ret_statement, NULL) != SQLITE_OK)
        return journal_problem(journal, err);
    return 0;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    (void)sqlite3_close(journal->db);
    free(journal->path);
    free(journal);
}

static void close_journal(struct journal **journal)
{
    journal_close(*journal);
    *journal = NULL;
}

static int read_version(struct journal *journal, int *ret_version, struct error *err)
{
    OWNED(journal_finalize) sqlite3_stmt *statement = NULL;
    int r = journal_prepare(journal, "PRAGMA user_version", &statement, err);

    if (r < 0)
        return r;
    if (sqlite3_step(statement) != SQLITE_ROW)
        return journal_problem(journal, err);
    *ret_version = sqlite3_column_int(statement, 0);
    return 0;
}

/* The whole file, not just the pages that happen to be needed: a daemon that finds out later has
 * given numbers twice by then. It is small. */
static int check_whole(struct journal *journal, struct error *err)
{
    OWNED(journal_finalize) sqlite3_stmt *statement = NULL;
    const unsigned char *text = NULL;
    int r = journal_prepare(journal, "PRAGMA quick_check(1)", &statement, err);

    if (r < 0)
        return r;
    if (sqlite3_step(statement) != SQLITE_ROW)
        return journal_problem(journal, err);
    text = sqlite3_column_text(statement, 0);
    if (!text || strcmp((const char *)text, "ok") != 0)
        return error_set(err, -EBADMSG, "%s: %s", journal->path, text ? (const char *)text : "?");
    return 0;
}

static int open_once(const char *path, struct journal **ret_journal, struct error *err)
{
    OWNED(close_journal) struct journal *journal = calloc(1, sizeof(*journal));
    OWNED(fd_close) int fd = -1;
    int version = 0;
    int r = 0;

    if (!journal || !(journal->path = strdup(path)))
        return error_set(err, -ENOMEM, "out of memory");
    /* SQLite would make it readable for all, as far as the umask lets it. */
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
    if (sqlite3_open_v2(path, &journal->db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        return journal->db ? journal_problem(journal, err)
                           : error_set(err, -ENOMEM, "out of memory");
    r = journal_run(journal, lock, err);
    if (r == 0)
        r = read_version(journal, &version, err);
    if (r == 0 && version > SCHEMA_VERSION)
        r = error_set(err, -EBADMSG, "%s is of a newer brimd", path);
    if (r == 0)
        r = journal_run(journal, settings, err);
    if (r == 0 && version < SCHEMA_VERSION)
        r = journal_run(journal, schema, err);
    if (r == 0)
        r = check_whole(journal, err);
    if (r < 0)
        return r;
    *ret_journal = TAKE(journal);
    return 0;
}

static int move_aside(const char *path, struct error *err)
{
    static const char *const suffixes[] = { "", "-wal", "-shm" };
    char from[PATH_BYTES];
    char to[PATH_BYTES];

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        if (snprintf(from, sizeof(from), "%s%s", path, suffixes[i]) >= (int)sizeof(from) ||
            snprintf(to, sizeof(to), "%s.broken%s", path, suffixes[i]) >= (int)sizeof(to))
            return error_set(err, -ENAMETOOLONG, "%s: the path is too long", path);
        if (rename(from, to) < 0 && errno != ENOENT)
            return error_set(err, -errno, "cannot move %s to %s: %s", from, to, strerror(errno));
    }
    return 0;
}

int journal_open(const char *path, struct journal **ret_journal, bool *ret_was_broken,
                 struct error *err)
{
    int r = open_once(path, ret_journal, err);

    *ret_was_broken = r == -EBADMSG;
    if (r != -EBADMSG)
        return r;
    r = move_aside(path, err);
    return r < 0 ? r : open_once(path, ret_journal, err);
}

static void read_text(sqlite3_stmt *statement, int column, char *text, size_t text_bytes)
{
    const unsigned char *from = sqlite3_column_text(statement, column);

    (void)snprintf(text, text_bytes, "%s", from ? (const char *)from : "");
}

static uint64_t read_number(sqlite3_stmt *statement, int column)
{
    const sqlite3_int64 value = sqlite3_column_int64(statement, column);

    return value < 0 ? 0 : (uint64_t)value;
}

static int load_parts(sqlite3_stmt *statement, struct journal_lease *lease)
{
    int code = SQLITE_DONE;

    (void)sqlite3_reset(statement);
    (void)sqlite3_bind_int64(statement, 1, (sqlite3_int64)lease->id);
    while (lease->claim.part_count < CLAIM_PART_MAX &&
           (code = sqlite3_step(statement)) == SQLITE_ROW) {
        const uint32_t i = lease->claim.part_count++;
        read_text(statement, 0, lease->gpus[i], sizeof(lease->gpus[i]));
        lease->claim.parts[i].resident_bytes = read_number(statement, 1);
        lease->claim.parts[i].burst_bytes = read_number(statement, 2);
        lease->claim.parts[i].load_peak_bytes = read_number(statement, 3);
    }
    return code;
}

static int load_leases(struct journal *journal, const struct journal_reader *reader,
                       struct error *err)
{
    OWNED(journal_finalize) sqlite3_stmt *rows = NULL;
    OWNED(journal_finalize) sqlite3_stmt *parts = NULL;
    int code = 0;
    int r = journal_prepare(journal,
                            "SELECT id, state, flags, uid, holder_pid, holder_ticks, root_pid, "
                            "root_ticks, since_unix_ms, name, priority, is_load_alone, "
                            "is_always_busy FROM lease ORDER BY id",
                            &rows, err);

    if (r == 0)
        r = journal_prepare(journal,
                            "SELECT gpu, resident, burst, load_peak FROM part WHERE lease = ? "
                            "ORDER BY place",
                            &parts, err);
    while (r == 0 && (code = sqlite3_step(rows)) == SQLITE_ROW) {
        struct journal_lease lease = {
            .id = read_number(rows, 0),
            .state = (enum lease_state)sqlite3_column_int(rows, 1),
            .flags = (uint32_t)sqlite3_column_int64(rows, 2),
            .uid = (uid_t)sqlite3_column_int64(rows, 3),
            .holder_pid = (pid_t)sqlite3_column_int(rows, 4),
            .holder_ticks = read_number(rows, 5),
            .root_pid = (pid_t)sqlite3_column_int(rows, 6),
            .root_ticks = read_number(rows, 7),
            .since_unix_ms = read_number(rows, 8),
            .claim.priority = (enum claim_priority)sqlite3_column_int(rows, 10),
            .claim.is_load_alone = sqlite3_column_int(rows, 11) != 0,
            .claim.is_always_busy = sqlite3_column_int(rows, 12) != 0,
        };
        read_text(rows, 9, lease.claim.name, sizeof(lease.claim.name));
        (void)load_parts(parts, &lease);
        r = reader->on_lease(reader->user, &lease);
    }
    return r != 0 || code == SQLITE_DONE ? r : journal_problem(journal, err);
}

static int load_refusals(struct journal *journal, const struct journal_reader *reader,
                         struct error *err)
{
    OWNED(journal_finalize) sqlite3_stmt *rows = NULL;
    char text[2048];
    int code = 0;
    int r =
        journal_prepare(journal,
                        "SELECT id, at_unix_ms, pid, uid, kind, name, gpu, asked, free, short, "
                        "capacity, reserve, foreign_bytes, charged, draining, text FROM refusal "
                        "ORDER BY id",
                        &rows, err);

    while (r == 0 && (code = sqlite3_step(rows)) == SQLITE_ROW) {
        struct journal_refusal refusal = {
            .id = read_number(rows, 0),
            .at_unix_ms = read_number(rows, 1),
            .pid = (pid_t)sqlite3_column_int(rows, 2),
            .uid = (uid_t)sqlite3_column_int64(rows, 3),
            .kind = (uint32_t)sqlite3_column_int(rows, 4),
            .asked_bytes = read_number(rows, 7),
            .free_bytes = read_number(rows, 8),
            .short_bytes = read_number(rows, 9),
            .capacity_bytes = read_number(rows, 10),
            .reserve_bytes = read_number(rows, 11),
            .foreign_bytes = read_number(rows, 12),
            .charged_bytes = read_number(rows, 13),
            .draining_bytes = read_number(rows, 14),
            .text = text,
        };
        read_text(rows, 5, refusal.name, sizeof(refusal.name));
        read_text(rows, 6, refusal.gpu, sizeof(refusal.gpu));
        read_text(rows, 15, text, sizeof(text));
        r = reader->on_refusal(reader->user, &refusal);
    }
    return r != 0 || code == SQLITE_DONE ? r : journal_problem(journal, err);
}

static int load_numbers(struct journal *journal, uint64_t *ret_next_lease, struct error *err)
{
    OWNED(journal_finalize) sqlite3_stmt *rows = NULL;
    int code = 0;
    const int r = journal_prepare(journal, "SELECT name, value FROM number", &rows, err);

    if (r < 0)
        return r;
    while ((code = sqlite3_step(rows)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(rows, 0);
        if (name && strcmp(name, "next_lease") == 0)
            *ret_next_lease = read_number(rows, 1);
    }
    return code == SQLITE_DONE ? 0 : journal_problem(journal, err);
}

int journal_load(struct journal *journal, const struct journal_reader *reader,
                 uint64_t *ret_next_lease, struct error *err)
{
    int r = load_numbers(journal, ret_next_lease, err);

    if (r == 0)
        r = load_leases(journal, reader, err);
    if (r == 0)
        r = load_refusals(journal, reader, err);
    return r;
}
