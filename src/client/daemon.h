/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_DAEMON_H
#define CLIENT_DAEMON_H

#include "base/error.h"
#include "base/paths.h"

/*
 * The way to brimd: find the one that serves us, or start it, as tmux does with its server.
 *
 * The user's own daemon comes first (paths_runtime_dir); where $BRIM_RUNTIME_DIR is unset and
 * nobody answers there, the system's in /run/brim. Where neither answers, `brimd --ready-fd N` is
 * started: detached, with a clean environment, its own session, the log as its output, and none of
 * our descriptors but N. It writes "ready\n" there once both its sockets listen; anything else it
 * writes before it closes N is the reason why it could not.
 *
 * Guest code (see CONVENTIONS): the host gets no SIGCHLD, no child to wait for, no atfork handlers
 * run, its working directory, umask and signal handlers stay as they are.
 */

#define DAEMON_START_MS 5000 /* a daemon that does not listen by then has failed */

enum daemon_scope {
    DAEMON_ANY = 0,
    DAEMON_USER,
    DAEMON_SYSTEM, /* cannot be started from here */
};

/* Connect to the lease socket of a daemon that runs: a non-blocking descriptor, close-on-exec.
 * -ENOENT or -ECONNREFUSED: nobody is there; -EAGAIN: there is, but too busy right now. */
int daemon_connect(enum daemon_scope scope, int *ret_fd, enum daemon_scope *ret_scope,
                   struct error *err) __attribute__((warn_unused_result));

/* The directory of the daemon that daemon_connect would find: for its API socket. */
int daemon_runtime_dir(char ret_path[PATHS_BYTES], struct error *err)
    __attribute__((warn_unused_result));

/* A start in progress. Zero it with DAEMON_LAUNCH_NONE. */
struct daemon_launch {
    int lock_fd;      /* owned: only one client starts a daemon at a time */
    int ready_fd;     /* owned: readable when the daemon listens or has failed */
    char reason[256]; /* what the daemon wrote instead of "ready" */
    unsigned reason_bytes;
};
#define DAEMON_LAUNCH_NONE                                                                         \
    {                                                                                              \
        .lock_fd = -1, .ready_fd = -1                                                              \
    }

/* Without blocking. 0: started, watch ready_fd; 1: somebody else is starting one, try to connect
 * again soon. */
int daemon_launch_begin(struct daemon_launch *launch, struct error *err)
    __attribute__((warn_unused_result));
/* ready_fd is readable: 0 it listens, or another one does; 1 not yet, negative: it has failed, with
 * its reason. */
int daemon_launch_check(struct daemon_launch *launch, struct error *err)
    __attribute__((warn_unused_result));
/* Let go; may be called twice. Does not end the daemon. */
void daemon_launch_end(struct daemon_launch *launch);

/* Make sure that a daemon answers: start one where there is none, and wait for it, at most
 * DAEMON_START_MS. */
int daemon_start(struct error *err) __attribute__((warn_unused_result));

#endif
