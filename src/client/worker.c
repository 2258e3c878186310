/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The worker side of a batch (docs/internals/worker-protocol.md) over the socket of $BRIM_FD. One
 * thread works; brim_worker_heartbeat() may come from any other, so that lines are sent under a
 * lock and nothing else is shared. All of it blocks only where the protocol waits for an answer.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <brim/brim.h>

#include "base/crash.h"
#include "base/fd.h"
#include "client/flat.h"

#define LINE_MAX_BYTES   ((size_t)1 << 20)
#define ROOM_FIRST_BYTES ((size_t)4096)
#define SENT_MAX_BYTES   4096
#define REASON_MAX_BYTES 400

struct brim_worker {
    pid_t owner_pid;
    int fd;                /* owned */
    pthread_mutex_t mutex; /* for sending, and for the three flags that follow */
    bool has_told_ready;
    bool has_heartbeat;
    bool wants_heartbeat; /* $WATCHDOG_USEC is set */

    char *in; /* owned: what has come and is not read yet */
    size_t in_bytes, in_room_bytes;
    char *line; /* owned: the line that the segment's texts lie in */
    bool has_segment;
    bool is_over; /* stop, or the end of the socket */
    uint64_t segment;
    brim_flush_callback on_flush;
    void *flush_user; /* borrowed */
};

/* ---- sending ---- */

static int send_line(brim_worker *worker, const char *line)
{
    size_t left_bytes = strlen(line);

    while (left_bytes > 0) {
        const ssize_t sent = send(worker->fd, line, left_bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd watch = { .fd = worker->fd, .events = POLLOUT };
            (void)poll(&watch, 1, -1);
            continue;
        }
        if (sent < 0 && errno != EINTR)
            return errno == EPIPE || errno == ECONNRESET ? BRIM_ERR_CANCELLED : BRIM_ERR_SYSTEM;
        line += sent > 0 ? sent : 0;
        left_bytes -= sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}

static int send_locked(brim_worker *worker, const char *line)
{
    (void)pthread_mutex_lock(&worker->mutex);
    const int r = send_line(worker, line);
    (void)pthread_mutex_unlock(&worker->mutex);
    return r;
}

/* With the lock held. */
static int tell_ready(brim_worker *worker)
{
    char line[96];

    worker->has_told_ready = true;
    (void)snprintf(line, sizeof(line), "{\"ready\": true, \"flush\": %s, \"heartbeat\": %s}\n",
                   worker->on_flush ? "true" : "false", worker->has_heartbeat ? "true" : "false");
    return send_line(worker, line);
}

/* ---- receiving ---- */

static int make_room(brim_worker *worker)
{
    size_t room_bytes = worker->in_room_bytes ? worker->in_room_bytes * 2 : ROOM_FIRST_BYTES;

    if (worker->in_bytes < worker->in_room_bytes)
        return 0;
    if (worker->in_room_bytes > LINE_MAX_BYTES)
        return BRIM_ERR_PROTOCOL;
    if (room_bytes > LINE_MAX_BYTES)
        room_bytes = LINE_MAX_BYTES + 1; /* the longest line and its newline */
    char *grown = realloc(worker->in, room_bytes);
    if (!grown)
        return BRIM_ERR_NOMEM;
    worker->in = grown;
    worker->in_room_bytes = room_bytes;
    return 0;
}

/* 1: something came; 0: the end. */
static int receive(brim_worker *worker)
{
    const int r = make_room(worker);

    if (r < 0)
        return r;
    for (;;) {
        const ssize_t got = recv(worker->fd, worker->in + worker->in_bytes,
                                 worker->in_room_bytes - worker->in_bytes, 0);
        if (got < 0 && errno == EAGAIN) {
            struct pollfd watch = { .fd = worker->fd, .events = POLLIN };
            (void)poll(&watch, 1, -1);
        } else if (got < 0 && errno == ECONNRESET) {
            return 0;
        } else if (got < 0 && errno != EINTR) {
            return BRIM_ERR_SYSTEM;
        } else if (got >= 0) {
            worker->in_bytes += (size_t)got;
            return got > 0;
        }
    }
}

/* 1: the next line, a fresh text of the caller's; 0: the end. */
static int receive_line(brim_worker *worker, char **ret_line, size_t *ret_bytes)
{
    size_t scanned_bytes = 0;
    char *newline = NULL;

    for (;;) {
        if (worker->in_bytes > scanned_bytes)
            newline = memchr(worker->in + scanned_bytes, '\n', worker->in_bytes - scanned_bytes);
        if (newline)
            break;
        scanned_bytes = worker->in_bytes;
        const int r = receive(worker);
        if (r <= 0)
            return r;
    }
    const size_t line_bytes = (size_t)(newline - worker->in);
    char *line = malloc(line_bytes + 1);
    if (!line)
        return BRIM_ERR_NOMEM;
    memcpy(line, worker->in, line_bytes);
    line[line_bytes] = '\0';
    worker->in_bytes -= line_bytes + 1;
    memmove(worker->in, newline + 1, worker->in_bytes);
    *ret_line = line;
    *ret_bytes = line_bytes;
    return 1;
}

/* ---- calls ---- */

static bool is_ours(const brim_worker *worker)
{
    return worker->owner_pid == getpid();
}

static int parse_fd(const char *text, int *ret_fd)
{
    int type = 0;
    socklen_t type_bytes = sizeof(type);
    char *end = NULL;

    if (!text || *text < '0' || *text > '9')
        return BRIM_ERR_INVALID;
    const unsigned long fd = strtoul(text, &end, 10);
    if (*end != '\0' || fd > INT32_MAX ||
        getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) < 0 || type != SOCK_STREAM)
        return BRIM_ERR_INVALID;
    *ret_fd = (int)fd;
    return 0;
}

