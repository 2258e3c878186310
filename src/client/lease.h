/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_LEASE_H
#define CLIENT_LEASE_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <brim/brim.h>

#include "client/daemon.h"
#include "wire/message.h"

/*
 * A lease as its holder's process knows it. What was granted is kept here, not at the daemon: when
 * the daemon goes, the lease stays what it is, the link is made again, and the new daemon is told.
 *
 * Two machines, side by side:
 *
 *   lease   QUEUED --GRANTED--> LOADING --brim_ready--> IDLE <--burst--> BUSY
 *             |                    |______________________|________________|
 *             v REFUSED, deadline                         v LOST, REATTACH refused
 *           REFUSED                                      LOST
 *
 *   link    DOWN --connected--> UP --end, garbage, a full socket--> DOWN (and again, by the timer)
 *            |  ^
 *            v  | the daemon listens, or failed to
 *           STARTING
 *
 * Nothing blocks in here but lease_wait(). Each step is non-blocking and driven by one epoll
 * descriptor: the socket, the daemon's start, and one timer for the nearest of all deadlines.
 *
 * Locking: one mutex a lease. It is dropped while waiting and while a callback runs. Every public
 * call counts as a user; who released it only marks it, the last user frees it.
 *
 * acquire.c  begin, end, free           link.c     connect, send, lose, connect again
 * claim.c    what may be asked          receive.c  what the daemon says
 * lease.c    the other public calls     wait.c     steps, the timer, waiting, callbacks
 * burst.c    bursts
 */

enum link_state {
    LINK_DOWN = 0,
    LINK_STARTING,
    LINK_UP,
};

enum burst_state {
    BURST_NONE = 0,
    BURST_WAITING,
    BURST_TAKEN,
};

struct lease_refusal {
    struct brim_refusal data; /* data.text points at text */
    char text[MESSAGE_REASON_BYTES];
};

struct brim_lease {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pid_t owner_pid;     /* a fork's child has another: it must not even lock */
    unsigned user_count; /* calls inside */
    bool is_released;
    bool is_polled; /* a call waits on epoll_fd; all others wait for `changed` */
    bool has_thread;
    pthread_t thread;

    int epoll_fd, timer_fd; /* owned */
    uint64_t timer_at_ms;   /* what the timer is set to */

    enum link_state link;
    enum daemon_scope scope; /* of the daemon that granted it: no other can take it up again */
    int socket_fd;           /* owned; -1 but when UP */
    struct daemon_launch launch;
    bool has_answered;           /* a daemon has ever said something */
    unsigned failure_count;      /* since it last did */
    uint64_t retry_at_ms;        /* DOWN: when to try next */
    uint64_t launch_deadline_ms; /* STARTING */
    uint64_t link_deadline_ms;   /* QUEUED: until then it must have answered */

    struct message_claim claim; /* as asked; pid: as bound */
    enum brim_lease_state state;
    uint64_t id;
    char gpus[sizeof(((struct message_granted *)0)->gpus)];
    uint64_t deadline_ms; /* QUEUED */
    int failure;          /* REFUSED, LOST: BRIM_ERR_* */

    enum burst_state burst;
    uint64_t burst_bytes;
    uint64_t burst_deadline_ms;
    uint32_t burst_ticket; /* counts bursts, so that a waiting call knows its own */
    int burst_failure;     /* of the last one */

    /* The `seq` of a request whose answer matters; 0: none. */
    uint32_t last_seq, hello_seq, claim_seq, burst_seq, call_seq;
    int call_result; /* of RESIZE or BIND, once call_seq is 0 again */
    uint64_t call_deadline_ms;

    bool has_refusal;
    struct lease_refusal refusal; /* the newest reason */
    struct lease_refusal shown;   /* what brim_lease_refusal() handed out */

    brim_trim_callback on_trim;
    void *trim_user; /* borrowed */
    brim_stop_callback on_stop;
    void *stop_user; /* borrowed */
    bool has_trim, has_stop, is_in_callback;
    uint64_t trim_bytes;
    char stop_text[MESSAGE_REASON_BYTES];
};

/* A daemon that lives answers at once or when the wait is over; one that does not within this time
 * more is taken for dead. A variable for tests. */
extern uint64_t lease_answer_ms;

/* Every public call stands between these two: with the lock held, and errno kept. */
int lease_begin(brim_lease *lease, int *ret_errno); /* on failure nothing is held */
int lease_end(brim_lease *lease, int result, int saved_errno);

static inline int lease_fail(int result, int saved_errno)
{
    errno = saved_errno;
    return result;
}

static inline bool lease_is_held(const brim_lease *lease)
{
    return lease->state == BRIM_LEASE_LOADING || lease->state == BRIM_LEASE_IDLE ||
           lease->state == BRIM_LEASE_BUSY;
}

/* Why a call that needs a held lease cannot be served. */
static inline int lease_not_held(const brim_lease *lease)
{
    return lease->state == BRIM_LEASE_LOST ? BRIM_ERR_LOST : BRIM_ERR_STATE;
}

/* claim.c: 0, INVALID. */
int lease_check_claim(const struct brim_claim *claim, struct message_claim *ret_claim);

/* link.c. All with the lock held, none blocks. */
void link_open(brim_lease *lease);              /* try to get UP */
void link_lose(brim_lease *lease, int failure); /* DOWN, and try again later */
void link_close(brim_lease *lease);             /* for good */
void link_check_launch(brim_lease *lease);      /* STARTING: has it started? */
int link_send(brim_lease *lease, struct message *message, uint32_t *ret_seq); /* NO_DAEMON: lost */
void link_send_burst(brim_lease *lease);

/* receive.c. 1: one message was taken; 0: there was none; PROTOCOL, VERSION: and the link is lost.
 */
int lease_receive(brim_lease *lease);
void lease_refuse(brim_lease *lease, int failure, const char *text); /* QUEUED -> REFUSED */
void lease_set_reason(brim_lease *lease, int code, const char *text);

/* wait.c. */
int lease_step(brim_lease *lease);
void lease_wait(brim_lease *lease); /* until something may have changed; drops the lock */
void lease_wake(brim_lease *lease); /* something changed: wake who waits */
void lease_kick(brim_lease *lease); /* make the descriptor readable, for a step soon */
void lease_arm(brim_lease *lease);  /* deadlines changed */

/* The socket's descriptor while the link is UP, else -1: for a program that execs another. */
int lease_socket_fd(brim_lease *lease);

#endif
