/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stddef.h>

/* Close *fd if it is open, leave -1 behind and errno alone. For OWNED(fd_close). */
void fd_close(int *fd);

/* Hand the descriptor in *fd to the caller and leave -1 behind. */
int fd_take(int *fd);

/* Write all of it, through short writes and EINTR. 0 or -errno. */
int fd_write_all(int fd, const void *data, size_t data_bytes);

/* Make a directory's entries durable. A filesystem that knows no such thing is taken as it is. 0 or
 * -errno. */
int fd_sync_dir(const char *path) __attribute__((warn_unused_result));

/* Set or clear FD_CLOEXEC; O_NONBLOCK. 0 or -errno. */
int fd_set_cloexec(int fd, int is_cloexec);
int fd_set_nonblock(int fd, int is_nonblock);

/* Read a whole small file (/proc, configuration) into a fresh, NUL-terminated buffer that the
 * caller frees. -EFBIG above limit_bytes. */
int fd_read_file(const char *path, size_t limit_bytes, char **ret_text, size_t *ret_bytes)
    __attribute__((warn_unused_result));

#endif
