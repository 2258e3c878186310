/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A brimd that does what $BRIM_TEST_DAEMON tells it: "listen" writes what it was given
 * (environment, descriptors, session) to its output, listens, says so, and ends when the first
 * connection ends; "refuse" gives a reason instead; anything else ends without a word.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"

static void describe_self(void)
{
    sigset_t blocked;
    char cwd[64] = "";

    for (char **variable = environ; *variable; variable++)
        printf("env %s\n", *variable);
    for (int fd = 0; fd < 64; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            printf("fd %d\n", fd);
    }
    (void)sigprocmask(SIG_SETMASK, NULL, &blocked);
    printf("leads %d blocked %d ignored %d cwd %s umask %03o\n", getsid(0) == getpid(),
           sigismember(&blocked, SIGTERM), signal(SIGPIPE, SIG_DFL) == SIG_IGN,
           getcwd(cwd, sizeof(cwd)), (unsigned)umask(0));
    (void)fflush(stdout);
}

static int listen_at(const char *dir)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/lease.sock", dir);
    (void)unlink(address.sun_path);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, 8) < 0)
        return -1;
    return fd;
}

int main(int argc, char **argv)
{
    const char *told = getenv("BRIM_TEST_DAEMON");
    const char *dir = getenv("BRIM_RUNTIME_DIR");
    const int ready_fd =
        argc == 3 && strcmp(argv[1], "--ready-fd") == 0 ? (int)strtol(argv[2], NULL, 10) : -1;
    char byte = 0;

    if (!told || !dir || ready_fd < 0)
        return 2;
    if (strcmp(told, "refuse") == 0)
        return fd_write_all(ready_fd, "the moon is full\n", 17) == 0 ? 1 : 2;
    if (strcmp(told, "listen") != 0)
        return 1;
    describe_self();
    const int listen_fd = listen_at(dir);
    if (listen_fd < 0 || fd_write_all(ready_fd, "ready\n", 6) < 0 || close(ready_fd) < 0)
        return 2;
    const int client_fd = accept(listen_fd, NULL, NULL);
    return client_fd >= 0 && read(client_fd, &byte, 1) == 0 ? 0 : 1;
}
