/* SPDX-License-Identifier: Apache-2.0 */

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"

void fd_close(int *fd)
{
    const int saved_errno = errno;

    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
    errno = saved_errno;
}

int fd_take(int *fd)
{
    const int taken = *fd;

    *fd = -1;
    return taken;
}

int fd_write_all(int fd, const void *data, size_t data_bytes)
{
    const char *rest = data;

    while (data_bytes > 0) {
        const ssize_t written = write(fd, rest, data_bytes);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        rest += written;
        data_bytes -= (size_t)written;
    }
    return 0;
}

int fd_sync_dir(const char *path)
{
    OWNED(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}

static int change_flag(int fd, int get, int set, int flag, int is_on)
{
    const int flags = fcntl(fd, get);

    if (flags < 0)
        return -errno;
    return fcntl(fd, set, is_on ? flags | flag : flags & ~flag) < 0 ? -errno : 0;
}

int fd_set_cloexec(int fd, int is_cloexec)
{
    return change_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, is_cloexec);
}

int fd_set_nonblock(int fd, int is_nonblock)
{
    return change_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, is_nonblock);
}

static int read_all(int fd, char *text, size_t room_bytes, size_t *ret_bytes)
{
    size_t used_bytes = 0;

    while (used_bytes < room_bytes) {
        const ssize_t got = read(fd, text + used_bytes, room_bytes - used_bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        used_bytes += (size_t)got;
    }
    *ret_bytes = used_bytes;
    return 0;
}

int fd_read_file(const char *path, size_t limit_bytes, char **ret_text, size_t *ret_bytes)
{
    OWNED(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    OWNED(freep) char *text = NULL;
    size_t used_bytes = 0;
    int r = 0;

    if (fd < 0)
        return -errno;
    /* One byte more than allowed tells a file that is just as long from one that is longer. */
    text = malloc(limit_bytes + 1);
    if (!text)
        return -ENOMEM;
    r = read_all(fd, text, limit_bytes + 1, &used_bytes);
    if (r < 0)
        return r;
    if (used_bytes > limit_bytes)
        return -EFBIG;
    text[used_bytes] = '\0';
    *ret_text = TAKE(text);
    if (ret_bytes)
        *ret_bytes = used_bytes;
    return 0;
}
