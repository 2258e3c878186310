/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_PLACE_H
#define DAEMON_PLACE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/paths.h"
#include "daemon/options.h"

/*
 * The place of a daemon: its directories, the locks that make it the only one there, and its two
 * listening sockets. A socket left by a daemon that died is replaced, which is safe because the
 * lock is held; anything else at that path is somebody else's and stays.
 *
 * The runtime directory can vanish under a living daemon (doors.h); it must not unlink another
 * one's sockets there when it ends.
 */

/* A socket's name, and the file that was made under it. */
struct place_socket {
    char path[PATHS_SOCKET_BYTES]; /* "": not bound */
    dev_t device;
    ino_t inode;
};

struct place {
    char runtime_dir[PATHS_BYTES];
    char state_dir[PATHS_BYTES];
    struct place_socket lease_socket;
    struct place_socket api_socket;
    int runtime_lock_fd; /* owned, all four; -1: none */
    int state_lock_fd;
    int lease_fd;
    int api_fd;
};

/* -EEXIST: another daemon is there already; the message says which. */
int place_open(const struct options *options, struct place *ret_place, struct error *err);
/* Whether both sockets are still where clients look for them. */
bool place_is_there(const struct place *place);
/* Make the runtime directory, its lock and both sockets again; on success lease_fd and api_fd are
 * the new ones. Does not wait. -EEXIST: another daemon is there. On failure nothing is left behind
 * and the place is as it was. */
int place_reopen(struct place *place, enum scope scope, struct error *err);
/* Unlink the sockets: nobody else can come in. */
void place_unlink(struct place *place);
/* Unlinks the sockets and gives up the locks; descriptors that were taken (-1) are left alone. */
void place_close(struct place *place);

#endif
