/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_ORIGIN_H
#define DAEMON_ORIGIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/holders.h"

/*
 * Where a process comes from: which user's it is, and whose lease its bytes are. A process belongs
 * to the innermost lease among its ancestors; one that has left its parents (a daemonised child) is
 * found by BRIM_LEASE in its environment, which `brim run` set. What says so must be of the lease's
 * own user, so that nobody can charge a stranger.
 */

/* Real uid of a process; -ESRCH and the like. */
int origin_uid(pid_t pid, uid_t *ret_uid);

/* Whether this user may name that process as its own: same user, or root. */
bool origin_may_claim(uid_t uid, pid_t pid);

/* The root of the innermost lease that this process belongs to; false: it belongs to none. */
struct origin {
    pid_t root_pid;
    uint64_t root_ticks;
};
bool origin_find(const struct holders *holders, pid_t pid, struct origin *ret_origin);

#endif
