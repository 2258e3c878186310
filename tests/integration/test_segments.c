/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "store/segments.h"

static char directory[64];

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

static void remove_directory(void)
{
    (void)nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_directory(void)
{
    (void)snprintf(directory, sizeof(directory), "/tmp/brim-segments-XXXXXX");
    CHECK(mkdtemp(directory) != NULL);
}

static void fill_hashes(unsigned char *hashes, uint64_t count, unsigned char salt)
{
    memset(hashes, salt, (size_t)count * SEGMENTS_HASH_BYTES);
    for (uint64_t i = 0; i < count; i++)
        hashes[i * SEGMENTS_HASH_BYTES] = (unsigned char)i;
}

static struct segments *open_or_fail(void)
{
    struct segments *segments = NULL;
    struct error err = { 0 };
    const int r = segments_open(directory, "out/${SEGMENT}", &segments, &err);

    if (r < 0)
        printf("# %s\n", err.message);
    CHECK(r == 0);
    return segments;
}

static struct segments_info info_of(struct segments *segments)
{
    struct segments_info info = { 0 };

    CHECK(segments_read_info(segments, &info, NULL) == 0);
    return info;
}

static void test_the_life_of_a_segment_survives_a_reopen(void)
{
    unsigned char hashes[4 * SEGMENTS_HASH_BYTES];
    struct segments_change change = { 0 };

    make_directory();
    struct segments *segments = open_or_fail();
    fill_hashes(hashes, 4, 1);
    CHECK(segments_load(segments, hashes, 4, false, &change, NULL) == 0);
    CHECK_EQ_U64(change.new_count, 4);
    CHECK(segments_begin(segments, 0, 1, NULL) == 0);
    CHECK(segments_done(segments, 0, 77, hashes, NULL) == 0);
    CHECK(segments_begin(segments, 1, 1, NULL) == 0);
    CHECK(segments_retry(segments, 1, 1, "it died", NULL) == 0);
    CHECK(segments_fail(segments, 2, 3, "no speech in it", NULL) == 0);
    CHECK(segments_begin(segments, 3, 1, NULL) == 0);
    CHECK(info_of(segments).runner_pid == getpid());
    segments_close(segments);

    segments = open_or_fail();
    CHECK(segments_load(segments, hashes, 4, false, &change, NULL) == 0);
    CHECK_EQ_U64(change.new_count + change.changed_count + change.dropped_count, 0);
    CHECK_EQ_U64(change.interrupted_count, 1);
    const struct segments_info info = info_of(segments);
    CHECK(info.total == 4 && info.done == 1 && info.failed == 1 && info.pending == 2);
    segments_close(segments);
    remove_directory();
}

static int keep_row(const struct segment_row *row, void *user)
{
    struct segment_row *rows = user;

    rows[row->index] = *row;
    return 0;
}

static void test_changed_input_runs_again_and_removed_input_goes(void)
{
    unsigned char hashes[3 * SEGMENTS_HASH_BYTES];
    struct segments_change change = { 0 };
    struct segment_row rows[3] = { 0 };

    make_directory();
    struct segments *segments = open_or_fail();
    fill_hashes(hashes, 3, 1);
    CHECK(segments_load(segments, hashes, 3, false, &change, NULL) == 0);
    for (uint64_t i = 0; i < 3; i++) {
        CHECK(segments_begin(segments, i, 1, NULL) == 0);
        CHECK(segments_done(segments, i, 5, hashes, NULL) == 0);
    }
    hashes[SEGMENTS_HASH_BYTES + 9] ^= 1;
    CHECK(segments_load(segments, hashes, 2, false, &change, NULL) == 0);
    CHECK_EQ_U64(change.changed_count, 1);
    CHECK_EQ_U64(change.dropped_count, 1);
    CHECK(segments_each(segments, keep_row, rows, NULL) == 0);
    CHECK(rows[0].state == SEGMENT_DONE && rows[0].out_bytes == 5);
    CHECK(rows[1].state == SEGMENT_PENDING && rows[1].out_bytes == 0);
    CHECK_EQ_U64(rows[1].attempts, 1); /* an old attempt's path is not used again */
    CHECK(segments_clear(segments, NULL) == 0);
    CHECK_EQ_U64(info_of(segments).generation, 1);
    CHECK_EQ_U64(info_of(segments).total, 0);
    segments_close(segments);
    remove_directory();
}

static void test_a_second_runner_is_told_who_runs_it(void)
{
    struct error err = { 0 };
    struct segments *second = NULL;
    char expected[64];

    make_directory();
    struct segments *segments = open_or_fail();
    CHECK(segments_open(directory, "x", &second, &err) == -EBUSY);
    (void)snprintf(expected, sizeof(expected), "is already run by process %d", (int)getpid());
    CHECK(strstr(err.message, expected) != NULL);
    CHECK(segments_open_read(directory, &second, NULL) == 0);
    CHECK(info_of(second).runner_pid == getpid());
    segments_close(second);
    CHECK(info_of(segments).runner_pid == getpid()); /* a reader's close is not the runner's end */
    segments_close(segments);
    remove_directory();
}

/* Commits one segment after the other until it is killed, telling of each only after the commit. */
static void run_until_killed(int told_fd)
{
    unsigned char hashes[200 * SEGMENTS_HASH_BYTES];
    struct segments_change change = { 0 };
    struct segments *segments = open_or_fail();

    fill_hashes(hashes, 200, 1);
    CHECK(segments_load(segments, hashes, 200, false, &change, NULL) == 0);
    for (unsigned char i = 0; i < 200; i++) {
        CHECK(segments_begin(segments, i, 1, NULL) == 0);
        CHECK(segments_done(segments, i, i, hashes, NULL) == 0);
        CHECK(write(told_fd, &i, 1) == 1);
    }
    _exit(0);
}

static void test_what_was_told_to_be_done_is_done_after_a_kill(void)
{
    for (unsigned kill_after = 1; kill_after < 60; kill_after += 13) {
        unsigned told_count = kill_after;
        int told[2];
        unsigned char last = 0;
        struct segments_info info = { 0 };

        make_directory();
        CHECK(pipe2(told, O_CLOEXEC) == 0);
        const pid_t pid = fork();
        if (pid == 0)
            run_until_killed(told[1]);
        for (unsigned i = 0; i < kill_after; i++)
            CHECK(read(told[0], &last, 1) == 1);
        CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
        (void)close(told[1]);
        while (read(told[0], &last, 1) == 1) /* what it told before the signal came */
            told_count = (unsigned)last + 1;
        (void)close(told[0]);
        struct segments *segments = open_or_fail();
        info = info_of(segments);
        CHECK(info.done >= told_count && info.done + info.running + info.pending == 200);
        CHECK(info.running <= 1);
        segments_close(segments);
        remove_directory();
    }
}

static void test_a_file_that_may_not_grow_is_a_clear_error(void)
{
    unsigned char hashes[200 * SEGMENTS_HASH_BYTES];
    struct segments_change change = { 0 };
    struct error err = { 0 };
    const struct rlimit small = { .rlim_cur = 4096, .rlim_max = RLIM_INFINITY };
    struct rlimit before = { 0 };

    make_directory();
    (void)signal(SIGXFSZ, SIG_IGN);
    struct segments *segments = open_or_fail();
    fill_hashes(hashes, 200, 1);
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0 && setrlimit(RLIMIT_FSIZE, &small) == 0);
    const int r = segments_load(segments, hashes, 200, false, &change, &err);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(r == -EIO || r == -ENOSPC);
    CHECK(strstr(err.message, "batch.db") != NULL);
    /* Nothing half-done stays behind, and the store goes on once there is room. */
    CHECK_EQ_U64(info_of(segments).total, 0);
    CHECK(segments_load(segments, hashes, 200, false, &change, &err) == 0);
    CHECK_EQ_U64(info_of(segments).total, 200);
    segments_close(segments);
    remove_directory();
}

