/* SPDX-License-Identifier: Apache-2.0 */

#include "client/daemon.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "client/spawn.h"

#define RETRY_MS        20
#define LOG_NAME        "brimd.log"
#define START_LOCK_NAME "start.lock"
#define LOW_FD_END      10 /* descriptors that a child's 0 … 3 must not collide with */
#define READY_TEXT      "ready\n"

/* ---- finding one ---- */

static int connect_in(const char *dir, int *ret_fd, struct error *err)
{
    OWNED(fd_close) int fd = -1;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int r = paths_join(address.sun_path, sizeof(address.sun_path), dir, PATHS_LEASE_SOCKET, err);

    if (r < 0)
        return r;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set(err, -errno, "%s: %s", address.sun_path, strerror(errno));
    *ret_fd = fd_take(&fd);
    return 0;
}

static bool is_nobody_there(int r)
{
    return r == -ENOENT || r == -ECONNREFUSED;
}

int daemon_connect(enum daemon_scope scope, int *ret_fd, enum daemon_scope *ret_scope,
                   struct error *err)
{
    char dir[PATHS_BYTES];
    int r = -ENOENT;

    if (scope != DAEMON_SYSTEM) {
        r = paths_runtime_dir(dir, err);
        if (r == 0)
            r = connect_in(dir, ret_fd, err);
        if (r == 0)
            *ret_scope = DAEMON_USER;
        if (!is_nobody_there(r) || scope == DAEMON_USER || secure_getenv("BRIM_RUNTIME_DIR"))
            return r;
    }
    /* Where neither is there, the user's own is the one to speak of: it can be started. */
    struct error system_err = { 0 };
    const int system_r = connect_in(PATHS_SYSTEM_RUNTIME, ret_fd, &system_err);
    if (system_r == 0)
        *ret_scope = DAEMON_SYSTEM;
    if (is_nobody_there(system_r) && scope == DAEMON_ANY)
        return r;
    if (system_r < 0 && err)
        *err = system_err;
    return system_r;
}

int daemon_runtime_dir(char ret_path[PATHS_BYTES], struct error *err)
{
    OWNED(fd_close) int fd = -1;
    enum daemon_scope scope = DAEMON_ANY;

    if (daemon_connect(DAEMON_ANY, &fd, &scope, NULL) == 0 && scope == DAEMON_SYSTEM) {
        (void)snprintf(ret_path, PATHS_BYTES, "%s", PATHS_SYSTEM_RUNTIME);
        return 0;
    }
    return paths_runtime_dir(ret_path, err);
}

/* ---- what it is started with ---- */

/* Inside a foreign program brimd lies near libbrim.so, not near the program; a program of ours
 * that has this code linked in finds it by paths_program(). */
static int beside_library(char ret_path[PATHS_BYTES])
{
    static const char *const places[] = { "brimd", "../bin/brimd", "../../bin/brimd" };
    Dl_info info;

    if (dladdr((void *)(uintptr_t)&daemon_start, &info) == 0 || !info.dli_fname ||
        info.dli_fname[0] != '/')
        return -ENOENT;
    const int dir_bytes = (int)(strrchr(info.dli_fname, '/') - info.dli_fname);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (snprintf(ret_path, PATHS_BYTES, "%.*s/%s", dir_bytes, info.dli_fname, places[i]) <
                PATHS_BYTES &&
            access(ret_path, X_OK) == 0)
            return 0;
    }
    return -ENOENT;
}

static int in_search_path(char ret_path[PATHS_BYTES])
{
    const char *rest = secure_getenv("PATH");

    while (rest && *rest) {
        const int bytes = (int)strcspn(rest, ":");
        if (*rest == '/' &&
            snprintf(ret_path, PATHS_BYTES, "%.*s/brimd", bytes, rest) < PATHS_BYTES &&
            access(ret_path, X_OK) == 0)
            return 0;
        rest += bytes;
        rest += *rest == ':';
    }
    return -ENOENT;
}

static int find_brimd(char ret_path[PATHS_BYTES], struct error *err)
{
    if (beside_library(ret_path) == 0)
        return 0;
    const int r = paths_program("brimd", ret_path, err);
    return r == 0 || in_search_path(ret_path) == 0 ? 0 : r;
}

