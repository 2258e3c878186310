/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/place.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

#define LOCK_NAME       "brimd.lock"
#define LOCK_TEXT_BYTES 64
#define LISTEN_BACKLOG  4096

#define LOCK_PATIENCE_MS 1000
#define LOCK_AGAIN_MS    10

/* Systemd makes /run/brim with the group brim and mode 0750: others may enter, not write. */
static int make_system_dir(const char *path, struct error *err)
{
    struct stat info;

    if (mkdir(path, 0750) < 0 && errno != EEXIST)
        return error_set(err, -errno,
                         "cannot make %s: %s; the system scope is started by systemd "
                         "(systemctl start brimd)",
                         path, strerror(errno));
    if (lstat(path, &info) < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return error_set(err, -ENOTDIR, "%s is not a directory; move it away", path);
    if (info.st_uid != geteuid() || (info.st_mode & 022) != 0)
        return error_set(err, -EPERM,
                         "%s belongs to uid %u with mode %04o; it must be of uid %u, and only that "
                         "one may write to it",
                         path, (unsigned)info.st_uid, (unsigned)info.st_mode & 07777,
                         (unsigned)geteuid());
    return 0;
}

static int make_dir(enum scope scope, const char *path, struct error *err)
{
    return scope == SCOPE_SYSTEM ? make_system_dir(path, err) : paths_make_private(path, err);
}

/* Who holds the lock, as the holder wrote it: "pid 12". */
static void read_holder(int fd, char text[LOCK_TEXT_BYTES])
{
    const ssize_t length = pread(fd, text, LOCK_TEXT_BYTES - 1, 0);

    text[length > 0 ? length : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (strncmp(text, "pid ", 4) != 0)
        (void)snprintf(text, LOCK_TEXT_BYTES, "pid unknown");
}

/* Whoever started this daemon waits for it at the other end of ready_fd. */
static bool is_starter_gone(int ready_fd)
{
    struct pollfd watch = { .fd = ready_fd };

    return poll(&watch, 1, 0) > 0 && (watch.revents & (POLLERR | POLLHUP));
}

/* The last daemon may be about to end; and one that was killed while it started its helper leaves a
 * copy of the lock behind, until that child has become the helper. Who waits for the lock does so
 * for its starter: without one it would come up behind the back of whoever stops the daemon. */
static int lock_soon(int fd, uint64_t patience_ms, int ready_fd)
{
    const uint64_t deadline_ms = clock_after_ms(clock_now_ms(), patience_ms);

    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK || clock_now_ms() >= deadline_ms)
            return -errno;
        if (is_starter_gone(ready_fd))
            return -ECANCELED;
        (void)poll(NULL, 0, LOCK_AGAIN_MS);
    }
    return is_starter_gone(ready_fd) ? -ECANCELED : 0;
}

static int take_lock(const char *dir, uint64_t patience_ms, int ready_fd, int *ret_fd,
                     struct error *err)
{
    OWNED(fd_close) int fd = -1;
    char path[PATHS_BYTES];
    char text[LOCK_TEXT_BYTES];
    int r = 0;

    r = paths_join(path, sizeof(path), dir, LOCK_NAME, err);
    if (r < 0)
        return r;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
    r = lock_soon(fd, patience_ms, ready_fd);
    if (r == -ECANCELED)
        return error_set(err, r, "whoever started this brimd has ended meanwhile");
    if (r < 0) {
        if (r != -EWOULDBLOCK)
            return error_set(err, r, "cannot lock %s: %s", path, strerror(-r));
        read_holder(fd, text);
        return error_set(err, -EEXIST,
                         "another brimd (%s) already works in %s; `brim daemon stop` ends it", text,
                         dir);
    }
    (void)snprintf(text, sizeof(text), "pid %d\n", (int)getpid());
    /* On a full disk the lock holds all the same, only who has it stays untold. */
    if ((ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) < 0) && errno != ENOSPC)
        return error_set(err, -errno, "cannot write %s: %s", path, strerror(errno));
    *ret_fd = fd_take(&fd);
    return 0;
}

static int clear_stale(const char *path, struct error *err)
{
    struct stat info;

    if (lstat(path, &info) < 0)
        return errno == ENOENT ? 0 : error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (!S_ISSOCK(info.st_mode))
        return error_set(err, -EADDRINUSE,
                         "%s is taken by something that is not a socket; move it away, or choose "
                         "another --runtime-dir",
                         path);
    if (unlink(path) < 0)
        return error_set(err, -errno, "cannot replace %s: %s", path, strerror(errno));
    return 0;
}

static int bind_socket(enum scope scope, int type, const char *path, int *ret_fd, struct error *err)
{
    OWNED(fd_close) int fd = -1;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int r = clear_stale(path, err);

    if (r < 0)
        return r;
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    /* The mask holds from the first moment on, where chmod would come too late. */
    const mode_t old_mask = umask(scope == SCOPE_SYSTEM ? 0117 : 0177);
    r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    (void)umask(old_mask);
    if (r < 0)
        return error_set(err, r, "cannot bind %s: %s", path, strerror(-r));
    if (listen(fd, LISTEN_BACKLOG) < 0)
        return error_set(err, -errno, "cannot listen on %s: %s", path, strerror(errno));
    *ret_fd = fd_take(&fd);
    return 0;
}

