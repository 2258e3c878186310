/* SPDX-License-Identifier: Apache-2.0 */

/* The worker side of libbrim against a batch that this test plays on the other end of the socket.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <brim/brim.h>

#include "check.h"

static int batch_fd;

static brim_worker *open_worker(void)
{
    brim_worker *worker = NULL;
    char number[16];
    int pair[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    batch_fd = pair[0];
    (void)snprintf(number, sizeof(number), "%d", pair[1]);
    CHECK(setenv("BRIM_FD", number, 1) == 0);
    CHECK(brim_worker_open(&worker) == 0);
    return worker;
}

static void say(const char *text)
{
    CHECK(write(batch_fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* What the worker has sent until now: its calls have returned, so all of it is there. */
static void expect_heard(const char *expected)
{
    char text[4096];
    const ssize_t got = recv(batch_fd, text, sizeof(text) - 1, MSG_DONTWAIT);

    text[got > 0 ? got : 0] = '\0';
    if (strcmp(text, expected) != 0)
        printf("# heard: %s\n", text);
    CHECK(strcmp(text, expected) == 0);
}

static void end(brim_worker *worker)
{
    brim_worker_close(worker);
    (void)close(batch_fd);
}

#define SEGMENT "{\"segment\": 3, \"id\": \"000003\", \"input\": \"say it\", \"out\": \"/o/3\"}\n"
#define READY   "{\"ready\": true, \"flush\": false, \"heartbeat\": false}\n"

static void test_a_segment_from_beginning_to_end(void)
{
    brim_worker *worker = open_worker();
    struct brim_segment segment = { 0 };

    say(SEGMENT "{\"granted\": 500}\n{\"stop\": \"no segment is left\"}\n");
    errno = 77;
    CHECK(brim_worker_next(worker, &segment) == 1);
    CHECK(segment.index == 3 && strcmp(segment.id, "000003") == 0);
    CHECK(strcmp(segment.input, "say it") == 0 && strcmp(segment.out, "/o/3") == 0);
    CHECK(brim_worker_burst(worker, 500) == 0);
    CHECK(brim_worker_done(worker) == 0);
    CHECK(brim_worker_next(worker, &segment) == 0);
    CHECK(brim_worker_next(worker, &segment) == 0);
    CHECK(errno == 77);
    expect_heard(READY "{\"burst\": 500}\n{\"done\": 3}\n");
    end(worker);
}

static void test_an_object_comes_as_its_text(void)
{
    brim_worker *worker = open_worker();
    struct brim_segment segment = { 0 };

    say("{\"segment\": 0, \"id\": \"000000\", \"input\": {\"t\": [1, 2]}, \"out\": \"/o\"}\n");
    CHECK(brim_worker_next(worker, &segment) == 1);
    CHECK(strcmp(segment.input, "{\"t\": [1, 2]}") == 0);
    CHECK(brim_worker_failed(worker, "no \"speech\"\n") == 0);
    expect_heard(READY "{\"failed\": 0, \"reason\": \"no \\\"speech\\\"\\u000a\"}\n");
    end(worker);
}

static int count_flush(brim_worker *worker, void *user)
{
    int *count = user;

    (void)worker;
    return ++*count == 1 ? 0 : -1;
}

static void test_flushes_run_between_segments(void)
{
    brim_worker *worker = open_worker();
    struct brim_segment segment = { 0 };
    int count = 0;

    CHECK(brim_worker_on_flush(worker, count_flush, &count) == 0);
    say("{\"flush\": 1}\n{\"flush\": 1}\n" SEGMENT);
    CHECK(brim_worker_next(worker, &segment) == 1);
    CHECK(count == 2);
    expect_heard("{\"ready\": true, \"flush\": true, \"heartbeat\": false}\n"
                 "{\"flushed\": true}\n{\"flushed\": false}\n");
    end(worker);
}

static void test_a_refused_burst_is_told_and_a_stop_takes_the_segment_back(void)
{
    brim_worker *worker = open_worker();
    struct brim_segment segment = { 0 };

    say(SEGMENT "{\"refused\": \"too much\"}\n{\"stop\": \"memory is wanted\"}\n");
    CHECK(brim_worker_next(worker, &segment) == 1);
    CHECK(brim_worker_burst(worker, 1) == BRIM_ERR_NO_ROOM);
    CHECK(brim_worker_burst(worker, 1) == BRIM_ERR_CANCELLED);
    CHECK(brim_worker_done(worker) == BRIM_ERR_CANCELLED);
    CHECK(brim_worker_next(worker, &segment) == 0);
    end(worker);
}

