/* SPDX-License-Identifier: Apache-2.0 */

#include "client/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_BYTES  (64 * 1024)
#define EXTRA_FD     3
#define FD_LIMIT_MAX 65536

/* Shared by the caller and both children, which run one after the other, never at once. */
struct spawn {
    const char *path;
    char *const *argv;
    char *const *envp;
    int output_fd;
    int extra_fd;
    char *stack; /* two of STACK_BYTES */
    int failure; /* -errno of what went wrong below */
};

static void close_from(unsigned first)
{
    struct rlimit limit = { 0 };

    if (syscall(SYS_close_range, first, ~0u, 0) == 0)
        return;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > FD_LIMIT_MAX)
        limit.rlim_cur = FD_LIMIT_MAX;
    for (unsigned fd = first; fd < (unsigned)limit.rlim_cur; fd++)
        (void)close((int)fd);
}

/* Only what exec keeps needs care: ignored signals. Handlers are ours alone, not the host's:
 * CLONE_SIGHAND is not given. */
static void reset_signals(void)
{
    struct sigaction action = { .sa_handler = SIG_DFL };
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        (void)sigaction(number, &action,
                        NULL); /* fails for KILL, STOP and libc's own: as it should */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* These two run on a stack of their own, which AddressSanitizer takes for a broken one. */
#define ON_OWN_STACK __attribute__((no_sanitize_address))

ON_OWN_STACK static int run_program(void *argument)
{
    struct spawn *spawn = argument;
    const int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)setsid(); /* cannot fail: this process leads no group */
    (void)umask(077);
    if (null_fd < 0 || chdir("/") < 0 || (null_fd != 0 && dup2(null_fd, 0) < 0) ||
        dup2(spawn->output_fd, 1) < 0 || dup2(spawn->output_fd, 2) < 0 ||
        dup2(spawn->extra_fd, EXTRA_FD) < 0 || (null_fd == 0 && fcntl(0, F_SETFD, 0) < 0)) {
        spawn->failure = -errno;
        _exit(127);
    }
    close_from(EXTRA_FD + 1);
    reset_signals();
    (void)execve(spawn->path, spawn->argv, spawn->envp);
    spawn->failure = -errno;
    _exit(127);
}

/* Its only child is thereby nobody's. */
ON_OWN_STACK static int run_between(void *argument)
{
    struct spawn *spawn = argument;

    if (clone(run_program, spawn->stack + 2 * (size_t)STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD,
              spawn) < 0)
        spawn->failure = -errno;
    _exit(0);
}

int spawn_detached(const char *path, char *const argv[], char *const envp[], int output_fd,
                   int extra_fd)
{
    struct spawn spawn = {
        .path = path, .argv = argv, .envp = envp, .output_fd = output_fd, .extra_fd = extra_fd
    };
    sigset_t all, before;
    pid_t between = 0;

    spawn.stack = mmap(NULL, 2 * (size_t)STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (spawn.stack == MAP_FAILED)
        return -errno;
    /* A handler of the host's must not run in a child that shares its memory. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    /* No exit signal: the host hears nothing, and its own wait() calls do not see this child. */
    between = clone(run_between, spawn.stack + (size_t)STACK_BYTES, CLONE_VM | CLONE_VFORK, &spawn);
    if (between < 0)
        spawn.failure = -errno;
    while (between > 0 && waitpid(between, NULL, (int)__WCLONE) < 0 && errno == EINTR)
        continue;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)munmap(spawn.stack, 2 * (size_t)STACK_BYTES);
    return spawn.failure;
}