static int worker_new(brim_worker **ret_worker)
{
    const char *watchdog = getenv("WATCHDOG_USEC"); /* NOLINT(concurrency-mt-unsafe) */
    int fd = -1;
    const int r = parse_fd(getenv("BRIM_FD"), &fd); /* NOLINT(concurrency-mt-unsafe) */

    if (r < 0)
        return r;
    brim_worker *worker = calloc(1, sizeof(*worker));
    if (!worker)
        return BRIM_ERR_NOMEM;
    worker->fd = fd;
    worker->owner_pid = getpid();
    worker->wants_heartbeat = watchdog && *watchdog;
    (void)pthread_mutex_init(&worker->mutex, NULL); /* on Linux it cannot fail */
    (void)fd_set_cloexec(fd, 1); /* none of the worker's children answers for it */
    *ret_worker = worker;
    return 0;
}

int brim_worker_open(brim_worker **ret_worker)
{
    const int saved_errno = errno;
    int r = BRIM_ERR_INVALID;

    if (ret_worker) {
        *ret_worker = NULL;
        r = worker_new(ret_worker);
    }
    errno = saved_errno;
    return r;
}

void brim_worker_close(brim_worker *worker)
{
    const int saved_errno = errno;

    if (!worker)
        return;
    fd_close(&worker->fd);
    if (is_ours(worker))
        (void)pthread_mutex_destroy(&worker->mutex);
    free(worker->in);
    free(worker->line);
    free(worker);
    errno = saved_errno;
}

static int flush(brim_worker *worker)
{
    const bool is_good = worker->on_flush && worker->on_flush(worker, worker->flush_user) == 0;

    return send_locked(worker, is_good ? "{\"flushed\": true}\n" : "{\"flushed\": false}\n");
}

/* Takes the line over: the segment's texts lie in it. */
static int take_segment(brim_worker *worker, char *take_line, const struct flat *flat,
                        struct brim_segment *ret_segment)
{
    const char *number = flat_find(flat, "segment", FLAT_NUMBER);
    const char *input = flat_find(flat, "input", FLAT_TEXT);
    char *end = NULL;

    free(worker->line);
    worker->line = take_line;
    if (!input)
        input = flat_find(flat, "input", FLAT_NESTED);
    const struct brim_segment segment = {
        .index = number ? strtoull(number, &end, 10) : 0,
        .id = flat_find(flat, "id", FLAT_TEXT),
        .input = input,
        .out = flat_find(flat, "out", FLAT_TEXT),
    };
    if (!number || *number == '-' || *end != '\0' || !segment.id || !input || !segment.out)
        return BRIM_ERR_PROTOCOL;
    CRASH_POINT(worker_segment_taken);
    worker->has_segment = true;
    worker->segment = segment.index;
    *ret_segment = segment;
    return 1;
}

/* One line of the batch's between segments: 1 a segment, 0 the end, 2 something else was done. */
static int take_request(brim_worker *worker, struct brim_segment *ret_segment)
{
    struct flat flat;
    char *line = NULL;
    size_t line_bytes = 0;
    int r = receive_line(worker, &line, &line_bytes);

    if (r <= 0)
        return r;
    if (flat_parse(line, line_bytes, &flat) < 0) {
        free(line);
        return BRIM_ERR_PROTOCOL;
    }
    if (flat_find(&flat, "segment", FLAT_NUMBER))
        return take_segment(worker, line, &flat, ret_segment);
    if (flat_find(&flat, "stop", FLAT_TEXT)) {
        r = 0;
    } else if (flat_find(&flat, "flush", FLAT_NUMBER)) {
        r = flush(worker);
        r = r < 0 ? r : 2;
    } else {
        r = BRIM_ERR_PROTOCOL;
    }
    free(line);
    return r;
}

int brim_worker_next(brim_worker *worker, struct brim_segment *ret_segment)
{
    const int saved_errno = errno;
    int r = 0;

    if (!worker || !ret_segment)
        return BRIM_ERR_INVALID;
    if (!is_ours(worker))
        return BRIM_ERR_FORKED;
    if (worker->is_over)
        return 0;
    if (worker->has_segment)
        return BRIM_ERR_STATE;
    (void)pthread_mutex_lock(&worker->mutex);
    if (!worker->has_told_ready)
        r = tell_ready(worker);
    (void)pthread_mutex_unlock(&worker->mutex);
    if (r == 0) {
        do
            r = take_request(worker, ret_segment);
        while (r == 2);
    }
    if (r == BRIM_ERR_CANCELLED) /* the batch is gone: the same as a stop */
        r = 0;
    worker->is_over = r == 0;
    errno = saved_errno;
    return r;
}

