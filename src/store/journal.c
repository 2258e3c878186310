/* SPDX-License-Identifier: Apache-2.0 */

#include "store/journal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/crash.h"
#include "store/journal_file.h"

#define TEXT(value)   #value
#define NUMERAL(name) TEXT(name)

void journal_batch_deinit(struct journal_batch *batch)
{
    for (size_t i = 0; i < batch->refusal_count; i++)
        free(batch->refusals[i].text);
    free(batch->leases);
    free(batch->gone);
    free(batch->refusals);
    *batch = (struct journal_batch){ 0 };
}

static void bind(sqlite3_stmt *statement, int place, uint64_t value)
{
    const uint64_t most = INT64_MAX;

    (void)sqlite3_bind_int64(statement, place, (sqlite3_int64)(value < most ? value : most));
}

static void bind_text(sqlite3_stmt *statement, int place, const char *text)
{
    (void)sqlite3_bind_text(statement, place, text, -1, SQLITE_STATIC);
}

/* Run a prepared statement that gives no rows, and make it ready for the next. */
static int step(struct journal *journal, sqlite3_stmt *statement, struct error *err)
{
    if (sqlite3_step(statement) != SQLITE_DONE) {
        const int r = journal_problem(journal, err);
        (void)sqlite3_reset(statement);
        return r;
    }
    (void)sqlite3_reset(statement);
    return 0;
}

static int write_parts(struct journal *journal, sqlite3_stmt *statement,
                       const struct journal_lease *lease, struct error *err)
{
    int r = 0;

    for (uint32_t i = 0; i < lease->claim.part_count && r == 0; i++) {
        const struct claim_part *part = &lease->claim.parts[i];
        bind(statement, 1, lease->id);
        bind(statement, 2, i);
        bind_text(statement, 3, lease->gpus[i]);
        bind(statement, 4, part->resident_bytes);
        bind(statement, 5, part->burst_bytes);
        bind(statement, 6, part->load_peak_bytes);
        r = step(journal, statement, err);
    }
    return r;
}

static void bind_lease(sqlite3_stmt *statement, const struct journal_lease *lease)
{
    bind(statement, 1, lease->id);
    bind(statement, 2, lease->state);
    bind(statement, 3, lease->flags);
    bind(statement, 4, lease->uid);
    bind(statement, 5, (uint64_t)lease->holder_pid);
    bind(statement, 6, lease->holder_ticks);
    bind(statement, 7, (uint64_t)lease->root_pid);
    bind(statement, 8, lease->root_ticks);
    bind(statement, 9, lease->since_unix_ms);
    bind_text(statement, 10, lease->claim.name);
    bind(statement, 11, lease->claim.priority);
    bind(statement, 12, lease->claim.is_load_alone);
    bind(statement, 13, lease->claim.is_always_busy);
}

static int write_leases(struct journal *journal, const struct journal_batch *batch,
                        struct error *err)
{
    OWNED(journal_finalize) sqlite3_stmt *row = NULL;
    OWNED(journal_finalize) sqlite3_stmt *part = NULL;
    int r = 0;

    if (batch->lease_count == 0)
        return 0;
    /* Parts never change their number or gpu, so replacing them one by one is enough. */
    r = journal_prepare(journal,
                        "INSERT INTO lease VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO "
                        "UPDATE SET state = excluded.state, flags = excluded.flags, holder_pid = "
                        "excluded.holder_pid, holder_ticks = excluded.holder_ticks, root_pid = "
                        "excluded.root_pid, root_ticks = excluded.root_ticks",
                        &row, err);
    if (r == 0)
        r = journal_prepare(journal, "INSERT OR REPLACE INTO part VALUES (?,?,?,?,?,?)", &part,
                            err);
    for (size_t i = 0; i < batch->lease_count && r == 0; i++) {
        bind_lease(row, &batch->leases[i]);
        r = step(journal, row, err);
        if (r == 0)
            r = write_parts(journal, part, &batch->leases[i], err);
    }
    return r;
}

static int write_gone(struct journal *journal, const struct journal_batch *batch, struct error *err)
{
    OWNED(journal_finalize) sqlite3_stmt *row = NULL;
    int r = 0;

    if (batch->is_whole)
        return journal_run(journal, "DELETE FROM lease", err);
    if (batch->gone_count == 0)
        return 0;
    r = journal_prepare(journal, "DELETE FROM lease WHERE id = ?", &row, err);
    for (size_t i = 0; i < batch->gone_count && r == 0; i++) {
        bind(row, 1, batch->gone[i]);
        r = step(journal, row, err);
    }
    return r;
}

static void bind_refusal(sqlite3_stmt *statement, const struct journal_refusal *refusal)
{
    const uint64_t figures[] = { refusal->asked_bytes,   refusal->free_bytes,
                                 refusal->short_bytes,   refusal->capacity_bytes,
                                 refusal->reserve_bytes, refusal->foreign_bytes,
                                 refusal->charged_bytes, refusal->draining_bytes };

    bind(statement, 1, refusal->id);
    bind(statement, 2, refusal->at_unix_ms);
    bind(statement, 3, (uint64_t)refusal->pid);
    bind(statement, 4, refusal->uid);
    bind(statement, 5, refusal->kind);
    bind_text(statement, 6, refusal->name);
    bind_text(statement, 7, refusal->gpu);
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
        bind(statement, 8 + (int)i, figures[i]);
    bind_text(statement, 16, refusal->text);
}

static int write_refusals(struct journal *journal, const struct journal_batch *batch,
                          struct error *err)
{
    OWNED(journal_finalize) sqlite3_stmt *row = NULL;
    int r = 0;

    if (batch->refusal_count == 0)
        return 0;
    r = journal_prepare(journal,
                        "INSERT OR REPLACE INTO refusal VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                        &row, err);
    for (size_t i = 0; i < batch->refusal_count && r == 0; i++) {
        bind_refusal(row, &batch->refusals[i]);
        r = step(journal, row, err);
    }
    if (r == 0)
        r = journal_run(journal,
                        "DELETE FROM refusal WHERE id <= (SELECT max(id) FROM refusal) "
                        "- " NUMERAL(JOURNAL_REFUSALS_KEPT),
                        err);
    return r;
}

static int write_number(struct journal *journal, const char *name, uint64_t value,
                        struct error *err)
{
    OWNED(journal_finalize) sqlite3_stmt *row = NULL;
    int r = 0;

    if (value == 0)
        return 0;
    r = journal_prepare(journal, "INSERT OR REPLACE INTO number VALUES (?,?)", &row, err);
    if (r < 0)
        return r;
    bind_text(row, 1, name);
    bind(row, 2, value);
    return step(journal, row, err);
}

int journal_write(struct journal *journal, const struct journal_batch *batch, struct error *err)
{
    int r = journal_run(journal, "BEGIN IMMEDIATE", err);

    if (r < 0)
        return r;
    CRASH_POINT(journal_begun);
    r = write_gone(journal, batch, err);
    if (r == 0)
        r = write_leases(journal, batch, err);
    if (r == 0)
        r = write_refusals(journal, batch, err);
    if (r == 0)
        r = write_number(journal, "next_lease", batch->next_lease, err);
    CRASH_POINT(journal_half);
    if (r == 0)
        r = journal_run(journal, "COMMIT", err);
    CRASH_POINT(journal_committed);
    if (r < 0)
        (void)journal_run(journal, "ROLLBACK", NULL); /* SQLite may have done so already */
    return r;
}
