/* SPDX-License-Identifier: Apache-2.0 */

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "check.h"
#include "store/journal.h"

static char directory[] = "/tmp/brim-journal-XXXXXX";
static char path[64];

struct seen {
    struct journal_lease leases[8];
    size_t lease_count;
    uint64_t refusal_ids[2048];
    size_t refusal_count;
    char last_text[64];
    uint64_t next_lease;
};

static int on_lease(void *user, const struct journal_lease *lease)
{
    struct seen *seen = user;

    CHECK(seen->lease_count < 8);
    seen->leases[seen->lease_count++] = *lease;
    return 0;
}

static int on_refusal(void *user, const struct journal_refusal *refusal)
{
    struct seen *seen = user;

    seen->refusal_ids[seen->refusal_count++] = refusal->id;
    (void)snprintf(seen->last_text, sizeof(seen->last_text), "%s", refusal->text);
    return 0;
}

static struct journal *open_journal(bool is_broken)
{
    struct journal *journal = NULL;
    struct error err = { 0 };
    bool was_broken = !is_broken;

    CHECK(journal_open(path, &journal, &was_broken, &err) == 0);
    CHECK(was_broken == is_broken);
    return journal;
}

static void load(struct journal *journal, struct seen *seen)
{
    const struct journal_reader reader = { seen, on_lease, on_refusal };
    struct error err = { 0 };

    *seen = (struct seen){ .next_lease = 1 };
    CHECK(journal_load(journal, &reader, &seen->next_lease, &err) == 0);
}

static struct journal_lease make_lease(uint64_t id)
{
    struct journal_lease lease = {
        .id = id,
        .state = LEASE_STATE_IDLE,
        .flags = 1,
        .uid = 1000,
        .holder_pid = 42,
        .root_pid = 43,
        .holder_ticks = UINT64_C(1) << 40,
        .root_ticks = 7,
        .since_unix_ms = 99,
        .claim = { .name = "it's \"odd\"; --",
                   .priority = CLAIM_PRIORITY_INTERACTIVE,
                   .is_always_busy = true,
                   .part_count = 2 },
        .gpus = { "GPU-a", "GPU-b" },
    };

    for (uint32_t i = 0; i < 2; i++)
        lease.claim.parts[i] = (struct claim_part){ .resident_bytes = UINT64_C(5) << (30 + i),
                                                    .burst_bytes = 2,
                                                    .load_peak_bytes = 3 };
    return lease;
}

static void write_leases(struct journal *journal, struct journal_lease *leases, size_t count,
                         bool is_whole)
{
    const struct journal_batch batch = {
        .is_whole = is_whole, .leases = leases, .lease_count = count, .next_lease = 1007
    };
    struct error err = { 0 };

    CHECK(journal_write(journal, &batch, &err) == 0);
}

static void test_what_was_written_is_read_after_reopening(void)
{
    struct journal *journal = open_journal(false);
    struct journal_lease lease = make_lease(7);
    struct seen seen;

    write_leases(journal, &lease, 1, false);
    lease.state = LEASE_STATE_BUSY;
    lease.root_pid = 44;
    write_leases(journal, &lease, 1, false);
    journal_close(journal);
    journal = open_journal(false);
    load(journal, &seen);
    CHECK_EQ_U64(seen.lease_count, 1);
    CHECK_EQ_U64(seen.next_lease, 1007);
    CHECK(memcmp(&seen.leases[0].claim, &lease.claim, sizeof(lease.claim)) == 0);
    CHECK(memcmp(seen.leases[0].gpus, lease.gpus, sizeof(lease.gpus)) == 0);
    CHECK(seen.leases[0].state == LEASE_STATE_BUSY && seen.leases[0].root_pid == 44);
    CHECK_EQ_U64(seen.leases[0].holder_ticks, UINT64_C(1) << 40);
    journal_close(journal);
}

static void test_others_cannot_read_it(void)
{
    struct stat info;

    CHECK(stat(path, &info) == 0);
    CHECK_EQ_U64(info.st_mode & 0777, 0600);
}

static void test_the_gone_are_forgotten_and_so_are_their_parts(void)
{
    struct journal *journal = open_journal(false);
    struct journal_lease leases[] = { make_lease(8), make_lease(9) };
    uint64_t gone[] = { 7, 8, 12345 };
    const struct journal_batch batch = { .gone = gone, .gone_count = 3 };
    struct error err = { 0 };
    struct seen seen;

    write_leases(journal, leases, 2, false);
    CHECK(journal_write(journal, &batch, &err) == 0);
    load(journal, &seen);
    CHECK_EQ_U64(seen.lease_count, 1);
    CHECK_EQ_U64(seen.leases[0].id, 9);
    leases[0] = make_lease(10);
    write_leases(journal, leases, 1, true);
    load(journal, &seen);
    CHECK_EQ_U64(seen.lease_count, 1);
    CHECK_EQ_U64(seen.leases[0].id, 10);
    CHECK_EQ_U64(seen.leases[0].claim.part_count, 2);
    journal_close(journal);
}

