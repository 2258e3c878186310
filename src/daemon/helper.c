/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/helper.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/paths.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 10000
#define END_WAIT_MS    200
#define PROBLEM_BYTES  256

enum helper_state {
    HELPER_DOWN,
    HELPER_IDLE,
    HELPER_ASKED,
};

/* One run of the program. It lives on, after the supervisor has given it up, until the kernel has
 * reported its end: a killed child that hangs in the driver may take its time. */
struct child {
    uv_process_t process;  /* first: its close callback frees the child */
    struct helper *helper; /* borrowed; NULL: given up */
};

struct helper {
    uv_loop_t *loop; /* borrowed */
    struct helper_events events;
    char path[PATHS_BYTES];
    enum helper_state state;
    struct child *child; /* NULL while down */
    uv_poll_t poll;
    bool is_polling;  /* poll is an open handle */
    uv_timer_t timer; /* the deadline while ASKED, the backoff while DOWN */
    int fd;           /* owned; our end */
    uint32_t seq;
    uint64_t backoff_ms;
    unsigned handle_count; /* open ones; the last one to close ends helper_close */
    bool is_closing;
    bool is_again; /* start a child when the old poll handle has closed */
    void (*on_closed)(void *user);
    void *on_closed_user;
    struct facts_gpu packet; /* the largest of the three kinds */
};

static void helper_start(struct helper *helper);

static void handle_gone(struct helper *helper)
{
    helper->handle_count--;
    if (!helper->is_closing || helper->handle_count > 0)
        return;
    void (*on_closed)(void *user) = helper->on_closed;
    void *user = helper->on_closed_user;
    free(helper);
    if (on_closed)
        on_closed(user);
}

static void on_child_closed(uv_handle_t *handle)
{
    free(handle);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct helper *helper = handle->data;

    helper->is_polling = false;
    if (helper->is_again && !helper->is_closing) {
        helper->is_again = false;
        helper_start(helper);
    }
    handle_gone(helper);
}

/* Let go of the child and the descriptor; whoever calls decides what comes next. */
static void drop_child(struct helper *helper)
{
    if (helper->child) {
        (void)uv_process_kill(&helper->child->process, SIGKILL);
        /* One that hangs in the driver cannot be killed, and must not keep brimd from ending. */
        uv_unref((uv_handle_t *)&helper->child->process);
        helper->child->helper = NULL;
        helper->child = NULL;
    }
    if (helper->is_polling && !uv_is_closing((uv_handle_t *)&helper->poll)) {
        uv_close((uv_handle_t *)&helper->poll, on_poll_closed);
    }
    fd_close(&helper->fd);
    helper->state = HELPER_DOWN;
}

static void on_backoff(uv_timer_t *timer)
{
    struct helper *helper = timer->data;

    if (helper->is_polling)
        helper->is_again = true; /* its handle is still closing */
    else
        helper_start(helper);
}

static void helper_fail(struct helper *helper, const char *problem)
{
    char safe[LOG_ESCAPED_BYTES];

    log_warn("helper", "problem=\"%s\" retry_ms=%" PRIu64, log_escape(problem, safe),
             helper->backoff_ms);
    drop_child(helper);
    (void)uv_timer_start(&helper->timer, on_backoff, helper->backoff_ms, 0);
    helper->backoff_ms *= 2;
    if (helper->backoff_ms > BACKOFF_MAX_MS)
        helper->backoff_ms = BACKOFF_MAX_MS;
    helper->events.on_failed(helper->events.user, problem);
}

static void on_deadline(uv_timer_t *timer)
{
    helper_fail(timer->data, "brim-helper got no answer from the driver in 2 s: it was killed and "
                             "starts again; if this goes on, the driver hangs (see nvidia-smi)");
}

static void on_silence(uv_timer_t *timer)
{
    helper_fail(timer->data, "brim-helper closed its connection");
}

static void on_child_exit(uv_process_t *process, int64_t status, int signal_number)
{
    struct child *child = (struct child *)process;
    struct helper *helper = child->helper;
    char problem[PROBLEM_BYTES];

    uv_close((uv_handle_t *)process, on_child_closed);
    if (!helper)
        return;
    helper->child = NULL;
    if (signal_number != 0)
        (void)snprintf(problem, sizeof(problem), "brim-helper died of signal %d (%s)",
                       signal_number, strsignal(signal_number));
    else
        (void)snprintf(problem, sizeof(problem), "brim-helper ended with status %d", (int)status);
    helper_fail(helper, problem);
}

/* A text field of a packet, whatever came, ends in its field. */
#define TERMINATE(field) ((field)[sizeof(field) - 1] = '\0')

static bool take_gpu(struct helper *helper, size_t packet_bytes)
{
    struct facts_gpu *gpu = &helper->packet;

    if (packet_bytes < offsetof(struct facts_gpu, processes) ||
        gpu->process_count > FACTS_PROCESS_MAX ||
        packet_bytes != offsetof(struct facts_gpu, processes) +
                            gpu->process_count * sizeof(struct facts_process))
        return false;
    TERMINATE(gpu->uuid);
    TERMINATE(gpu->name);
    helper->events.on_gpu(helper->events.user, gpu);
    return true;
}

static bool take_end(struct helper *helper, size_t packet_bytes)
{
    struct facts_end end;

    if (packet_bytes != sizeof(end))
        return false;
    memcpy(&end, &helper->packet, sizeof(end));
    TERMINATE(end.problem);
    TERMINATE(end.driver_version);
    helper->state = HELPER_IDLE;
    helper->backoff_ms = BACKOFF_MIN_MS;
    (void)uv_timer_stop(&helper->timer);
    helper->events.on_end(helper->events.user, &end);
    return true;
}

