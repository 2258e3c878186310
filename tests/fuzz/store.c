/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Databases that somebody or something has changed. The first letter says which: j the journal, e
 * the event log, s the segments of a batch. In lower case the rest is SQL that is run on a good
 * one, in upper case it is the file itself. Each is then opened and read, and what the journal
 * tells is put into a budget, as a daemon does at its start: no id twice, no sum that wraps.
 */

#include <ctype.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/paths.h"
#include "budget/budget.h"
#include "fuzz.h"
#include "store/event_log.h"
#include "store/journal.h"
#include "store/segments.h"

#define STEPS_MAX 20000 /* of SQLite's machine: a statement may not run for ever */

static char folder[64], file_path[PATHS_BYTES];

/* A database like that may refuse. */
static void allow(int result)
{
    (void)result;
}

static void clean(void)
{
    static const char *const suffixes[] = { "",        "-wal",        "-shm",       "-journal",
                                            ".broken", ".broken-wal", ".broken-shm" };
    char path[PATHS_BYTES + 16];

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", file_path, suffixes[i]);
        (void)unlink(path);
    }
}

static void remove_folder(void)
{
    clean();
    (void)rmdir(folder);
}

static int on_steps(void *user)
{
    int *const left = user;

    return --*left < 0;
}

/* Nothing outside this one file. */
static int authorize(void *user, int action, const char *a, const char *b, const char *c,
                     const char *d)
{
    (void)user;
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return action == SQLITE_ATTACH || action == SQLITE_DETACH || action == SQLITE_PRAGMA
               ? SQLITE_DENY
               : SQLITE_OK;
}

