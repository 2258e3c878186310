/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The listening end of the lease socket: who may come in, and how many. See session.h.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/answer.h"
#include "daemon/daemon.h"
#include "daemon/session.h"

#define ACCEPTS_AT_ONCE 64
#define ACCEPT_PAUSE_MS 100
#define FDS_FOR_OURSELVES                                                                          \
    ((rlim_t)64) /* sockets, locks, the journal, the helper, the API's connections */

static struct user_count *count_of(struct sessions *sessions, uid_t uid)
{
    for (size_t i = 0; i < sessions->user_count; i++) {
        if (sessions->users[i].uid == uid)
            return &sessions->users[i];
    }
    return NULL;
}

static int session_count(struct daemon *daemon, uid_t uid)
{
    struct sessions *sessions = &daemon->sessions;
    const unsigned user_limit =
        daemon->options.scope == SCOPE_SYSTEM ? SESSION_USER_MAX : SESSION_MAX;
    struct user_count *user = count_of(sessions, uid);

    if (sessions->count >= sessions->limit)
        return -EMFILE;
    if (!user) {
        struct user_count *larger =
            reallocarray(sessions->users, sessions->user_count + 1, sizeof(*sessions->users));
        if (!larger)
            return -ENOMEM;
        sessions->users = larger;
        user = &larger[sessions->user_count++];
        *user = (struct user_count){ .uid = uid };
    }
    if (user->count >= user_limit)
        return -EDQUOT;
    user->count++;
    sessions->count++;
    return 0;
}

void session_uncount(struct sessions *sessions, uid_t uid)
{
    struct user_count *user = count_of(sessions, uid);

    sessions->count--;
    if (!user)
        return; /* cannot be: whoever is counted out was counted in */
    user->count--;
    if (user->count == 0)
        *user = sessions->users[--sessions->user_count];
}

/* The mode of the socket keeps others out already; this is the second lock on the door. */
static bool may_enter(const struct daemon *daemon, uid_t uid)
{
    return daemon->options.scope == SCOPE_SYSTEM || uid == geteuid() || uid == 0;
}

static void admit(struct daemon *daemon, int take_fd)
{
    struct ucred peer = { 0 };
    socklen_t peer_bytes = sizeof(peer);
    int r = 0;

    if (getsockopt(take_fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) < 0 ||
        !may_enter(daemon, peer.uid)) {
        answer_and_close(take_fd, MESSAGE_CODE_DENIED,
                         "this brimd belongs to another user; start your own: brim daemon start");
        return;
    }
    r = session_count(daemon, peer.uid);
    if (r < 0) {
        answer_and_close(take_fd, MESSAGE_CODE_LIMIT,
                         r == -EDQUOT ? "you have as many connections to brimd as one user may have"
                                      : "brimd has as many connections as it can take; end some "
                                        "programs that hold leases, or raise LimitNOFILE");
        return;
    }
    r = session_new(daemon, take_fd, peer.uid, peer.pid);
    if (r < 0) {
        session_uncount(&daemon->sessions, peer.uid);
        (void)close(take_fd);
    }
}

static void on_listener(uv_poll_t *poll, int status, int events);

static void on_accept_pause(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;

    (void)uv_poll_start(&daemon->sessions.listener, UV_READABLE, on_listener);
}

/* No descriptor is left: give up the spare one to take a connection and close it, so that its peer
 * hears of it instead of hanging in the backlog, and pause. */
