/* SPDX-License-Identifier: Apache-2.0 */

#include "api_server.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/api.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "check.h"

#define FLOOD_COUNT 10000

struct fake {
    uv_loop_t *loop;
    struct events *events, *steps;
    struct api *api;
    uv_timer_t fresh_timer;
    void (*on_fresh)(void *context);
    void *on_fresh_context;
    unsigned sample_count;
};

static void on_sampled(uv_timer_t *timer)
{
    struct fake *const fake = timer->data;

    fake->sample_count++;
    fake->on_fresh(fake->on_fresh_context);
}

static bool fake_refresh(void *user, void (*on_fresh)(void *context), void *context)
{
    struct fake *const fake = user;

    if (uv_is_active((uv_handle_t *)&fake->fresh_timer))
        return true;
    fake->on_fresh = on_fresh;
    fake->on_fresh_context = context;
    (void)uv_timer_start(&fake->fresh_timer, on_sampled, 1, 0);
    return false;
}

static int fake_status(void *user, const struct api_peer *peer, json_t **ret_json,
                       struct error *err)
{
    struct fake *const fake = user;

    (void)err;
    *ret_json =
        json_pack("{sI sI sI}", "uid", (json_int_t)peer->uid, "samples",
                  (json_int_t)fake->sample_count, "last", (json_int_t)events_last(fake->events));
    return 0;
}

static int fake_why(void *user, const struct api_peer *peer, const char *what, json_t **ret_json,
                    struct error *err)
{
    (void)user;
    (void)peer;
    if (strcmp(what, "nobody") == 0)
        return error_set(err, -ENOENT, "nobody is called %s", what);
    *ret_json = json_pack("{ss}", "what", what);
    return 0;
}

static int fake_fit(void *user, uint64_t resident_bytes, uint64_t burst_bytes, const char *gpu,
                    json_t **ret_json, struct error *err)
{
    (void)user;
    (void)err;
    *ret_json = json_pack("{sI sI ss?}", "resident", (json_int_t)resident_bytes, "burst",
                          (json_int_t)burst_bytes, "gpu", gpu);
    return 0;
}

static int fake_stop(void *user, const struct api_peer *peer, const char *name, json_t **ret_json,
                     struct error *err)
{
    (void)user;
    (void)peer;
    (void)ret_json;
    return error_set(err, -EPERM, "%s is not yours", name);
}

static void append_step(struct fake *fake, const char *kind)
{
    (void)events_append(fake->steps, &(struct event){ .kind = kind, .lease_id = 7, .gpu = -1 });
}

static void fake_steps_begin(void *user)
{
    append_step(user, "asked");
}

/* The handle for tests: "flood" appends many events, any other name one, "step" a step too where
 * somebody follows them. */
static int fake_trim(void *user, const struct api_peer *peer, const char *name, json_t **ret_json,
                     struct error *err)
{
    struct fake *const fake = user;
    char text[1024];

    (void)peer;
    (void)err;
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    const bool is_flood = strcmp(name, "flood") == 0;
    for (int i = 0; i < (is_flood ? FLOOD_COUNT : 1); i++)
        (void)events_append(fake->events, &(struct event){ .kind = "asked_trim",
                                                           .lease_id = 7,
                                                           .name = name,
                                                           .gpu = -1,
                                                           .text = is_flood ? text : NULL });
    if (strcmp(name, "step") == 0 && api_has_step_followers(fake->api))
        append_step(fake, "granted");
    *ret_json = json_pack("{sb}", "asked", 1);
    return 0;
}

static void on_closed(void *user)
{
    struct fake *const fake = user;

    uv_close((uv_handle_t *)&fake->fresh_timer, NULL);
}

static void on_shutdown(uv_timer_t *timer)
{
    struct fake *const fake = timer->data;

    api_close(fake->api, on_closed, fake);
}

static int fake_shutdown(void *user, const struct api_peer *peer, json_t **ret_json,
                         struct error *err)
{
    struct fake *const fake = user;

    (void)peer;
    (void)err;
    (void)uv_timer_start(&fake->fresh_timer, on_shutdown, 1, 0);
    *ret_json = json_object();
    return 0;
}