static void run_sql(const char *sql)
{
    sqlite3 *db = NULL;
    int left = STEPS_MAX / 100;

    if (sqlite3_open_v2(file_path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK) {
        (void)sqlite3_exec(db, "PRAGMA foreign_keys=OFF; PRAGMA synchronous=OFF", NULL, NULL, NULL);
        (void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 1 << 20);
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 1, NULL);
        (void)sqlite3_set_authorizer(db, authorize, NULL);
        sqlite3_progress_handler(db, 100, on_steps, &left);
        (void)sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    (void)sqlite3_close(db);
}

static void write_file(const uint8_t *bytes, size_t byte_count)
{
    FILE *const file = fopen(file_path, "we");

    FUZZ_MUST(file && fwrite(bytes, 1, byte_count, file) == byte_count);
    FUZZ_MUST(fclose(file) == 0 && chmod(file_path, 0600) == 0);
}

static int put_back(void *user, const struct journal_lease *lease)
{
    struct claim claim = lease->claim;
    uint64_t id = 0;

    FUZZ_MUST(claim.part_count <= CLAIM_PART_MAX);
    FUZZ_MUST(memchr(claim.name, '\0', sizeof(claim.name)));
    for (uint32_t i = 0; i < claim.part_count; i++) {
        FUZZ_MUST(memchr(lease->gpus[i], '\0', sizeof(lease->gpus[i])));
        claim.parts[i].gpu = i;
    }
    (void)budget_restore(user, &claim, lease->id, lease->state, 1, &id);
    return 0;
}

static int read_refusal(void *user, const struct journal_refusal *refusal)
{
    (void)user;
    FUZZ_MUST(memchr(refusal->name, '\0', sizeof(refusal->name)) && refusal->text);
    return 0;
}

static struct budget *new_budget(void)
{
    const struct budget_limits limits = BUDGET_LIMITS_DEFAULT;
    struct budget *budget = NULL;
    uint32_t gpu = 0;

    FUZZ_MUST(budget_new(&limits, &budget) == 0);
    for (int i = 0; i < CLAIM_PART_MAX; i++)
        FUZZ_MUST(budget_add_gpu(budget, UINT64_C(1) << 34, UINT64_C(1) << 29, &gpu) == 0);
    return budget;
}

static void read_journal(void)
{
    struct budget *const budget = new_budget();
    struct journal *journal = NULL;
    struct error err = { 0 };
    bool was_broken = false;
    uint64_t next_lease = 1;

    const struct journal_reader reader = { budget, put_back, read_refusal };
    if (journal_open(file_path, &journal, &was_broken, &err) == 0) {
        struct journal_lease lease = { .id = 4, .state = LEASE_STATE_IDLE };
        const struct journal_batch batch = { .is_whole = true, .leases = &lease, .lease_count = 1 };
        (void)journal_load(journal, &reader, &next_lease, &err);
        budget_reserve_ids(budget, next_lease);
        budget_check(budget);
        (void)journal_write(journal, &batch, &err);
        journal_close(journal);
    }
    budget_free(budget);
}

static int read_event(void *user, const struct event_row *row)
{
    (void)user;
    FUZZ_MUST(row->kind);
    return 0;
}

static void read_events(void)
{
    const struct event_row row = { .number = 7, .gpu = -1, .kind = "lost" };
    struct event_log *log = NULL;
    struct error err = { 0 };
    bool was_closed = false;

    if (event_log_open(file_path, &log, &was_closed, &err) < 0)
        return;
    allow(event_log_walk(log, 100, read_event, NULL, &err));
    allow(event_log_append(log, &row, 1, &err));
    event_log_close(log);
}

static int read_segment(const struct segment_row *row, void *user)
{
    (void)user;
    FUZZ_MUST(memchr(row->reason, '\0', sizeof(row->reason)));
    FUZZ_MUST((unsigned)row->state <= SEGMENT_FAILED);
    return 0;
}

static void read_segments(void)
{
    static const unsigned char hashes[3 * SEGMENTS_HASH_BYTES] = { 1 };
    struct segments_change change;
    struct segments_info info;
    struct segments *segments = NULL;
    struct error err = { 0 };

    if (segments_open_read(folder, &segments, &err) == 0) {
        allow(segments_each(segments, read_segment, NULL, &err));
        if (segments_read_info(segments, &info, &err) == 0)
            FUZZ_MUST(memchr(info.output, '\0', sizeof(info.output)));
        segments_close(segments);
    }
    if (segments_open(folder, "/out/${SEGMENT}", &segments, &err) < 0)
        return;
    if (segments_load(segments, hashes, 3, true, &change, &err) == 0) {
        allow(segments_begin(segments, 0, 1, &err));
        allow(segments_done(segments, 0, 5, hashes, &err));
        allow(segments_each(segments, read_segment, NULL, &err));
    }
    segments_close(segments);
}

static void read_one(char which)
{
    if (which == 'j')
        read_journal();
    else if (which == 'e')
        read_events();
    else
        read_segments();
}

/* A good database, as the first reading of none makes it. It is made once and then laid down as it
 * was, which is what takes the time of an input otherwise. */
struct good {
    char which;
    uint8_t *bytes; /* owned, for ever */
    size_t byte_count;
};

static void keep_good(struct good *good)
{
    struct stat info;
    FILE *file = NULL;

    read_one(good->which);
    file = fopen(file_path, "re");
    FUZZ_MUST(file && fstat(fileno(file), &info) == 0 && info.st_size > 0);
    good->byte_count = (size_t)info.st_size;
    good->bytes = malloc(good->byte_count);
    FUZZ_MUST(good->bytes && fread(good->bytes, 1, good->byte_count, file) == good->byte_count);
    (void)fclose(file);
    clean();
}

static void write_good(char which)
{
    static struct good goods[] = { { .which = 'j' }, { .which = 'e' }, { .which = 's' } };
    struct good *good = goods;

    while (good->which != which)
        good++;
    if (!good->bytes)
        keep_good(good);
    write_file(good->bytes, good->byte_count);
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    struct fuzz_input input = { bytes, byte_count };
    const uint8_t letter = fuzz_byte(&input);
    const char which = (char)(letter | 0x20); /* in lower case */

    if (which != 'j' && which != 'e' && which != 's')
        return;
    if (folder[0] == '\0') {
        /* In memory, where there is such a place: durable writes take their time on a disk. */
        (void)snprintf(folder, sizeof(folder), "%s/brim-fuzz-store-XXXXXX",
                       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        FUZZ_MUST(mkdtemp(folder) && atexit(remove_folder) == 0);
        (void)snprintf(file_path, sizeof(file_path), "%s/batch.db", folder);
    }
    if (islower(letter)) {
        char *const sql = fuzz_text(input.at, input.left);
        write_good(which);
        run_sql(sql);
        free(sql);
    } else {
        write_file(input.at, input.left);
    }
    read_one(which);
    clean();
}