static void test_only_the_newest_refusals_are_kept(void)
{
    static struct journal_refusal refusals[JOURNAL_REFUSALS_KEPT + 5];
    struct journal *journal = open_journal(false);
    const struct journal_batch batch = { .refusals = refusals,
                                         .refusal_count = JOURNAL_REFUSALS_KEPT + 5 };
    struct error err = { 0 };
    struct seen seen;
    char text[] = "no room\nfor it";

    for (size_t i = 0; i < JOURNAL_REFUSALS_KEPT + 5; i++)
        refusals[i] = (struct journal_refusal){ .id = i + 1, .text = text };
    CHECK(journal_write(journal, &batch, &err) == 0);
    load(journal, &seen);
    CHECK_EQ_U64(seen.refusal_count, JOURNAL_REFUSALS_KEPT);
    CHECK_EQ_U64(seen.refusal_ids[0], 6);
    CHECK(strcmp(seen.last_text, text) == 0);
    journal_close(journal);
}

static void test_a_batch_that_fails_leaves_nothing(void)
{
    struct journal *journal = open_journal(false);
    struct journal_refusal refusal = { .id = 5000, .text = NULL }; /* NOT NULL in the table */
    struct journal_lease lease = make_lease(77);
    const struct journal_batch batch = {
        .leases = &lease, .lease_count = 1, .refusals = &refusal, .refusal_count = 1
    };
    struct error err = { 0 };
    struct seen seen;

    CHECK(journal_write(journal, &batch, &err) < 0);
    CHECK(strstr(err.message, path) != NULL);
    load(journal, &seen);
    CHECK_EQ_U64(seen.lease_count, 1);
    CHECK_EQ_U64(seen.leases[0].id, 10);
    journal_close(journal);
}

static void check_moved_aside(void)
{
    char aside[80];
    struct journal *journal = open_journal(true);
    struct seen seen;

    (void)snprintf(aside, sizeof(aside), "%s.broken", path);
    CHECK(access(aside, F_OK) == 0);
    load(journal, &seen);
    CHECK_EQ_U64(seen.lease_count, 0);
    journal_close(journal);
}

static void test_one_that_is_no_database_is_moved_aside(void)
{
    const int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

    CHECK(fd >= 0);
    for (int i = 0; i < 100; i++)
        CHECK(fd_write_all(fd, "this is no database. ", 21) == 0);
    CHECK(close(fd) == 0);
    check_moved_aside();
}

static void test_one_whose_pages_are_damaged_is_moved_aside(void)
{
    struct journal *journal = open_journal(false);
    struct journal_lease lease = make_lease(7);
    int fd = -1;

    write_leases(journal, &lease, 1, false);
    journal_close(journal);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    /* The head stays, what follows does not. */
    for (off_t at = 4096; at < (off_t)10 * 4096; at += 16)
        CHECK(pwrite(fd, "damaged damaged ", 16, at) == 16);
    CHECK(close(fd) == 0);
    check_moved_aside();
}

static void test_one_of_a_newer_version_is_moved_aside(void)
{
    sqlite3 *db = NULL;

    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    CHECK(sqlite3_exec(db, "PRAGMA user_version=99", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(sqlite3_close(db) == SQLITE_OK);
    check_moved_aside();
}

static void test_a_directory_that_is_not_there_is_an_error_that_names_it(void)
{
    struct journal *journal = NULL;
    struct error err = { 0 };
    bool was_broken = false;

    CHECK(journal_open("/nonexistent/journal", &journal, &was_broken, &err) < 0);
    CHECK(strstr(err.message, "/nonexistent/journal") != NULL && !journal);
}

static void test_the_directory_is_taken_away_again(void)
{
    static const char *const names[] = { "j",        "j-wal",        "j-shm",
                                         "j.broken", "j.broken-wal", "j.broken-shm" };
    char file[80];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(file, sizeof(file), "%s/%s", directory, names[i]);
        (void)unlink(file);
    }
    CHECK(rmdir(directory) == 0);
}

static void test_a_directory_is_made(void)
{
    CHECK(mkdtemp(directory) != NULL);
    (void)snprintf(path, sizeof(path), "%s/j", directory);
}

TESTS(TEST(test_a_directory_is_made), TEST(test_what_was_written_is_read_after_reopening),
      TEST(test_others_cannot_read_it), TEST(test_the_gone_are_forgotten_and_so_are_their_parts),
      TEST(test_only_the_newest_refusals_are_kept), TEST(test_a_batch_that_fails_leaves_nothing),
      TEST(test_one_that_is_no_database_is_moved_aside),
      TEST(test_one_whose_pages_are_damaged_is_moved_aside),
      TEST(test_one_of_a_newer_version_is_moved_aside),
      TEST(test_a_directory_that_is_not_there_is_an_error_that_names_it),
      TEST(test_the_directory_is_taken_away_again))
