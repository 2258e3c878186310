/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_ARBITER_H
#define DAEMON_ARBITER_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/options.h"

/*
 * One arbiter per gpu: two daemons that both grant on one gpu would fill it twice. A daemon holds
 * an exclusive flock on brim-UUID.lock, in $BRIM_LOCK_DIR, else in /run/lock, for as long as it
 * lives; the file says who. It is never removed: a lock on a file that is gone locks nothing.
 */

/* 0: it is ours, *ret_fd keeps it. -EWOULDBLOCK: another has it, and holder says who and how to
 * join it. Anything else: the lock cannot be taken, and holder says why. */
int arbiter_lock(const char *uuid, enum scope scope, const char *runtime_dir, int *ret_fd,
                 char *ret_holder, size_t holder_bytes);

/* Whether the gpus' locks lie in the runtime directory, and are gone with it. */
bool arbiter_locks_in(const char *runtime_dir);

#endif
