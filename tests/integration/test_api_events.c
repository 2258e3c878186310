/* SPDX-License-Identifier: Apache-2.0 */

/* The API's event streams: who follows, who is slow, who left. */

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api_server.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "check.h"

static int get(const char *target, const char **ret_body)
{
    return api_ask("GET", target, "", ret_body);
}

static void check_alive(void)
{
    CHECK(get("/v1/status", NULL) == 200);
}

static int open_follower(const char *target)
{
    char request[128];
    const int fd = api_connect();
    const int bytes =
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);

    api_send(fd, request, (size_t)bytes);
    return fd;
}

static void test_a_follower_gets_what_happens_later(void)
{
    static char answer[API_ANSWER_BYTES];
    OWNED(fd_close) int fd = open_follower("/v1/events?last=0&follow=1");

    CHECK(api_receive(fd, answer, "\r\n\r\n") > 0);
    CHECK(!strstr(answer, "\"n\":"));
    CHECK(api_ask("POST", "/v1/trim", "{\"name\": \"later\"}", NULL) == 200);
    CHECK(api_receive(fd, answer, "\n\r\n") > 0);
    CHECK(strstr(answer, "\"name\":\"later\""));
}

static void test_since_leaves_out_what_was_seen(void)
{
    const char *body = "";

    CHECK(api_ask("POST", "/v1/trim", "{\"name\": \"seen\"}", NULL) == 200);
    CHECK(get("/v1/events?last=1", &body) == 200 && strstr(body, "\"name\":\"seen\""));
    const char *const number = strstr(body, "\"n\":");
    CHECK(number != NULL);
    char target[64];
    (void)snprintf(target, sizeof(target), "/v1/events?since=%ld", strtol(number + 4, NULL, 10));
    CHECK(get(target, &body) == 200 && !strstr(body, "\"n\":"));
}

static void test_followers_that_left_give_their_places_back(void)
{
    static char answer[API_ANSWER_BYTES];

    for (int i = 0; i < 80; i++) {
        OWNED(fd_close) int fd = open_follower("/v1/events?last=0&follow=1");
        CHECK(api_receive(fd, answer, "\r\n\r\n") > 0);
    }
    check_alive();
}

static void test_steps_are_made_for_who_follows_them_only(void)
{
    static char answer[API_ANSWER_BYTES];

    CHECK(api_ask("POST", "/v1/trim", "{\"name\": \"step\"}", NULL) == 200);
    for (int i = 0; i < 2; i++) {
        OWNED(fd_close) int fd = open_follower("/v1/steps");
        char number[32];

        /* What there is comes first, and nothing of what nobody followed. */
        CHECK(api_receive(fd, answer, "\"kind\":\"asked\"") > 0);
        (void)snprintf(number, sizeof(number), "{\"n\":%d,", 1 + 2 * i);
        CHECK(strstr(answer, number) && !strstr(answer, "granted"));
        CHECK(api_ask("POST", "/v1/trim", "{\"name\": \"step\"}", NULL) == 200);
        CHECK(api_receive(fd, answer, "\"kind\":\"granted\"") > 0);
        fd_close(&fd);
        check_alive();
    }
}

static uint64_t server_rss_bytes(void)
{
    char path[64];
    OWNED(freep) char *text = NULL;

    (void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)api_server_pid());
    CHECK(fd_read_file(path, 4096, &text, NULL) == 0);
    const char *const second = strchr(text, ' ');
    CHECK(second != NULL);
    return strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Each request makes the server run, and in each run it writes to who can take more: when a few
 * runs brought nothing new, the stream is stuck. */
static void wait_until_blocked(int fd)
{
    int before_bytes = -1, bytes = 0;

    for (int same = 0; same < 4; same = bytes == before_bytes ? same + 1 : 0) {
        before_bytes = bytes;
        check_alive();
        CHECK(ioctl(fd, FIONREAD, &bytes) == 0);
    }
}

static void test_a_follower_that_never_reads_is_dropped(void)
{
    static char answer[API_ANSWER_BYTES];
    OWNED(fd_close) int fd = open_follower("/v1/events?last=0&follow=1");
    OWNED(fd_close) int other = open_follower("/v1/events?last=0&follow=1");

    CHECK(api_receive(fd, answer, "\r\n\r\n") > 0 && api_receive(other, answer, "\r\n\r\n") > 0);
    CHECK(api_ask("POST", "/v1/trim", "{\"name\": \"flood\"}", NULL) == 200);
    const uint64_t full_bytes = server_rss_bytes(); /* the ring holds its last 4096 */
    wait_until_blocked(fd);
    for (int i = 0; i < 3; i++)
        CHECK(api_ask("POST", "/v1/trim", "{\"name\": \"flood\"}", NULL) == 200);
    CHECK(TEST_IS_SANITIZED || server_rss_bytes() < full_bytes + (4 << 20));
    struct pollfd end = { .fd = fd, .events = POLLRDHUP };
    CHECK(poll(&end, 1, API_PATIENCE_MS / 2) == 1);
    CHECK(api_receive(fd, answer, NULL) >= 0);
    check_alive();
}

static void test_shutdown_ends_followers_and_leaks_no_handle(void)
{
    static char answer[API_ANSWER_BYTES];
    OWNED(fd_close) int fd = open_follower("/v1/events?last=0&follow=1");

    CHECK(api_receive(fd, answer, "\r\n\r\n") > 0);
    CHECK(api_ask("POST", "/v1/shutdown", "", NULL) == 200);
    CHECK(api_receive(fd, answer, NULL) >= 0);
    CHECK(api_server_stop() == 0);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST(test_a_follower_gets_what_happens_later),
        TEST(test_since_leaves_out_what_was_seen),
        TEST(test_followers_that_left_give_their_places_back),
        TEST(test_steps_are_made_for_who_follows_them_only),
        TEST(test_a_follower_that_never_reads_is_dropped),
        TEST(test_shutdown_ends_followers_and_leaks_no_handle),
    };

    api_server_start();
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
