/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/answer.h"
#include "daemon/daemon.h"
#include "daemon/held.h"
#include "daemon/holder.h"
#include "daemon/request.h"

#define COMPLAIN_EVERY_MS 10000
#define SEND_BUFFER_BYTES 32768 /* what the kernel keeps for a peer that does not read */

static void on_session_closed(uv_handle_t *handle)
{
    free(handle);
}

static void drop_outgoing(struct session *session)
{
    struct outgoing *outgoing = NULL;

    while ((outgoing = STAILQ_FIRST(&session->out))) {
        STAILQ_REMOVE_HEAD(&session->out, entry);
        free(outgoing);
    }
    session->out_count = 0;
}

static void leave_greeting(struct session *session)
{
    if (session->phase == SESSION_NEW)
        TAILQ_REMOVE(&session->daemon->sessions.greeting, session, hello_entry);
}

void session_end(struct session *session)
{
    struct daemon *daemon = session->daemon;

    if (session->is_closing)
        return;
    session->is_closing = true;
    leave_greeting(session);
    if (session->is_doomed)
        LIST_REMOVE(session, doomed_entry);
    session->phase = SESSION_OVER;
    watch_end(&session->peer);
    requests_forget(session);
    if (session->holder)
        holder_disconnected(session->holder);
    session->holder = NULL;
    drop_outgoing(session);
    LIST_REMOVE(session, entry);
    session_uncount(&daemon->sessions, session->uid);
    /* In this order: libuv takes the descriptor out of its set first. */
    uv_close((uv_handle_t *)&session->poll, on_session_closed);
    fd_close(&session->fd);
}

static void complain(struct session *session, const char *what)
{
    struct sessions *sessions = &session->daemon->sessions;
    const uint64_t now_ms = clock_now_ms();
    char safe[LOG_ESCAPED_BYTES];

    sessions->complaints++;
    if (sessions->complained_at_ms != 0 && now_ms - sessions->complained_at_ms < COMPLAIN_EVERY_MS)
        return;
    log_warn("session", "event=closed pid=%d uid=%u reason=\"%s\" since_last=%u", (int)session->pid,
             (unsigned)session->uid, log_escape(what, safe), sessions->complaints);
    sessions->complained_at_ms = now_ms;
    sessions->complaints = 0;
}

static void on_session_event(uv_poll_t *poll, int status, int events);

static void watch_events(struct session *session)
{
    const int events = UV_READABLE | (STAILQ_EMPTY(&session->out) ? 0 : UV_WRITABLE);

    (void)uv_poll_start(&session->poll, events, on_session_event);
}

static int queue_packet(struct session *session, const unsigned char *packet, size_t packet_bytes)
{
    struct outgoing *outgoing = NULL;

    if (session->out_count >= SESSION_OUT_MAX)
        return -ENOBUFS;
    outgoing = malloc(sizeof(*outgoing) + packet_bytes);
    if (!outgoing)
        return -ENOMEM;
    outgoing->packet_bytes = packet_bytes;
    memcpy(outgoing->packet, packet, packet_bytes);
    STAILQ_INSERT_TAIL(&session->out, outgoing, entry);
    session->out_count++;
    if (session->out_count == 1)
        watch_events(session);
    return 0;
}

