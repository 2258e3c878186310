/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uv.h>

#include "daemon/watch.h"
#include "wire/message.h"

/*
 * Sessions: connections on the lease socket. A session reads packets, checks them, hands them to
 * request_handle(), and writes answers. Nobody can make it wait or grow: reads are limited to a few
 * packets a turn, answers that the peer does not read pile up to SESSION_OUT_MAX and then end it,
 * who does not say HELLO in SESSION_HELLO_MS is let go, and the numbers of connections in all and
 * of one user are bounded.
 *
 *   accept -> NEW --HELLO--> GREETED (has at most one lease at a time) --> OVER --> closed
 */

struct daemon;
struct holder;

#define SESSION_MAX           12000
#define SESSION_USER_MAX      4096 /* of one user, in the system scope */
#define SESSION_HELLO_MS      5000
#define SESSION_OUT_MAX       32 /* packets */
#define SESSION_READS_AT_ONCE 16

enum session_phase {
    SESSION_NEW,
    SESSION_GREETED,
    SESSION_OVER,
};

struct outgoing {
    STAILQ_ENTRY(outgoing) entry;
    size_t packet_bytes;
    unsigned char packet[];
};
STAILQ_HEAD(outgoing_list, outgoing);

/* A request that waits for fresh facts. */
struct held_request {
    TAILQ_ENTRY(held_request) entry;
    struct session *session; /* borrowed */
    uint64_t arrived_ms;
    struct message message;
};
TAILQ_HEAD(held_request_list, held_request);

struct session {
    uv_poll_t poll;        /* first: its close callback frees the session */
    struct daemon *daemon; /* borrowed */
    LIST_ENTRY(session) entry;
    TAILQ_ENTRY(session) hello_entry; /* while NEW */
    LIST_ENTRY(session) doomed_entry; /* while is_doomed */
    uint64_t hello_deadline_ms;
    int fd; /* owned */
    enum session_phase phase;
    uid_t uid;
    pid_t pid; /* 0: the kernel cannot tell (another pid namespace) */
    struct watch_listener peer;
    struct holder *holder; /* borrowed; NULL: none (any more) */
    unsigned held_count;   /* requests of it that wait for facts */
    struct outgoing_list out;
    unsigned out_count;
    bool is_doomed; /* its peer does not read: it ends with this turn's pump */
    bool is_closing;
};

LIST_HEAD(session_list, session);
TAILQ_HEAD(greeting_list, session);

struct user_count {
    uid_t uid;
    unsigned count;
};

struct sessions {
    uv_poll_t listener;
    uv_timer_t hello_timer;
    uv_timer_t accept_timer; /* pause after the descriptors ran out */
    int listen_fd;           /* owned */
    int spare_fd;            /* owned: given up to accept, and refuse, when there are no more */
    struct session_list all;
    struct greeting_list greeting;
    struct session_list doomed;
    struct held_request_list held;
    unsigned count;
    unsigned limit;
    struct user_count *users; /* owned */
    size_t user_count;
    uint64_t complained_at_ms; /* the log line about bad packets is limited */
    unsigned complaints;
};

int sessions_open(struct daemon *daemon, int take_listen_fd);
/* Listen there from now on; who is connected stays so. */
int sessions_listen(struct daemon *daemon, int take_listen_fd);
/* Closes all of them; holders keep what they have. */
void sessions_close(struct daemon *daemon);
void sessions_deinit(struct sessions *sessions);

/* For the listener: a session on an accepted connection; count one less. */
int session_new(struct daemon *daemon, int take_fd, uid_t uid, pid_t pid);
void session_uncount(struct sessions *sessions, uid_t uid);

/* HELLO has come. */
void session_greeted(struct session *session);

/* Send, or queue. The session of a peer that does not read is doomed, but stays until
 * sessions_reap(): whoever says something need not fear for the lease it speaks of. NULL is fine:
 * nobody is there. */
void session_send(struct session *session, const struct message *message);
/* End the doomed ones; true: there were some, and the budget may have more to say. */
bool sessions_reap(struct daemon *daemon);
/* Close the connection; what it held is dealt with as for one that its peer closed. */
void session_end(struct session *session);

#endif