static void test_calls_out_of_turn_are_refused(void)
{
    brim_worker *worker = open_worker();
    struct brim_segment segment = { 0 };

    CHECK(brim_worker_done(worker) == BRIM_ERR_STATE);
    CHECK(brim_worker_burst(worker, 1) == BRIM_ERR_STATE);
    say(SEGMENT);
    CHECK(brim_worker_next(worker, &segment) == 1);
    CHECK(brim_worker_next(worker, &segment) == BRIM_ERR_STATE);
    CHECK(brim_worker_next(NULL, &segment) == BRIM_ERR_INVALID);
    end(worker);
}

static void test_the_end_of_the_batch_is_a_stop(void)
{
    brim_worker *worker = open_worker();
    struct brim_segment segment = { 0 };

    (void)close(batch_fd);
    CHECK(brim_worker_next(worker, &segment) == 0);
    brim_worker_close(worker);
    brim_worker_close(NULL);
}

static void test_garbage_is_an_error_and_nothing_else(void)
{
    static const char *const lines[] = { "nonsense\n", "{\"segment\": 1}\n", "{\"later\": 1}\n",
                                         "{\"segment\": -1, \"id\": \"1\", \"input\": \"\", "
                                         "\"out\": \"\"}\n" };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        brim_worker *worker = open_worker();
        struct brim_segment segment = { 0 };
        say(lines[i]);
        CHECK(brim_worker_next(worker, &segment) == BRIM_ERR_PROTOCOL);
        end(worker);
    }
}

static void test_heartbeats_wait_until_the_worker_is_ready(void)
{
    struct brim_segment segment = { 0 };

    CHECK(setenv("WATCHDOG_USEC", "1000000", 1) == 0);
    brim_worker *worker = open_worker();
    CHECK(unsetenv("WATCHDOG_USEC") == 0);
    CHECK(brim_worker_heartbeat(worker) == 0);
    expect_heard("");
    say(SEGMENT);
    CHECK(brim_worker_next(worker, &segment) == 1);
    CHECK(brim_worker_heartbeat(worker) == 0);
    expect_heard("{\"ready\": true, \"flush\": false, \"heartbeat\": true}\n{\"heartbeat\": 1}\n");
    end(worker);
}

static void test_a_child_of_the_worker_may_not_answer(void)
{
    brim_worker *worker = open_worker();
    struct brim_segment segment = { 0 };
    int status = 0;

    say(SEGMENT);
    CHECK(brim_worker_next(worker, &segment) == 1);
    const pid_t pid = fork();
    if (pid == 0)
        _exit(brim_worker_done(worker) == BRIM_ERR_FORKED ? 0 : 1);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(brim_worker_done(worker) == 0);
    end(worker);
}

static void test_without_a_socket_there_is_no_worker(void)
{
    static const char *const numbers[] = { "", "x", "-1", "999999", "4294967299", "0x3" };
    brim_worker *worker = NULL;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        CHECK(setenv("BRIM_FD", numbers[i], 1) == 0);
        CHECK(brim_worker_open(&worker) == BRIM_ERR_INVALID && !worker);
    }
    CHECK(unsetenv("BRIM_FD") == 0);
    CHECK(brim_worker_open(&worker) == BRIM_ERR_INVALID);
    CHECK(brim_worker_open(NULL) == BRIM_ERR_INVALID);
}

TESTS(TEST(test_a_segment_from_beginning_to_end), TEST(test_an_object_comes_as_its_text),
      TEST(test_flushes_run_between_segments),
      TEST(test_a_refused_burst_is_told_and_a_stop_takes_the_segment_back),
      TEST(test_calls_out_of_turn_are_refused), TEST(test_the_end_of_the_batch_is_a_stop),
      TEST(test_garbage_is_an_error_and_nothing_else),
      TEST(test_heartbeats_wait_until_the_worker_is_ready),
      TEST(test_a_child_of_the_worker_may_not_answer),
      TEST(test_without_a_socket_there_is_no_worker))
