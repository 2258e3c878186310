/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/history.h"
#include "base/fd.h"
#include "check.h"
#include "store/event_log.h"

static char directory[] = "/tmp/brim-test-history-XXXXXX";
static char path[128];

static void append(struct events *events, const char *name)
{
    CHECK(events_append(events, &(struct event){ .kind = "granted",
                                                 .lease_id = 3,
                                                 .name = name,
                                                 .gpu = 0,
                                                 .bytes = 5,
                                                 .text = "two\nlines" }) > 0);
}

/* A daemon's life: open, append, close. Returns the number of its first event. */
static uint64_t live(int count, const char *name)
{
    uv_loop_t loop;
    struct events *events = NULL;
    struct history *history = NULL;
    struct error err = { 0 };

    CHECK(uv_loop_init(&loop) == 0);
    CHECK(events_new(1, &events) == 0);
    CHECK(history_open(&loop, path, events, NULL, &history, &err) == 0);
    const uint64_t first = events_last(events) + 1;
    for (int i = 0; i < count; i++)
        append(events, name);
    history_close(history, NULL, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
    events_free(events);
    return first;
}

static void test_numbers_and_events_go_on_over_a_restart(void)
{
    uv_loop_t loop;
    struct events *events = NULL;
    struct history *history = NULL;
    struct event_record record;

    CHECK_EQ_U64(live(3, "first\xff"), 1);
    CHECK_EQ_U64(live(2, "second"), 4);
    CHECK(uv_loop_init(&loop) == 0);
    CHECK(events_new(1, &events) == 0);
    CHECK(history_open(&loop, path, events, NULL, &history, NULL) == 0);
    CHECK_EQ_U64(events_last(events), 5);
    CHECK(events_find(events, 2, &record) == 0);
    CHECK(record.number == 3 && strcmp(record.event.name, "first\xff") == 0);
    CHECK(strcmp(record.event.kind, "granted") == 0 && record.event.bytes == 5);
    CHECK(strcmp(record.event.text, "two\nlines") == 0 && record.at_unix_ms > 0);
    history_close(history, NULL, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
    events_free(events);
}

static int note_number(void *user, const struct event_row *row)
{
    *(uint64_t *)user = row->number;
    return 0;
}

/* A daemon that is killed after it has written one event and shown another. */
static void live_until_killed(int ready_fd)
{
    uv_loop_t loop;
    struct events *events = NULL;
    struct history *history = NULL;

    if (uv_loop_init(&loop) != 0 || events_new(1, &events) < 0 ||
        history_open(&loop, path, events, NULL, &history, NULL) < 0)
        _exit(2);
    append(events, "written");
    (void)uv_run(&loop, UV_RUN_DEFAULT); /* ends when nothing is left to write */
    append(events, "shown");
    if (write(ready_fd, "x", 1) != 1)
        _exit(3);
    for (;;)
        (void)pause();
}

static void test_a_killed_daemon_leaves_what_was_written_and_no_number_twice(void)
{
    int status = 0, ready[2];
    char byte = 0;
    struct event_log *log = NULL;
    bool was_closed = true;

    CHECK(pipe2(ready, O_CLOEXEC) == 0);
    (void)fflush(stdout);
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        live_until_killed(ready[1]);
    (void)close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 1);
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
    (void)close(ready[0]);
    CHECK(live(0, "") > 7); /* 6 was written, 7 shown */
    CHECK(event_log_open(path, &log, &was_closed, NULL) == 0);
    CHECK(was_closed);
    uint64_t last = 0;
    CHECK(event_log_walk(log, 1, note_number, &last, NULL) == 0);
    CHECK_EQ_U64(last, 6);
    event_log_close(log);
}

static void test_a_file_that_is_no_database_is_put_aside(void)
{
    struct stat info;
    char aside[160];
    static const char junk[] = "this is no database, it is a text of some length";
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

    CHECK(fd >= 0 && fd_write_all(fd, junk, sizeof(junk)) == 0);
    fd_close(&fd);
    CHECK(live(1, "anew") > 0);
    (void)snprintf(aside, sizeof(aside), "%s.broken", path);
    CHECK(stat(aside, &info) == 0 && info.st_size == sizeof(junk));
    CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600);
    CHECK(unlink(aside) == 0);
}

static int count_row(void *user, const struct event_row *row)
{
    (void)row;
    ++*(int *)user;
    return 0;
}

static void test_the_log_forgets_the_oldest(void)
{
    struct event_log *log = NULL;
    bool was_closed = false;
    struct event_row row = { .number = 1, .kind = "granted", .gpu = -1 };
    int count = 0;

    CHECK(event_log_open(path, &log, &was_closed, NULL) == 0);
    CHECK(event_log_append(log, &row, 1, NULL) == 0);
    row.number = EVENT_LOG_KEPT;
    CHECK(event_log_append(log, &row, 1, NULL) == 0);
    CHECK(event_log_walk(log, 10, count_row, &count, NULL) == 0);
    CHECK(count == 3); /* and the one of the test before */
    row.number = EVENT_LOG_KEPT + 5000;
    CHECK(event_log_append(log, &row, 1, NULL) == 0);
    count = 0;
    CHECK(event_log_walk(log, 10, count_row, &count, NULL) == 0);
    CHECK(count == 2);
    event_log_close(log);
}

static void test_cleaning_up(void)
{
    CHECK(unlink(path) == 0 && rmdir(directory) == 0);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST(test_numbers_and_events_go_on_over_a_restart),
        TEST(test_a_killed_daemon_leaves_what_was_written_and_no_number_twice),
        TEST(test_a_file_that_is_no_database_is_put_aside),
        TEST(test_the_log_forgets_the_oldest),
        TEST(test_cleaning_up),
    };

    CHECK(mkdtemp(directory) != NULL);
    CHECK(snprintf(path, sizeof(path), "%s/events.db", directory) > 0);
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