static void test_a_damaged_file_says_what_to_do(void)
{
    struct error err = { 0 };
    struct segments *segments = NULL;
    char path[96];

    make_directory();
    (void)snprintf(path, sizeof(path), "%s/batch.db", directory);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "not a database at all, but long enough", 38) == 38);
    (void)close(fd);
    CHECK(segments_open(directory, "x", &segments, &err) == -EIO);
    CHECK(strstr(err.message, "move it away to start over") != NULL);
    remove_directory();
}

static void test_files_are_closed_to_others(void)
{
    struct stat info = { 0 };
    char path[96];
    const mode_t before = umask(0);

    make_directory();
    struct segments *segments = open_or_fail();
    (void)snprintf(path, sizeof(path), "%s/batch.db", directory);
    CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600);
    (void)snprintf(path, sizeof(path), "%s/batch.db-wal", directory);
    CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600);
    segments_close(segments);
    (void)umask(before);
    remove_directory();
}

TESTS(TEST(test_the_life_of_a_segment_survives_a_reopen),
      TEST(test_changed_input_runs_again_and_removed_input_goes),
      TEST(test_a_second_runner_is_told_who_runs_it),
      TEST(test_what_was_told_to_be_done_is_done_after_a_kill),
      TEST(test_a_file_that_may_not_grow_is_a_clear_error),
      TEST(test_a_damaged_file_says_what_to_do), TEST(test_files_are_closed_to_others))