static bool socket_is_there(const struct place_socket *socket)
{
    struct stat info;

    return socket->path[0] != '\0' && lstat(socket->path, &info) == 0 &&
           info.st_dev == socket->device && info.st_ino == socket->inode;
}

static int open_door(enum scope scope, int type, const char *path, struct place_socket *ret_socket,
                     int *ret_fd, struct error *err)
{
    OWNED(fd_close) int fd = -1;
    struct stat info;
    const int r = bind_socket(scope, type, path, &fd, err);

    if (r < 0)
        return r;
    if (lstat(path, &info) < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    ret_socket->device = info.st_dev;
    ret_socket->inode = info.st_ino;
    (void)snprintf(ret_socket->path, sizeof(ret_socket->path), "%s", path);
    *ret_fd = fd_take(&fd);
    return 0;
}

static int bind_both(enum scope scope, struct place *place, struct error *err)
{
    char path[PATHS_SOCKET_BYTES];
    int r = paths_join(path, sizeof(path), place->runtime_dir, PATHS_LEASE_SOCKET, err);

    if (r == 0)
        r = open_door(scope, SOCK_SEQPACKET, path, &place->lease_socket, &place->lease_fd, err);
    if (r == 0)
        r = paths_join(path, sizeof(path), place->runtime_dir, PATHS_API_SOCKET, err);
    if (r == 0)
        r = open_door(scope, SOCK_STREAM, path, &place->api_socket, &place->api_fd, err);
    return r;
}

static int lock_dirs(int ready_fd, struct place *place, struct error *err)
{
    int r = take_lock(place->runtime_dir, LOCK_PATIENCE_MS, ready_fd, &place->runtime_lock_fd, err);

    /* One directory for both is odd, but a second lock on it would only fight the first. */
    if (r == 0 && strcmp(place->runtime_dir, place->state_dir) != 0)
        r = take_lock(place->state_dir, LOCK_PATIENCE_MS, ready_fd, &place->state_lock_fd, err);
    return r;
}

int place_open(const struct options *options, struct place *ret_place, struct error *err)
{
    struct place place = {
        .runtime_lock_fd = -1, .state_lock_fd = -1, .lease_fd = -1, .api_fd = -1
    };
    int r = 0;

    (void)snprintf(place.runtime_dir, sizeof(place.runtime_dir), "%s", options->runtime_dir);
    (void)snprintf(place.state_dir, sizeof(place.state_dir), "%s", options->state_dir);
    r = make_dir(options->scope, place.runtime_dir, err);
    if (r == 0)
        r = make_dir(options->scope, place.state_dir, err);
    if (r == 0)
        r = lock_dirs(options->ready_fd, &place, err);
    if (r == 0)
        r = bind_both(options->scope, &place, err);
    if (r < 0) {
        place_close(&place);
        return r;
    }
    *ret_place = place;
    return 0;
}

/* Our lock's file may have outlived the sockets. */
static bool lock_is_there(const struct place *place)
{
    char path[PATHS_BYTES];
    struct stat held, there;

    return paths_join(path, sizeof(path), place->runtime_dir, LOCK_NAME, NULL) == 0 &&
           fstat(place->runtime_lock_fd, &held) == 0 && lstat(path, &there) == 0 &&
           held.st_dev == there.st_dev && held.st_ino == there.st_ino;
}

int place_reopen(struct place *place, enum scope scope, struct error *err)
{
    struct place fresh = *place;
    int r = make_dir(scope, place->runtime_dir, err);

    place_unlink(place); /* one of the two may be left */
    fresh.runtime_lock_fd = fresh.lease_fd = fresh.api_fd = -1;
    if (r == 0 && !lock_is_there(place))
        r = take_lock(place->runtime_dir, 0, -1, &fresh.runtime_lock_fd, err);
    if (r == 0)
        r = bind_both(scope, &fresh, err);
    if (r < 0) {
        fresh.state_lock_fd = -1;
        place_close(&fresh);
        return r;
    }
    if (fresh.runtime_lock_fd < 0)
        fresh.runtime_lock_fd = fd_take(&place->runtime_lock_fd);
    fd_close(&place->runtime_lock_fd);
    fd_close(&place->lease_fd);
    fd_close(&place->api_fd);
    *place = fresh;
    return 0;
}

bool place_is_there(const struct place *place)
{
    return socket_is_there(&place->lease_socket) && socket_is_there(&place->api_socket);
}

static void unlink_socket(struct place_socket *socket)
{
    if (socket_is_there(socket))
        (void)unlink(socket->path);
    socket->path[0] = '\0';
}

void place_unlink(struct place *place)
{
    unlink_socket(&place->lease_socket);
    unlink_socket(&place->api_socket);
}

void place_close(struct place *place)
{
    place_unlink(place);
    fd_close(&place->lease_fd);
    fd_close(&place->api_fd);
    fd_close(&place->state_lock_fd);
    fd_close(&place->runtime_lock_fd);
}
