/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KEEPER_CHILD_H
#define KEEPER_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * A child process under a keeper: started with exactly the descriptors it is meant to have, in a
 * process group of its own (so that Ctrl-C at the terminal reaches only the keeper), with default
 * signals, watched through a pidfd, and taken along when the keeper dies.
 *
 *   keeper_spawn ──▶ running ──(pidfd readable)──▶ keeper_reap ──▶ gone
 *
 * A command that cannot be executed is an error of keeper_spawn, not a child that ends at once.
 */

#define KEEPER_EXTRA_FD 3 /* the number that extra_fd gets in the child */

struct keeper_command {
    char *const *argv; /* borrowed, ends with NULL */
    char *const *env;  /* borrowed, ends with NULL: the whole environment */
    const char *dir;   /* borrowed; where the child starts */
    int stdin_fd;      /* borrowed, as the next three; -1: /dev/null */
    int stdout_fd;
    int stderr_fd;
    int extra_fd; /* -1: none */
};

struct keeper_child {
    pid_t pid;            /* 0: none */
    int pidfd;            /* owned; -1: none */
    uint64_t start_ticks; /* of /proc/PID/stat */
};

/* A child that is none. */
void keeper_child_init(struct keeper_child *child);

/* -ENOENT, -EACCES … with a message when the command cannot be started. */
int keeper_spawn(const struct keeper_command *command, struct keeper_child *ret_child,
                 struct error *err) __attribute__((warn_unused_result));

/* Whether it has ended: 1 and *ret_status (as of waitpid), 0 while it runs, or -errno. After 1 the
 * child is none, and what was left of its process group is killed. */
int keeper_reap(struct keeper_child *child, int *ret_status) __attribute__((warn_unused_result));

/* Signal the child and its process group; nothing where the child is none. */
void keeper_signal(const struct keeper_child *child, int signal_number);

#define KEEPER_STATUS_BYTES 64

/* "status 1", "killed by signal 9 (Killed)" for a waitpid status. Returns text. */
const char *keeper_status_text(int status, char text[KEEPER_STATUS_BYTES]);

#endif
