/* SPDX-License-Identifier: Apache-2.0 */

/* The API's routes, limits and refusals, well-formed requests and others. */

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api_server.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "check.h"

#define CONNECTION_MAX 200

static int get(const char *target, const char **ret_body)
{
    return api_ask("GET", target, "", ret_body);
}

static void check_alive(void)
{
    CHECK(get("/v1/status", NULL) == 200);
}

static void test_every_route_answers(void)
{
    const char *body = "";

    CHECK(get("/v1/status", &body) == 200 && strstr(body, "\"samples\":1"));
    CHECK(get("/v1/why/r12", &body) == 200 && strstr(body, "\"what\":\"r12\""));
    CHECK(get("/v1/why", &body) == 200 && strstr(body, "\"what\":\"\""));
    CHECK(get("/v1/fit?resident=5&burst=2&gpu=0", &body) == 200);
    CHECK(strcmp(body, "{\"resident\":5,\"burst\":2,\"gpu\":\"0\"}") == 0);
    CHECK(get("/v1/fit?resident=5", &body) == 200 && strstr(body, "\"gpu\":null"));
    CHECK(api_ask("POST", "/v1/trim", "{\"name\": \"a\"}", &body) == 200 && strstr(body, "asked"));
    CHECK(get("/v1/events", &body) == 200 && strstr(body, "\"name\":\"a\""));
    CHECK(strstr(body, "\"lease\":\"l7\"") && strstr(body, "\"gpu\":null"));
}

static void test_refusals_of_the_source_become_statuses_with_reasons(void)
{
    const char *body = "";

    CHECK(get("/v1/why/nobody", &body) == 404);
    CHECK(strcmp(body, "{\"error\":\"nobody is called nobody\"}") == 0);
    CHECK(api_ask("POST", "/v1/stop", "{\"id\": \"l7\"}", &body) == 403 &&
          strstr(body, "not yours"));
}

static void test_unknown_paths_list_what_there_is(void)
{
    const char *body = "";

    CHECK(get("/v2/status", &body) == 404 && strstr(body, "GET /v1/why[/WHAT]"));
    CHECK(get("/v1/statuses", &body) == 404);
    CHECK(get("/v1/why/", &body) == 404);
    CHECK(get("/", &body) == 404);
    CHECK(api_ask("POST", "/v1/status", "", &body) == 405 && strstr(body, "takes GET only"));
    CHECK(get("/v1/stop", &body) == 405);
}

static void test_paths_and_names_are_decoded(void)
{
    const char *body = "";

    CHECK(get("/v1/why/a%20b%2Fc", &body) == 200 && strstr(body, "\"a b/c\""));
    CHECK(get("/v1/why/%ff%fe", NULL) == 400);
}

static void test_bad_arguments_are_told(void)
{
    static const char *const targets[] = {
        "/v1/fit",
        "/v1/fit?resident=",
        "/v1/fit?resident=-1",
        "/v1/fit?resident=5GiB",
        "/v1/fit?resident=99999999999999999999",
        "/v1/fit?resident=1&burst=x",
        "/v1/events?since=x",
    };
    static const char *const bodies[] = {
        "",
        "{",
        "[]",
        "\"name\"",
        "{\"name\": 1}",
        "{\"name\": \"a\", \"name\": \"b\"}",
        "{}",
        "{\"nam\": \"a\"}",
        "{\"name\": \"a\", \"id\": \"l7\"}",
    };

    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
        CHECK(get(targets[i], NULL) == 400);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        CHECK(api_ask("POST", "/v1/stop", bodies[i], NULL) == 400);
}

static void test_large_requests_end_at_their_limits(void)
{
    static char large[40000], body[20000];

    memset(large, 'a', sizeof(large));
    memcpy(large, "/v1/why/", 8);
    large[sizeof(large) - 1] = '\0';
    const int status = get(large, NULL);
    CHECK(status == 0 || status >= 400);
    memset(body, ' ', sizeof(body));
    body[sizeof(body) - 1] = '\0';
    CHECK(api_ask("POST", "/v1/stop", body, NULL) == 413);
    check_alive();
}

static void test_a_chunked_body_without_end_is_cut(void)
{
    static const char head[] =
        "POST /v1/stop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    static char chunk[1024 + 16], answer[API_ANSWER_BYTES];
    OWNED(fd_close) int fd = api_connect();
    const int start = snprintf(chunk, sizeof(chunk), "400\r\n");

    memset(chunk + start, ' ', 1024);
    memcpy(chunk + start + 1024, "\r\n", 2);
    api_send(fd, head, sizeof(head) - 1);
    for (int i = 0; i < 64; i++)
        api_send(fd, chunk, (size_t)start + 1024 + 2);
    CHECK(api_receive(fd, answer, NULL) >= 0);
    CHECK(!strstr(answer, "200 OK"));
    check_alive();
}

static void test_garbage_does_no_harm(void)
{
    static char answer[API_ANSWER_BYTES];
    unsigned char noise[4096];
    uint32_t state = 1;

    for (int round = 0; round < 32; round++) {
        OWNED(fd_close) int fd = api_connect();
        for (size_t i = 0; i < sizeof(noise); i++)
            noise[i] = (unsigned char)((state = state * 1664525 + 1013904223) >> 24);
        api_send(fd, (const char *)noise, sizeof(noise));
        (void)shutdown(fd, SHUT_WR);
        CHECK(api_receive(fd, answer, NULL) >= 0);
    }
    check_alive();
}

static void test_half_requests_keep_nobody_waiting(void)
{
    int fds[32];

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        fds[i] = api_connect();
        api_send(fds[i], "GET /v1/sta", 11);
    }
    check_alive();
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        fd_close(&fds[i]);
}

/* More than the server takes: the rest waits in the backlog until idle ones are timed out. */
static void test_two_hundred_idle_connections_are_outlived(void)
{
    int fds[CONNECTION_MAX];

    for (size_t i = 0; i < CONNECTION_MAX; i++)
        fds[i] = api_connect();
    for (size_t i = 0; i < CONNECTION_MAX; i++)
        fd_close(&fds[i]);
    check_alive();
}

static void test_other_users_are_refused(void)
{
    int status = 0;

    if (getuid() != 0)
        return; /* only root can be somebody else */
    (void)fflush(stdout);
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        const char *body = "";
        if (setuid(65534) != 0)
            _exit(2);
        _exit(get("/v1/status", &body) == 403 && strstr(body, "own user only") ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void test_the_server_ends_cleanly(void)
{
    CHECK(api_ask("POST", "/v1/shutdown", "", NULL) == 200);
    CHECK(api_server_stop() == 0);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST(test_every_route_answers),
        TEST(test_refusals_of_the_source_become_statuses_with_reasons),
        TEST(test_unknown_paths_list_what_there_is),
        TEST(test_paths_and_names_are_decoded),
        TEST(test_bad_arguments_are_told),
        TEST(test_large_requests_end_at_their_limits),
        TEST(test_a_chunked_body_without_end_is_cut),
        TEST(test_garbage_does_no_harm),
        TEST(test_half_requests_keep_nobody_waiting),
        TEST(test_two_hundred_idle_connections_are_outlived),
        TEST(test_other_users_are_refused),
        TEST(test_the_server_ends_cleanly),
    };

    api_server_start();
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
