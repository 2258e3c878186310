/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_SPAWN_H
#define CLIENT_SPAWN_H

/*
 * Start a program that is nobody's child: own session, default signals, umask 077, working
 * directory "/", and no descriptors but 0 (/dev/null), 1 and 2 (output_fd) and 3 (extra_fd).
 *
 * For use inside foreign programs with threads: the address space is shared with the child until
 * it execs (as vfork does), so it costs the same for a process of any size, and no fork handlers
 * run; the process in between ends without SIGCHLD and is reaped here.
 *
 * All descriptors and texts are borrowed; both descriptors must be 4 or more. 0 or -errno, that of
 * exec included.
 */
int spawn_detached(const char *path, char *const argv[], char *const envp[], int output_fd,
                   int extra_fd);

#endif
