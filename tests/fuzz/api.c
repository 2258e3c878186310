/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The API socket: one connection that sends any bytes, in two pieces. The server is the real one,
 * on a real socket, with answers that repeat what they were asked. Whatever was sent, the
 * connection ends, and the server is whole: a good question afterwards gets its answer.
 */

#include "api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "base/fd.h"
#include "fuzz.h"

#define TURNS_MAX    64
#define ANSWER_BYTES 65536

static struct sockaddr_un address = { .sun_family = AF_UNIX };
static uv_loop_t loop;
static struct events *events;

static int tell(json_t **ret_json, const char *what)
{
    *ret_json = json_pack("{so}", "what", api_text(what));
    return *ret_json ? 0 : -ENOMEM;
}

static int on_status(void *user, const struct api_peer *peer, json_t **ret_json, struct error *err)
{
    (void)user;
    (void)peer;
    (void)err;
    return tell(ret_json, "status");
}

static int on_why(void *user, const struct api_peer *peer, const char *what, json_t **ret_json,
                  struct error *err)
{
    (void)user;
    (void)peer;
    if (what[0] == 'n')
        return error_set(err, -ENOENT, "nobody is called %s", what);
    return tell(ret_json, what);
}

static int on_fit(void *user, uint64_t resident_bytes, uint64_t burst_bytes, const char *gpu,
                  json_t **ret_json, struct error *err)
{
    (void)user;
    if (resident_bytes < burst_bytes)
        return error_set(err, -EINVAL, "%s: the burst is larger", gpu ? gpu : "any gpu");
    return tell(ret_json, gpu);
}

static int on_name(void *user, const struct api_peer *peer, const char *name, json_t **ret_json,
                   struct error *err)
{
    (void)user;
    (void)peer;
    (void)err;
    (void)events_append(events, &(struct event){ .kind = "asked_trim", .name = name, .gpu = -1 });
    return tell(ret_json, name);
}

static void remove_socket(void)
{
    (void)unlink(address.sun_path);
}

static void open_server(void)
{
    const struct api_source source = { .status = on_status,
                                       .why = on_why,
                                       .fit = on_fit,
                                       .stop = on_name,
                                       .trim = on_name,
                                       .shutdown = on_status };
    struct error err = { 0 };
    struct api *api = NULL;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/brim-fuzz-api-%d",
                   (int)getpid());
    remove_socket();
    FUZZ_MUST(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    FUZZ_MUST(listen(fd, 16) == 0 && atexit(remove_socket) == 0);
    FUZZ_MUST(uv_loop_init(&loop) == 0 && events_new(1, &events) == 0);
    for (int i = 0; i < 3; i++)
        (void)events_append(events, &(struct event){ .kind = "granted", .name = "x", .gpu = i });
    FUZZ_MUST(api_open(&loop, fd, &source, events, &api, &err) == 0);
}

static int connect_peer(void)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    FUZZ_MUST(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* Returns whether the server has ended the connection. */
static bool hear(int fd, char *answer, size_t answer_bytes)
{
    size_t used = 0;

    for (int turn = 0; turn < TURNS_MAX && used + 1 < answer_bytes; turn++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        const ssize_t got = recv(fd, answer + used, answer_bytes - 1 - used, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            return true;
        if (got > 0)
            used += (size_t)got;
        answer[used] = '\0';
    }
    return false;
}

/* A good question is answered; called while nobody else is connected. */
static void check_alive(char *answer)
{
    static const char question[] =
        "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    int fd = connect_peer();

    answer[0] = '\0';
    FUZZ_MUST(send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) > 0);
    FUZZ_MUST(hear(fd, answer, ANSWER_BYTES) && strncmp(answer, "HTTP/1.1 200", 12) == 0);
    fd_close(&fd);
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    static char answer[ANSWER_BYTES];
    struct fuzz_input input = { bytes, byte_count };

    if (!events)
        open_server();
    const uint8_t cut = fuzz_byte(&input);
    const size_t first_bytes = input.left * cut / 256;
    int fd = connect_peer();
    (void)send(fd, input.at, first_bytes, MSG_NOSIGNAL);
    for (int i = 0; i < 4; i++)
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    (void)send(fd, input.at + first_bytes, input.left - first_bytes, MSG_NOSIGNAL);
    for (int i = 0; i < 8; i++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        (void)recv(fd, answer, sizeof(answer), 0);
    }
    fd_close(&fd);
    for (int i = 0; i < 4; i++)
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    check_alive(answer);
}