static bool is_kept_variable(const char *variable, bool is_emulated)
{
    static const char *const kept[] = { "PATH=", "HOME=",   "USER=", "XDG_",
                                        "BRIM_", "TMPDIR=", "LANG=" };
    /* Of this process alone, not of the machine. */
    static const char *const own[] = { "BRIM_FD=", "BRIM_LEASE=", "BRIM_BATCH=", "BRIM_WORKER=" };

    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (strncmp(variable, own[i], strlen(own[i])) == 0)
            return false;
    }
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        if (strncmp(variable, kept[i], strlen(kept[i])) == 0)
            return true;
    }
    return is_emulated && strncmp(variable, "LD_LIBRARY_PATH=", 16) == 0;
}

/* The pointers are borrowed from environ; the array is the caller's. */
static int clean_environment(char ***ret_envp)
{
    const bool is_emulated = secure_getenv("BRIM_EMULATED") != NULL;
    char **envp = NULL;
    size_t count = 0, kept_count = 0;

    while (environ && environ[count])
        count++;
    envp = calloc(count + 1, sizeof(*envp));
    if (!envp)
        return -ENOMEM;
    for (size_t i = 0; i < count && environ[i]; i++) {
        if (is_kept_variable(environ[i], is_emulated))
            envp[kept_count++] = environ[i];
    }
    *ret_envp = envp;
    return 0;
}

/* ---- starting it ---- */

static int move_up(int *fd)
{
    const int higher_fd = fcntl(*fd, F_DUPFD_CLOEXEC, LOW_FD_END);

    if (higher_fd < 0)
        return -errno;
    fd_close(fd);
    *fd = higher_fd;
    return 0;
}

static int open_own(const char *dir, const char *name, int flags, int *ret_fd, struct error *err)
{
    char path[PATHS_BYTES];
    int r = paths_join(path, sizeof(path), dir, name, err);

    if (r < 0)
        return r;
    *ret_fd = open(path, flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*ret_fd < 0)
        return error_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
    r = move_up(ret_fd);
    return r < 0 ? error_set(err, r, "no file descriptor is left for %s; raise ulimit -n", path)
                 : 0;
}

/* The daemon's working directory is not ours, so a relative path would mean another place there. */
static int check_absolute(const char *path, const char *variable, struct error *err)
{
    if (path[0] == '/')
        return 0;
    return error_set(err, -EINVAL, "%s: not an absolute path; set %s to one", path, variable);
}

static int prepare_dirs(char runtime_dir[PATHS_BYTES], char state_dir[PATHS_BYTES],
                        struct error *err)
{
    int r = paths_runtime_dir(runtime_dir, err);

    if (r == 0)
        r = paths_state_dir(state_dir, err);
    if (r == 0)
        r = check_absolute(runtime_dir, "BRIM_RUNTIME_DIR", err);
    if (r == 0)
        r = check_absolute(state_dir, "BRIM_STATE_DIR", err);
    if (r == 0)
        r = paths_make_private(runtime_dir, err);
    if (r == 0)
        r = paths_make_private(state_dir, err);
    return r;
}

static int launch_program(struct daemon_launch *launch, const char *state_dir, struct error *err)
{
    static char name[] = "brimd", option[] = "--ready-fd", number[] = "3";
    char *const argv[] = { name, option, number, NULL };
    char path[PATHS_BYTES];
    OWNED(freep) char **envp = NULL;
    OWNED(fd_close) int log_fd = -1;
    OWNED(fd_close) int write_fd = -1;
    int pipe_fds[2] = { -1, -1 };
    int r = find_brimd(path, err);

    if (r == 0)
        r = open_own(state_dir, LOG_NAME, O_WRONLY | O_APPEND, &log_fd, err);
    if (r < 0)
        return r;
    r = clean_environment(&envp);
    if (r < 0)
        return error_set(err, r, "out of memory");
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return error_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
    launch->ready_fd = pipe_fds[0];
    write_fd = pipe_fds[1];
    r = move_up(&write_fd);
    if (r == 0)
        r = spawn_detached(path, argv, envp, log_fd, write_fd);
    return r == 0 ? 0 : error_set(err, r, "cannot start %s: %s", path, strerror(-r));
}