static int send_packet(int fd, const unsigned char *packet, size_t packet_bytes)
{
    return send(fd, packet, packet_bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void session_send(struct session *session, const struct message *message)
{
    unsigned char packet[MESSAGE_MAX_BYTES];
    size_t packet_bytes = 0;
    int r = -EAGAIN;

    if (!session || session->is_closing || session->is_doomed)
        return;
    packet_bytes = message_encode(message, packet);
    if (STAILQ_EMPTY(&session->out))
        r = send_packet(session->fd, packet, packet_bytes);
    if (r == -EAGAIN || r == -EINTR || r == -ENOBUFS) {
        r = queue_packet(session, packet, packet_bytes);
        if (r < 0)
            complain(session, "the peer does not read its answers");
    }
    /* EPIPE and the like: the end is read in a moment, after what the peer said before it. */
    if (r == -ENOBUFS || r == -ENOMEM) {
        session->is_doomed = true;
        LIST_INSERT_HEAD(&session->daemon->sessions.doomed, session, doomed_entry);
    }
}

bool sessions_reap(struct daemon *daemon)
{
    struct session *session = NULL;
    bool is_any = false;

    while ((session = LIST_FIRST(&daemon->sessions.doomed))) {
        session_end(session);
        is_any = true;
    }
    return is_any;
}

static void flush(struct session *session)
{
    struct outgoing *outgoing = NULL;

    while ((outgoing = STAILQ_FIRST(&session->out))) {
        const int r = send_packet(session->fd, outgoing->packet, outgoing->packet_bytes);
        if (r == -EAGAIN || r == -EINTR || r == -ENOBUFS)
            return;
        if (r < 0) {
            drop_outgoing(session);
            break;
        }
        STAILQ_REMOVE_HEAD(&session->out, entry);
        free(outgoing);
        session->out_count--;
    }
    watch_events(session);
}

/* -EAGAIN: nothing more to read now. */
static int read_one(struct session *session)
{
    unsigned char packet[MESSAGE_MAX_BYTES];
    struct message message;
    struct error err = { 0 };
    int r = 0;
    const ssize_t length = recv(session->fd, packet, sizeof(packet), MSG_DONTWAIT | MSG_TRUNC);

    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return -EAGAIN;
    if (length <= 0) {
        session_end(session);
        return -EPIPE;
    }
    message.seq = 0;
    r = (size_t)length > sizeof(packet) ? error_set(&err, -EPROTO, "a packet of %zd bytes", length)
                                        : message_decode(packet, (size_t)length, &message, &err);
    if (r == -EPROTONOSUPPORT)
        answer_version(session, message.seq); /* its head is still read */
    if (r < 0) {
        complain(session, err.message);
        session_end(session);
        return r;
    }
    request_handle(session, &message);
    return session->is_closing || session->is_doomed ? -EPIPE : 0;
}

static void on_session_event(uv_poll_t *poll, int status, int events)
{
    struct session *session = (struct session *)poll;
    struct daemon *daemon = session->daemon;

    if (status == 0 && (events & UV_WRITABLE))
        flush(session);
    for (int i = 0; i < SESSION_READS_AT_ONCE; i++) {
        if (read_one(session) < 0)
            break;
    }
    daemon_pump(daemon);
}

static void on_peer_exit(struct watch_listener *listener)
{
    struct session *session =
        (struct session *)(void *)((char *)listener - offsetof(struct session, peer));
    struct daemon *daemon = session->daemon;

    /* A program under `brim run` may have passed the connection on to a child that lives. */
    if (session->holder && session->holder->is_held_by_pid)
        return;
    session_end(session);
    daemon_pump(daemon);
}

int session_new(struct daemon *daemon, int take_fd, uid_t uid, pid_t pid)
{
    struct session *session = calloc(1, sizeof(*session));
    const int send_buffer_bytes = SEND_BUFFER_BYTES;
    int r = 0;

    if (!session)
        return -ENOMEM;
    r = uv_poll_init(daemon->loop, &session->poll, take_fd);
    if (r < 0) {
        free(session);
        return r;
    }
    /* A default that stays is no harm. */
    (void)setsockopt(take_fd, SOL_SOCKET, SO_SNDBUF, &send_buffer_bytes, sizeof(send_buffer_bytes));
    session->daemon = daemon;
    session->fd = take_fd;
    session->uid = uid;
    session->pid = pid;
    session->peer.on_exit = on_peer_exit;
    session->hello_deadline_ms = clock_after_ms(clock_now_ms(), SESSION_HELLO_MS);
    STAILQ_INIT(&session->out);
    LIST_INSERT_HEAD(&daemon->sessions.all, session, entry);
    TAILQ_INSERT_TAIL(&daemon->sessions.greeting, session, hello_entry);
    watch_events(session);
    return 0;
}

void session_greeted(struct session *session)
{
    leave_greeting(session);
    session->phase = SESSION_GREETED;
}