static void shed(struct daemon *daemon)
{
    struct sessions *sessions = &daemon->sessions;
    int fd = -1;

    fd_close(&sessions->spare_fd);
    fd = accept4(sessions->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        answer_and_close(fd, MESSAGE_CODE_LIMIT, "brimd has no file descriptors left");
    sessions->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    log_warn("session", "event=accept_paused reason=\"no file descriptors left\" connections=%u",
             sessions->count);
    (void)uv_poll_stop(&sessions->listener);
    (void)uv_timer_start(&sessions->accept_timer, on_accept_pause, ACCEPT_PAUSE_MS, 0);
}

static void on_hello_due(uv_timer_t *timer);

/* They came in order, so the first one's deadline is the next one. */
static void plan_hello(struct daemon *daemon)
{
    const struct session *first = TAILQ_FIRST(&daemon->sessions.greeting);
    const uint64_t now_ms = clock_now_ms();

    if (!first)
        return;
    (void)uv_timer_start(&daemon->sessions.hello_timer, on_hello_due,
                         first->hello_deadline_ms > now_ms ? first->hello_deadline_ms - now_ms : 0,
                         0);
}

static void on_hello_due(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    struct session *first = NULL;

    while ((first = TAILQ_FIRST(&daemon->sessions.greeting)) &&
           first->hello_deadline_ms <= clock_now_ms())
        session_end(first);
    plan_hello(daemon);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct daemon *daemon = poll->data;

    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        const int fd =
            accept4(daemon->sessions.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            admit(daemon, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            shed(daemon);
        break; /* EAGAIN, or a peer that has left already */
    }
    if (!uv_is_active((const uv_handle_t *)&daemon->sessions.hello_timer))
        plan_hello(daemon);
}

/* A lease costs a connection and at worst a pidfd: its process may hold no other. */
static unsigned connection_limit(void)
{
    struct rlimit limit = { 0 };
    rlim_t usable = 0;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024 - FDS_FOR_OURSELVES;
    if (limit.rlim_cur < limit.rlim_max) {
        const rlim_t old = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            limit.rlim_cur = old;
    }
    usable = limit.rlim_cur > 2 * FDS_FOR_OURSELVES ? limit.rlim_cur - FDS_FOR_OURSELVES
                                                    : FDS_FOR_OURSELVES;
    return usable < SESSION_MAX ? (unsigned)usable : SESSION_MAX;
}

int sessions_open(struct daemon *daemon, int take_listen_fd)
{
    struct sessions *sessions = &daemon->sessions;
    int r = 0;

    LIST_INIT(&sessions->all);
    LIST_INIT(&sessions->doomed);
    TAILQ_INIT(&sessions->greeting);
    TAILQ_INIT(&sessions->held);
    sessions->limit = connection_limit();
    sessions->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)uv_timer_init(daemon->loop, &sessions->hello_timer);
    (void)uv_timer_init(daemon->loop, &sessions->accept_timer);
    sessions->hello_timer.data = daemon;
    sessions->accept_timer.data = daemon;
    r = uv_poll_init(daemon->loop, &sessions->listener, take_listen_fd);
    if (r < 0)
        return r;
    sessions->listen_fd = take_listen_fd;
    sessions->listener.data = daemon;
    return uv_poll_start(&sessions->listener, UV_READABLE, on_listener);
}

int sessions_listen(struct daemon *daemon, int take_listen_fd)
{
    struct sessions *sessions = &daemon->sessions;

    /* Under the same number, so that the handle stays: libuv must have let go of the old one. */
    (void)uv_poll_stop(&sessions->listener);
    if (dup3(take_listen_fd, sessions->listen_fd, O_CLOEXEC) < 0)
        return -errno;
    (void)close(take_listen_fd);
    (void)uv_timer_stop(&sessions->accept_timer);
    return uv_poll_start(&sessions->listener, UV_READABLE, on_listener);
}

void sessions_close(struct daemon *daemon)
{
    struct sessions *sessions = &daemon->sessions;
    struct session *session = NULL;

    while ((session = LIST_FIRST(&sessions->all)))
        session_end(session);
    uv_close((uv_handle_t *)&sessions->hello_timer, NULL);
    uv_close((uv_handle_t *)&sessions->accept_timer, NULL);
    uv_close((uv_handle_t *)&sessions->listener, NULL);
    fd_close(&sessions->listen_fd);
}

void sessions_deinit(struct sessions *sessions)
{
    fd_close(&sessions->spare_fd);
    free(sessions->users);
    sessions->users = NULL;
    sessions->user_count = 0;
}
