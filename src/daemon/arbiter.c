/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/arbiter.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define LOCK_DIR         "/run/lock"
#define LOCK_TEXT_BYTES  512
#define UUID_LIMIT_BYTES 48

static const char *lock_dir(const char *runtime_dir)
{
    const char *dir = secure_getenv("BRIM_LOCK_DIR");

    if (dir && *dir)
        return dir;
    return access(LOCK_DIR, W_OK) == 0 ? LOCK_DIR : runtime_dir;
}

bool arbiter_locks_in(const char *runtime_dir)
{
    return lock_dir(runtime_dir) == runtime_dir;
}

/* The driver's text becomes part of a file's name. */
static int lock_path(const char *uuid, const char *runtime_dir, char path[PATHS_BYTES])
{
    for (const char *at = uuid; *at; at++) {
        if (!isalnum((unsigned char)*at) && *at != '-')
            return -EINVAL;
    }
    if (strlen(uuid) >= UUID_LIMIT_BYTES ||
        snprintf(path, PATHS_BYTES, "%s/brim-%s.lock", lock_dir(runtime_dir), uuid) >= PATHS_BYTES)
        return -ENAMETOOLONG;
    return 0;
}

/* The file may be another user's: /run/lock is sticky, and the kernel then refuses to open it with
 * O_CREAT or for writing. A lock needs neither. */
static int open_lock(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0644);
    struct stat info;

    if (fd < 0 && (errno == EACCES || errno == EPERM))
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
        (void)close(fd);
        return -EINVAL;
    }
    return fd;
}

static void read_holder(int fd, char *ret_holder, size_t holder_bytes)
{
    char text[LOCK_TEXT_BYTES];
    char safe[LOG_ESCAPED_BYTES];
    const ssize_t length = pread(fd, text, sizeof(text) - 1, 0);

    text[length > 0 ? length : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (strncmp(text, "pid ", 4) != 0)
        (void)snprintf(text, sizeof(text), "of another user");
    (void)snprintf(ret_holder, holder_bytes, "another brimd (%s)", log_escape(text, safe));
}

/* For people, and only a courtesy: where it cannot be written the lock holds all the same. */
static void write_holder(int fd, enum scope scope, const char *runtime_dir)
{
    char text[LOCK_TEXT_BYTES];

    (void)snprintf(text, sizeof(text), "pid %d, uid %u, %s scope; BRIM_RUNTIME_DIR=%s\n",
                   (int)getpid(), (unsigned)geteuid(), scope_name(scope), runtime_dir);
    if (ftruncate(fd, 0) == 0)
        (void)!pwrite(fd, text, strlen(text), 0);
}

int arbiter_lock(const char *uuid, enum scope scope, const char *runtime_dir, int *ret_fd,
                 char *ret_holder, size_t holder_bytes)
{
    OWNED(fd_close) int fd = -1;
    char path[PATHS_BYTES];
    int r = lock_path(uuid, runtime_dir, path);

    if (r < 0) {
        (void)snprintf(ret_holder, holder_bytes, "nobody: the gpu's uuid cannot name a lock file");
        return r;
    }
    fd = open_lock(path);
    if (fd < 0) {
        r = fd;
        (void)snprintf(ret_holder, holder_bytes, "nobody: cannot open %.100s: %s", path,
                       strerror(-r));
        return r;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        r = -errno;
        if (r == -EWOULDBLOCK)
            read_holder(fd, ret_holder, holder_bytes);
        else
            (void)snprintf(ret_holder, holder_bytes, "nobody: cannot lock %.100s: %s", path,
                           strerror(-r));
        return r;
    }
    write_holder(fd, scope, runtime_dir);
    *ret_fd = fd_take(&fd);
    return 0;
}
