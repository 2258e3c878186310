/* SPDX-License-Identifier: Apache-2.0 */

#include "keeper/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/process.h"

#define ABOVE_TARGETS_FD 16 /* sources are moved up here before they take their numbers */

/* What went wrong between fork and exec, on its way to the parent. */
struct spawn_problem {
    int code; /* errno */
    int step; /* enum spawn_step */
};

enum spawn_step {
    SPAWN_STEP_FDS = 0,
    SPAWN_STEP_DIR,
    SPAWN_STEP_EXEC,
};

void keeper_child_init(struct keeper_child *child)
{
    *child = (struct keeper_child){ .pidfd = -1 };
}

/* From here to exec only async-signal-safe calls: the child of a process that may have threads. */

static int place_fds(const struct keeper_command *command)
{
    const int wanted[] = { command->stdin_fd, command->stdout_fd, command->stderr_fd,
                           command->extra_fd };
    int moved[4] = { -1, -1, -1, -1 };

    for (int i = 0; i < 4; i++) {
        int source = wanted[i];
        if (source < 0 && i == KEEPER_EXTRA_FD)
            continue;
        if (source < 0)
            source = open("/dev/null", O_RDWR | O_CLOEXEC);
        moved[i] = source < 0 ? -1 : fcntl(source, F_DUPFD_CLOEXEC, ABOVE_TARGETS_FD);
        if (moved[i] < 0)
            return -errno;
    }
    for (int i = 0; i < 4; i++) {
        if (moved[i] >= 0 && dup2(moved[i], i) < 0)
            return -errno;
    }
    /* What our own caller left open is none of the child's either. An old kernel refuses this. */
    (void)close_range(command->extra_fd < 0 ? KEEPER_EXTRA_FD : KEEPER_EXTRA_FD + 1, ~0U,
                      CLOSE_RANGE_CLOEXEC);
    return 0;
}

static void reset_signals(void)
{
    const struct sigaction by_default = { .sa_handler = SIG_DFL };
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        (void)sigaction(i, &by_default, NULL); /* SIGKILL and SIGSTOP refuse, as they should */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void fail_child(int problem_fd, enum spawn_step step, int code)
{
    const struct spawn_problem problem = { .code = code, .step = (int)step };

    /* The parent reads end-of-file otherwise and takes the child for a good one that ended. */
    (void)fd_write_all(problem_fd, &problem, sizeof(problem));
    _exit(127);
}

static void run_child(const struct keeper_command *command, int problem_fd, pid_t parent_pid)
{
    problem_fd = fcntl(problem_fd, F_DUPFD_CLOEXEC, ABOVE_TARGETS_FD);
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent_pid) /* it died before prctl() */
        _exit(127);
    const int r = place_fds(command);
    if (r < 0)
        fail_child(problem_fd, SPAWN_STEP_FDS, -r);
    if (command->dir && chdir(command->dir) < 0)
        fail_child(problem_fd, SPAWN_STEP_DIR, errno);
    reset_signals();
    CRASH_POINT(worker_forked);
    (void)execvpe(command->argv[0], command->argv, command->env);
    fail_child(problem_fd, SPAWN_STEP_EXEC, errno);
}

static int explain(const struct keeper_command *command, const struct spawn_problem *problem,
                   struct error *err)
{
    const char *why = strerror(problem->code);

    switch ((enum spawn_step)problem->step) {
    case SPAWN_STEP_EXEC:
        if (problem->code == ENOENT)
            return error_set(err, -ENOENT,
                             "cannot run '%s': there is no such program (or its interpreter); "
                             "check the name and PATH",
                             command->argv[0]);
        return error_set(err, -problem->code, "cannot run '%s': %s", command->argv[0], why);
    case SPAWN_STEP_DIR:
        return error_set(err, -problem->code, "cannot run '%s' in %s: %s", command->argv[0],
                         command->dir, why);
    case SPAWN_STEP_FDS:
    default:
        return error_set(err, -problem->code, "cannot give '%s' its descriptors: %s",
                         command->argv[0], why);
    }
}

int keeper_spawn(const struct keeper_command *command, struct keeper_child *ret_child,
                 struct error *err)
{
    OWNED(fd_close) int read_fd = -1;
    OWNED(fd_close) int write_fd = -1;
    struct spawn_problem problem = { 0 };
    struct keeper_child child = { .pidfd = -1 };
    struct process_info info = { 0 };
    const pid_t self = getpid();
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
    read_fd = ends[0];
    write_fd = ends[1];
    child.pid = fork();
    if (child.pid < 0)
        return error_set(err, -errno, "cannot start a process: %s", strerror(errno));
    if (child.pid == 0)
        run_child(command, write_fd, self);
    fd_close(&write_fd);
    const ssize_t got = TEMP_FAILURE_RETRY(read(read_fd, &problem, sizeof(problem)));
    if (got == (ssize_t)sizeof(problem)) {
        (void)TEMP_FAILURE_RETRY(waitpid(child.pid, NULL, 0));
        return explain(command, &problem, err);
    }
    /* Not yet reaped, so the pid is surely this child's. */
    child.pidfd = process_open(child.pid, 0);
    if (child.pidfd < 0) {
        (void)kill(child.pid, SIGKILL);
        (void)TEMP_FAILURE_RETRY(waitpid(child.pid, NULL, 0));
        return error_set(err, child.pidfd, "cannot watch process %d: %s", (int)child.pid,
                         strerror(-child.pidfd));
    }
    if (process_read(child.pid, &info) == 0)
        child.start_ticks = info.start_ticks;
    *ret_child = child;
    return 0;
}

int keeper_reap(struct keeper_child *child, int *ret_status)
{
    int status = 0;
    const pid_t ended = child->pid > 0 ? waitpid(child->pid, &status, WNOHANG) : -1;

    if (ended < 0)
        return child->pid > 0 ? -errno : -ECHILD;
    if (ended == 0)
        return 0;
    /* Helpers that it left behind would go on with the memory of a worker that is gone. */
    (void)kill(-child->pid, SIGKILL);
    fd_close(&child->pidfd);
    keeper_child_init(child);
    *ret_status = status;
    return 1;
}

void keeper_signal(const struct keeper_child *child, int signal_number)
{
    if (child->pid <= 0)
        return;
    /* Not yet reaped: neither the pid nor the group can be anybody else's. */
    (void)kill(child->pid, signal_number);
    (void)kill(-child->pid, signal_number);
}

const char *keeper_status_text(int status, char text[KEEPER_STATUS_BYTES])
{
    if (WIFSIGNALED(status))
        (void)snprintf(text, KEEPER_STATUS_BYTES, "killed by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    else
        (void)snprintf(text, KEEPER_STATUS_BYTES, "ended with status %d", WEXITSTATUS(status));
    return text;
}
