/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * A process as the kernel tells it in /proc. A pid alone may be reused; a pid and its start time
 * name one process for as long as the machine is up.
 */

#define PROCESS_NAME_BYTES 64

struct process_info {
    pid_t pid;
    pid_t parent_pid;
    uint64_t start_ticks; /* since boot, in clock ticks: field 22 of /proc/PID/stat */
    char state;           /* R, S, D, Z … */
    char name[PROCESS_NAME_BYTES];
};

/* -ESRCH when there is no such process. */
int process_read(pid_t pid, struct process_info *ret_info) __attribute__((warn_unused_result));

/* Whether this very process (pid and start time) is there and no zombie. */
bool process_is_alive(pid_t pid, uint64_t start_ticks);

/* A descriptor that becomes readable when the process ends, close-on-exec; -errno on failure. If
 * start_ticks is not 0, it is checked after opening, so that the descriptor is surely of that
 * process (-ESRCH if not). */
int process_open(pid_t pid, uint64_t start_ticks);

/* Whether the process that connected a unix socket still lives. Before Linux 6.5 nobody can tell;
 * then it is taken for alive. Where it is alive behind a process_open() of its pid, the pid was not
 * another one's by then. */
bool process_peer_lives(int socket_fd);

/* Signal through a descriptor of process_open: never hits a successor with the same pid. */
int process_signal(int pidfd, int signal_number);

#endif
