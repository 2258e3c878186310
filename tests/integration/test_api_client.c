/* SPDX-License-Identifier: Apache-2.0 */

/* The commands' side of the API, against the real server and against what only claims to be one. */

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api_server.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "check.h"
#include "cli/api_client.h"

static void test_answers_and_refusals_come_back_as_they_are(void)
{
    struct error err = { 0 };
    json_t *json = NULL;

    CHECK(api_get("/v1/status", &json, &err) == 0);
    CHECK(json_is_integer(json_object_get(json, "samples")));
    json_decref(json);
    json = NULL;
    CHECK(api_get("/v1/why/nobody", &json, &err) == -ENOENT && !json);
    CHECK(strcmp(err.message, "nobody is called nobody") == 0);
    CHECK(api_get("/v1/fit", &json, &err) == -EINVAL && strstr(err.message, "resident is missing"));
    json_t *const body = json_pack("{ss}", "id", "l7");
    CHECK(api_post("/v1/stop", body, &json, &err) == -EPERM);
    CHECK(strcmp(err.message, "l7 is not yours") == 0);
    json_decref(body);
}

static void test_names_survive_the_way(void)
{
    OWNED(freep) char *name = api_escape("a b/?&=%\xc3\xa9");
    char target[128];
    json_t *json = NULL;

    CHECK(name && snprintf(target, sizeof(target), "/v1/why/%s", name) > 0);
    CHECK(api_get(target, &json, NULL) == 0);
    CHECK(strcmp(json_string_value(json_object_get(json, "what")), "a b/?&=%\xc3\xa9") == 0);
    json_decref(json);
}

static int stop_at_three(void *user, json_t *object)
{
    int *const count = user;

    CHECK(json_is_string(json_object_get(object, "kind")));
    return ++*count == 3 ? -ECANCELED : 0;
}

static void test_a_stream_is_handed_on_line_by_line_until_enough(void)
{
    json_t *const body = json_pack("{ss}", "name", "flood");
    json_t *json = NULL;
    int count = 0;

    CHECK(api_post("/v1/trim", body, &json, NULL) == 0);
    json_decref(json);
    json_decref(body);
    CHECK(api_follow("/v1/events?since=0&follow=1", stop_at_three, &count, NULL) == -ECANCELED);
    CHECK(count == 3);
}

static int count_object(void *user, json_t *object)
{
    (void)object;
    ++*(int *)user;
    return 0;
}

static void test_a_stream_that_ends_was_read_whole(void)
{
    int count = 0;

    CHECK(api_follow("/v1/events?last=300", count_object, &count, NULL) == 0);
    CHECK(count == 300);
}

/* A process that accepts once, answers and hangs up. */
static pid_t answer_once(const char *answer)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    OWNED(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(snprintf(address.sun_path, sizeof(address.sun_path), "%s/api.sock",
                   getenv("BRIM_RUNTIME_DIR")) > 0);
    (void)unlink(address.sun_path);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(fd, 1) == 0);
    (void)fflush(stdout);
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char request[4096];
        const int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (peer < 0 || read(peer, request, sizeof(request)) <= 0)
            _exit(1);
        _exit(fd_write_all(peer, answer, strlen(answer)) < 0);
    }
    return pid;
}

static void test_what_is_no_brim_is_told_from_one(void)
{
    static const char *const answers[] = {
        "",
        "hello\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno!",
        "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{\"cut\":",
        "HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nno!",
    };

    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct error err = { 0 };
        json_t *json = NULL;
        int status = 0;
        const pid_t pid = answer_once(answers[i]);
        CHECK(api_get("/v1/status", &json, &err) < 0 && !json);
        CHECK(err.message[0] != '\0');
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    }
}

static void test_nobody_there_says_how_to_start_one(void)
{
    struct error err = { 0 };
    json_t *json = NULL;

    CHECK(setenv("BRIM_RUNTIME_DIR", "/nonexistent", 1) == 0);
    CHECK(api_get("/v1/status", &json, &err) == -ESRCH);
    CHECK(strstr(err.message, "brim run"));
}

static void test_the_server_ends_cleanly(void)
{
    json_t *json = NULL;

    CHECK(api_post("/v1/shutdown", NULL, &json, NULL) == 0);
    json_decref(json);
    CHECK(api_server_wait() == 0);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST(test_answers_and_refusals_come_back_as_they_are),
        TEST(test_names_survive_the_way),
        TEST(test_a_stream_is_handed_on_line_by_line_until_enough),
        TEST(test_a_stream_that_ends_was_read_whole),
        TEST(test_the_server_ends_cleanly),
        TEST(test_what_is_no_brim_is_told_from_one),
        TEST(test_nobody_there_says_how_to_start_one),
    };

    api_server_start();
    CHECK(setenv("BRIM_RUNTIME_DIR", api_server_directory(), 1) == 0);
    const int status = run_tests(cases, sizeof(cases) / sizeof(cases[0]));
    api_server_clean();
    return status;
}