/* seq stands second in every kind. */
static bool take_packet(struct helper *helper, size_t packet_bytes)
{
    if (packet_bytes < 2 * sizeof(uint32_t) || helper->state != HELPER_ASKED ||
        helper->packet.seq != helper->seq)
        return false;
    if (helper->packet.kind == FACTS_GPU)
        return take_gpu(helper, packet_bytes);
    if (helper->packet.kind == FACTS_END)
        return take_end(helper, packet_bytes);
    return false;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct helper *helper = poll->data;

    (void)status;
    (void)events;
    for (int i = 0; i < FACTS_GPU_MAX + 1; i++) {
        const ssize_t length =
            recv(helper->fd, &helper->packet, sizeof(helper->packet), MSG_DONTWAIT | MSG_TRUNC);
        if (length < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (length <= 0) {
            /* Most likely it has ended, and how it did will be heard in a moment. */
            (void)uv_poll_stop(poll);
            (void)uv_timer_start(&helper->timer, on_silence, END_WAIT_MS, 0);
            return;
        }
        if ((size_t)length > sizeof(helper->packet) || !take_packet(helper, (size_t)length)) {
            helper_fail(helper, "brim-helper sent a packet that is no answer (is it of another "
                                "version?)");
            return;
        }
    }
}

static int spawn(struct helper *helper, int child_fd)
{
    char verb[] = "facts";
    char *arguments[] = { helper->path, verb, NULL };
    uv_stdio_container_t stdio[3] = {
        { .flags = UV_INHERIT_FD, .data.fd = child_fd },
        { .flags = UV_INHERIT_FD, .data.fd = 2 }, /* it has nothing to say there but errors */
        { .flags = UV_INHERIT_FD, .data.fd = 2 },
    };
    const uv_process_options_t options = {
        .file = helper->path,
        .args = arguments,
        .exit_cb = on_child_exit,
        .stdio = stdio,
        .stdio_count = 3,
    };
    struct child *child = calloc(1, sizeof(*child));
    int r = 0;

    if (!child)
        return -ENOMEM;
    child->helper = helper;
    r = uv_spawn(helper->loop, &child->process, &options);
    if (r < 0) {
        /* A handle that failed to spawn is initialised all the same. */
        uv_close((uv_handle_t *)&child->process, on_child_closed);
        return r;
    }
    helper->child = child;
    return 0;
}

static int start_child(struct helper *helper)
{
    int ends[2] = { -1, -1 };
    int r = 0;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    r = spawn(helper, ends[1]);
    fd_close(&ends[1]);
    if (r == 0)
        r = fd_set_nonblock(ends[0], 1);
    if (r == 0)
        r = uv_poll_init(helper->loop, &helper->poll, ends[0]);
    if (r < 0) {
        fd_close(&ends[0]);
        return r;
    }
    helper->fd = ends[0];
    helper->poll.data = helper;
    helper->is_polling = true;
    helper->handle_count++;
    helper->state = HELPER_IDLE;
    return uv_poll_start(&helper->poll, UV_READABLE, on_readable);
}

static void helper_start(struct helper *helper)
{
    char problem[PROBLEM_BYTES];
    const int r = start_child(helper);

    if (r < 0) {
        (void)snprintf(problem, sizeof(problem), "cannot start %.150s: %s", helper->path,
                       uv_strerror(r));
        helper_fail(helper, problem);
        return;
    }
    helper->events.on_ready(helper->events.user);
}

static void on_first_start(uv_timer_t *timer)
{
    helper_start(timer->data);
}

int helper_open(uv_loop_t *loop, const struct helper_events *events, struct helper **ret_helper,
                struct error *err)
{
    struct helper *helper = calloc(1, sizeof(*helper));
    int r = 0;

    if (!helper)
        return error_set(err, -ENOMEM, "out of memory");
    r = paths_program("brim-helper", helper->path, err);
    if (r < 0) {
        free(helper);
        return r;
    }
    helper->loop = loop;
    helper->events = *events;
    helper->fd = -1;
    helper->backoff_ms = BACKOFF_MIN_MS;
    (void)uv_timer_init(loop, &helper->timer);
    helper->timer.data = helper;
    helper->handle_count = 1;
    /* From the loop, so that no callback runs before the caller has its pointer. */
    (void)uv_timer_start(&helper->timer, on_first_start, 0, 0);
    *ret_helper = helper;
    return 0;
}

bool helper_ask(struct helper *helper)
{
    const struct facts_request request = { .kind = FACTS_REQUEST, .seq = helper->seq + 1 };

    if (helper->state != HELPER_IDLE)
        return false;
    /* A send that fails is a child that has ended: its exit is on the way. */
    if (send(helper->fd, &request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return false;
    helper->seq++;
    helper->state = HELPER_ASKED;
    (void)uv_timer_start(&helper->timer, on_deadline, HELPER_DEADLINE_MS, 0);
    return true;
}

bool helper_is_asked(const struct helper *helper)
{
    return helper->state == HELPER_ASKED;
}

bool helper_is_down(const struct helper *helper)
{
    return helper->state == HELPER_DOWN;
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_gone(handle->data);
}

void helper_close(struct helper *helper, void (*on_closed)(void *user), void *user)
{
    helper->is_closing = true;
    helper->on_closed = on_closed;
    helper->on_closed_user = user;
    drop_child(helper);
    uv_close((uv_handle_t *)&helper->timer, on_timer_closed);
}
