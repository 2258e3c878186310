/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_PATHS_H
#define BASE_PATHS_H

#include <stddef.h>

#include "base/error.h"

/*
 * Where things lie.
 *
 *   runtime directory  sockets and locks: $BRIM_RUNTIME_DIR, else $XDG_RUNTIME_DIR/brim, else
 *                      ~/.local/state/brim/run. 0700, ours.
 *   state directory    what must survive: $BRIM_STATE_DIR, else $XDG_STATE_HOME/brim, else
 *                      ~/.local/state/brim. 0700, ours.
 *   system scope       /run/brim and /var/lib/brim, made by systemd.
 *   gpu locks          $BRIM_LOCK_DIR, else /run/lock where it is writable: one arbiter per gpu.
 */

#define PATHS_BYTES        4096
#define PATHS_SOCKET_BYTES 108 /* sizeof(sockaddr_un.sun_path), the end of the string included */

#define PATHS_SYSTEM_RUNTIME "/run/brim"
#define PATHS_SYSTEM_STATE   "/var/lib/brim"

#define PATHS_LEASE_SOCKET "lease.sock"
#define PATHS_API_SOCKET   "api.sock"

/* The user's directories by the rules above, as text only; nothing is made. -ENOENT, with a
 * message, where neither the variables nor HOME are set. */
int paths_runtime_dir(char ret_path[PATHS_BYTES], struct error *err);
int paths_state_dir(char ret_path[PATHS_BYTES], struct error *err);

/* Make the directory (and its parents) 0700 and check that it is a directory, ours, and closed to
 * others: -ENOTDIR, -EPERM with a message that says whose it is. */
int paths_make_private(const char *path, struct error *err);

/* Make the names of a path durable, as far as it leads through directories of ours: what a program
 * of ours has made on the way may not be on the disk yet, and a file that is synced is lost with a
 * directory that is not. Nothing is made. 0 or -errno. */
int paths_sync_parents(const char *path) __attribute__((warn_unused_result));

/* dir + "/" + name; -ENAMETOOLONG, with a message, where the result does not fit limit_bytes. */
int paths_join(char *ret_path, size_t limit_bytes, const char *dir, const char *name,
               struct error *err);

/* Where a program of ours (brimd, brim-helper …) lies: beside the running one, else in ../libexec/
 * brim or the installed place. -ENOENT, with a message, where it is nowhere. */
int paths_program(const char *name, char ret_path[PATHS_BYTES], struct error *err);

#endif