/* The answer to a burst. A stop instead of it takes the segment back. */
static int await_burst(brim_worker *worker)
{
    struct flat flat = { 0 };
    char *line = NULL;
    size_t line_bytes = 0;
    int r = receive_line(worker, &line, &line_bytes);

    if (r > 0)
        r = flat_parse(line, line_bytes, &flat) < 0 ? BRIM_ERR_PROTOCOL : 1;
    if (r == 1 && flat_find(&flat, "granted", FLAT_NUMBER)) {
        free(line);
        return 0;
    }
    if (r == 1 && flat_find(&flat, "refused", FLAT_TEXT))
        r = BRIM_ERR_NO_ROOM;
    else if (r == 0 || (r == 1 && flat_find(&flat, "stop", FLAT_TEXT)))
        r = BRIM_ERR_CANCELLED;
    else if (r == 1)
        r = BRIM_ERR_PROTOCOL;
    free(line);
    if (r == BRIM_ERR_CANCELLED) {
        worker->is_over = true;
        worker->has_segment = false;
    }
    return r;
}

int brim_worker_burst(brim_worker *worker, uint64_t bytes)
{
    const int saved_errno = errno;
    char line[48];
    int r = 0;

    if (!worker)
        return BRIM_ERR_INVALID;
    if (!is_ours(worker))
        return BRIM_ERR_FORKED;
    if (!worker->has_segment)
        return worker->is_over ? BRIM_ERR_CANCELLED : BRIM_ERR_STATE;
    (void)snprintf(line, sizeof(line), "{\"burst\": %" PRIu64 "}\n", bytes);
    r = send_locked(worker, line);
    if (r == 0)
        r = await_burst(worker);
    errno = saved_errno;
    return r;
}

static int answer(brim_worker *worker, const char *line)
{
    const int saved_errno = errno;
    int r = 0;

    CRASH_POINT(worker_answering);
    worker->has_segment = false;
    r = send_locked(worker, line);
    CRASH_POINT(worker_answered);
    errno = saved_errno;
    return r;
}

/* Why there is no segment to answer; 0 where there is one. */
static int check_answer(const brim_worker *worker)
{
    if (!worker)
        return BRIM_ERR_INVALID;
    if (!is_ours(worker))
        return BRIM_ERR_FORKED;
    if (!worker->has_segment)
        return worker->is_over ? BRIM_ERR_CANCELLED : BRIM_ERR_STATE;
    return 0;
}

int brim_worker_done(brim_worker *worker)
{
    char line[48];
    const int r = check_answer(worker);

    if (r < 0)
        return r;
    (void)snprintf(line, sizeof(line), "{\"done\": %" PRIu64 "}\n", worker->segment);
    return answer(worker, line);
}

int brim_worker_failed(brim_worker *worker, const char *reason)
{
    char line[SENT_MAX_BYTES], cut[REASON_MAX_BYTES + 1];
    const int r = check_answer(worker);

    if (r < 0)
        return r;
    (void)snprintf(cut, sizeof(cut), "%s", reason ? reason : "");
    size_t used = (size_t)snprintf(line, sizeof(line),
                                   "{\"failed\": %" PRIu64 ", \"reason\": ", worker->segment);
    used = flat_quote(line, sizeof(line) - 3, used, cut); /* six bytes for each at most: it fits */
    memcpy(line + used, "}\n", 3);
    return answer(worker, line);
}

int brim_worker_on_flush(brim_worker *worker, brim_flush_callback callback, void *user)
{
    const int saved_errno = errno;
    int r = 0;

    if (!worker)
        return BRIM_ERR_INVALID;
    if (!is_ours(worker))
        return BRIM_ERR_FORKED;
    (void)pthread_mutex_lock(&worker->mutex);
    worker->on_flush = callback;
    worker->flush_user = user;
    if (worker->has_told_ready) /* it was told otherwise */
        r = tell_ready(worker);
    (void)pthread_mutex_unlock(&worker->mutex);
    errno = saved_errno;
    return r;
}

int brim_worker_heartbeat(brim_worker *worker)
{
    const int saved_errno = errno;
    int r = 0;

    if (!worker)
        return BRIM_ERR_INVALID;
    if (!is_ours(worker))
        return BRIM_ERR_FORKED;
    if (!worker->wants_heartbeat)
        return 0;
    (void)pthread_mutex_lock(&worker->mutex);
    const bool is_announced = worker->has_heartbeat && worker->has_told_ready;
    worker->has_heartbeat = true;
    /* Before it is ready there is nothing to tell yet: the announcement goes with that. */
    if (is_announced)
        r = send_line(worker, "{\"heartbeat\": 1}\n");
    else if (worker->has_told_ready)
        r = tell_ready(worker);
    (void)pthread_mutex_unlock(&worker->mutex);
    errno = saved_errno;
    return r;
}