static int serve(int listen_fd)
{
    uv_loop_t loop;
    struct fake fake = { .loop = &loop };
    struct error err = { 0 };
    struct api_source source = {
        .user = &fake,
        .refresh = fake_refresh,
        .status = fake_status,
        .why = fake_why,
        .fit = fake_fit,
        .stop = fake_stop,
        .trim = fake_trim,
        .shutdown = fake_shutdown,
        .steps_begin = fake_steps_begin,
    };

    CHECK(uv_loop_init(&loop) == 0);
    CHECK(uv_timer_init(&loop, &fake.fresh_timer) == 0);
    fake.fresh_timer.data = &fake;
    CHECK(events_new(1, &fake.events) == 0 && events_new(1, &fake.steps) == 0);
    source.steps = fake.steps;
    CHECK(api_open(&loop, listen_fd, &source, fake.events, &fake.api, &err) == 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    events_free(fake.events);
    events_free(fake.steps);
    return uv_loop_close(&loop) == 0 ? 0 : 1;
}

static struct sockaddr_un address;
static pid_t server_pid;

pid_t api_server_pid(void)
{
    return server_pid;
}

void api_server_start(void)
{
    static char directory[64];

    (void)snprintf(directory, sizeof(directory), "/tmp/brim-test-api-XXXXXX");
    CHECK(mkdtemp(directory) && chmod(directory, 0755) == 0);
    address.sun_family = AF_UNIX;
    CHECK(snprintf(address.sun_path, sizeof(address.sun_path), "%s/api.sock", directory) > 0);
    OWNED(fd_close)
    int listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(chmod(address.sun_path, 0777) == 0 && listen(listen_fd, 256) == 0);
    (void)fflush(stdout);
    server_pid = fork();
    CHECK(server_pid >= 0);
    if (server_pid == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
        _exit(serve(fd_take(&listen_fd)));
}

const char *api_server_directory(void)
{
    static char directory[sizeof(address.sun_path)];

    (void)snprintf(directory, sizeof(directory), "%s", address.sun_path);
    *strrchr(directory, '/') = '\0';
    return directory;
}

int api_server_wait(void)
{
    int status = 0;

    CHECK(waitpid(server_pid, &status, 0) == server_pid);
    return status;
}

void api_server_clean(void)
{
    (void)unlink(address.sun_path);
    (void)rmdir(api_server_directory());
}

int api_server_stop(void)
{
    const int status = api_server_wait();

    api_server_clean();
    return status;
}

int api_connect(void)
{
    const struct timeval patience = { .tv_sec = API_PATIENCE_MS / 1000 };
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* A server that closes early answers EPIPE: what counts is what it said before. */
void api_send(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t sent = send(fd, text, bytes, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        text += sent;
        bytes -= (size_t)sent;
    }
}

/* Read until the other end closes, or until `until` was seen. Returns the bytes, -1 on a time-out.
 */
ssize_t api_receive(int fd, char *answer, const char *until)
{
    size_t used = 0;

    for (;;) {
        const ssize_t got = recv(fd, answer + used, API_ANSWER_BYTES - 1 - used, 0);
        if (got < 0 && errno == EAGAIN)
            return -1;
        if (got <= 0)
            break;
        used += (size_t)got;
        answer[used] = '\0';
        if (until && strstr(answer, until))
            break;
        if (used == API_ANSWER_BYTES - 1)
            used = 0; /* only whether it ends matters for so much */
    }
    answer[used] = '\0';
    return (ssize_t)used;
}

/* Send a whole request, return its status (0: closed without one), its body in *ret_body. */
int api_ask(const char *method, const char *target, const char *body, const char **ret_body)
{
    static char answer[API_ANSWER_BYTES], request[64 * 1024];
    OWNED(fd_close) int fd = api_connect();
    const int bytes = snprintf(request, sizeof(request),
                               "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                               "Content-Length: %zu\r\n\r\n%s",
                               method, target, strlen(body), body);

    api_send(fd, request, (size_t)bytes);
    CHECK(api_receive(fd, answer, NULL) >= 0);
    if (strncmp(answer, "HTTP/1.1 ", 9) != 0)
        return 0;
    const char *const end = strstr(answer, "\r\n\r\n");
    if (ret_body)
        *ret_body = end ? end + 4 : "";
    return (int)strtol(answer + 9, NULL, 10);
}
