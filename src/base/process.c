/* SPDX-License-Identifier: Apache-2.0 */

#include "base/process.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#ifndef SO_PEERPIDFD
#    define SO_PEERPIDFD 77
#endif

#define STAT_LIMIT_BYTES 4096

/* The name stands in parentheses and may itself hold blanks and parentheses: the last ')'
 * ends it. */
static int parse_stat(const char *text, struct process_info *info)
{
    const char *open_paren = strchr(text, '(');
    const char *close_paren = strrchr(text, ')');
    uint64_t start_ticks = 0;
    int parent = 0;
    char state = 0;

    if (!open_paren || !close_paren || close_paren < open_paren)
        return -EPROTO;
    /* NOLINTNEXTLINE(cert-err34-c): written by the kernel */
    if (sscanf(close_paren + 1,
               " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
               "%" SCNu64,
               &state, &parent, &start_ticks) != 3)
        return -EPROTO;
    info->state = state;
    info->parent_pid = parent;
    info->start_ticks = start_ticks;
    (void)snprintf(info->name, sizeof(info->name), "%.*s", (int)(close_paren - open_paren - 1),
                   open_paren + 1);
    return 0;
}

int process_read(pid_t pid, struct process_info *ret_info)
{
    OWNED(freep) char *text = NULL;
    struct process_info info = { .pid = pid };
    char path[64];
    int r = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    r = fd_read_file(path, STAT_LIMIT_BYTES, &text, NULL);
    if (r < 0)
        return r == -ENOENT ? -ESRCH : r;
    r = parse_stat(text, &info);
    if (r < 0)
        return r;
    *ret_info = info;
    return 0;
}

bool process_is_alive(pid_t pid, uint64_t start_ticks)
{
    struct process_info info = { 0 };

    return process_read(pid, &info) == 0 && info.start_ticks == start_ticks && info.state != 'Z' &&
           info.state != 'X';
}

int process_open(pid_t pid, uint64_t start_ticks)
{
    OWNED(fd_close) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */

    if (pidfd < 0)
        return -errno;
    if (start_ticks != 0 && !process_is_alive(pid, start_ticks))
        return -ESRCH;
    return fd_take(&pidfd);
}

bool process_peer_lives(int socket_fd)
{
    OWNED(fd_close) int pidfd = -1;
    socklen_t pidfd_bytes = sizeof(pidfd);

    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &pidfd_bytes) < 0) {
        pidfd = -1;
        return errno != ESRCH &&
               errno != EINVAL; /* the latter: it was reaped, in Linux 6.5 to 6.15 */
    }
    struct pollfd watch = { .fd = pidfd, .events = POLLIN };
    return poll(&watch, 1, 0) == 0;
}

int process_signal(int pidfd, int signal_number)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0) < 0 ? -errno : 0;
}