static bool somebody_listens(void)
{
    OWNED(fd_close) int fd = -1;
    enum daemon_scope scope = DAEMON_ANY;

    return !is_nobody_there(daemon_connect(DAEMON_ANY, &fd, &scope, NULL));
}

int daemon_launch_begin(struct daemon_launch *launch, struct error *err)
{
    char runtime_dir[PATHS_BYTES], state_dir[PATHS_BYTES];
    int r = prepare_dirs(runtime_dir, state_dir, err);

    if (r == 0)
        r = open_own(runtime_dir, START_LOCK_NAME, O_RDWR, &launch->lock_fd, err);
    if (r < 0)
        return r;
    if (flock(launch->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        fd_close(&launch->lock_fd);
        return 1;
    }
    /* Whoever held the lock a moment ago may have started it. */
    if (somebody_listens()) {
        daemon_launch_end(launch);
        return 1;
    }
    launch->reason_bytes = 0;
    r = launch_program(launch, state_dir, err);
    if (r < 0)
        daemon_launch_end(launch);
    return r;
}

/* A launch that failed because another one was quicker has come to the same end: whoever began that
 * one may have let go of the lock before it listened. */
int daemon_launch_check(struct daemon_launch *launch, struct error *err)
{
    for (;;) {
        const size_t room_bytes = sizeof(launch->reason) - 1 - launch->reason_bytes;
        const ssize_t got =
            read(launch->ready_fd, launch->reason + launch->reason_bytes, room_bytes);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return 1;
        if (got <= 0)
            break;
        launch->reason_bytes += (unsigned)got;
        if (launch->reason_bytes >= strlen(READY_TEXT) &&
            memcmp(launch->reason, READY_TEXT, strlen(READY_TEXT)) == 0)
            return 0;
    }
    launch->reason[launch->reason_bytes] = '\0';
    launch->reason[strcspn(launch->reason, "\n")] = '\0';
    if (somebody_listens())
        return 0;
    if (launch->reason[0])
        return error_set(err, -ECHILD, "brimd did not start: %s", launch->reason);
    char state_dir[PATHS_BYTES] = "";
    (void)paths_state_dir(state_dir, NULL);
    return error_set(err, -ECHILD, "brimd ended before it listened; %.300s/%s tells why", state_dir,
                     LOG_NAME);
}

void daemon_launch_end(struct daemon_launch *launch)
{
    /* A child that the host forked meanwhile may share the descriptor; the lock must go now. */
    if (launch->lock_fd >= 0)
        (void)flock(launch->lock_fd, LOCK_UN);
    fd_close(&launch->lock_fd);
    fd_close(&launch->ready_fd);
}

static int wait_for_launch(struct daemon_launch *launch, uint64_t deadline_ms, struct error *err)
{
    for (;;) {
        struct pollfd watch = { .fd = launch->ready_fd, .events = POLLIN };
        const uint64_t now_ms = clock_now_ms();
        const int r = daemon_launch_check(launch, err);

        if (r <= 0)
            return r;
        if (now_ms >= deadline_ms)
            return error_set(err, -ETIMEDOUT, "brimd does not listen after %d s",
                             DAEMON_START_MS / 1000);
        (void)poll(&watch, 1, (int)(deadline_ms - now_ms));
    }
}

int daemon_start(struct error *err)
{
    const uint64_t deadline_ms = clock_now_ms() + DAEMON_START_MS;

    for (;;) {
        struct daemon_launch launch = DAEMON_LAUNCH_NONE;
        OWNED(fd_close) int fd = -1;
        enum daemon_scope scope = DAEMON_ANY;
        int r = daemon_connect(DAEMON_ANY, &fd, &scope, err);

        if (!is_nobody_there(r) && r != -EAGAIN)
            return r;
        if (r != -EAGAIN)
            r = daemon_launch_begin(&launch, err);
        if (r == 0)
            r = wait_for_launch(&launch, deadline_ms, err);
        daemon_launch_end(&launch);
        if (r <= 0 && r != -EAGAIN)
            return r;
        if (clock_now_ms() >= deadline_ms)
            return error_set(err, -ETIMEDOUT, "brimd does not answer after %d s",
                             DAEMON_START_MS / 1000);
        (void)poll(NULL, 0, RETRY_MS);
    }
}
