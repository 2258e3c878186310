/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command and all that it started.
 *
 *     HOLDING --holders ready--> RUNNING --command ended--> ENDING --grace over--> KILLING
 *        |                          |                          |                     |
 *        | a holder failed          | --keep                   | no child left       | no child
 * left v                          v                          v                     v ENDING
 * LINGERING --no child left--> ENDED <------------------
 *
 * The server is the subreaper: whatever loses its parent becomes its child, so "no child left" is
 * the end of everything. Nothing waits blindly: a child's end is a signal, the grace a deadline of
 * the loop. Signals to the server are passed on to the command; one typed at the terminal has
 * reached the command already.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "server.h"

#define GRACE_MS      2000
#define KILL_AGAIN_MS 50

#define STATUS_NOT_EXECUTABLE 126
#define STATUS_NOT_FOUND      127

struct descendants {
    struct process_info *items; /* owned */
    size_t count, room;
};

static void descendants_free(struct descendants *all)
{
    free(all->items);
}

static int descendants_add(struct descendants *all, pid_t pid)
{
    if (all->count == all->room) {
        const size_t room = all->room > 0 ? 2 * all->room : 128;
        struct process_info *const more = realloc(all->items, room * sizeof(*more));
        if (!more)
            return -ENOMEM;
        all->items = more;
        all->room = room;
    }
    if (process_read(pid, &all->items[all->count]) == 0)
        all->count++;
    return 0;
}

static int read_processes(struct descendants *all)
{
    DIR *const proc = opendir("/proc");
    int r = 0;

    if (!proc)
        return -errno;
    for (const struct dirent *entry = readdir(proc); entry && r == 0; entry = readdir(proc)) {
        char *end = NULL;
        const long pid = strtol(entry->d_name, &end, 10);
        if (*end == '\0' && pid > 0)
            r = descendants_add(all, (pid_t)pid);
    }
    (void)closedir(proc);
    return r;
}

static bool is_member(const struct process_info *members, size_t count, pid_t pid)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].pid == pid)
            return true;
    }
    return false;
}

/* Keep those that descend from us, moved to the front; a round finds at least one more or is the
 * last. */
static void keep_ours(struct descendants *all)
{
    size_t ours = 0, before = 0;

    do {
        before = ours;
        for (size_t i = ours; i < all->count; i++) {
            const struct process_info candidate = all->items[i];
            if (candidate.parent_pid != getpid() &&
                !is_member(all->items, ours, candidate.parent_pid))
                continue;
            all->items[i] = all->items[ours];
            all->items[ours++] = candidate;
        }
    } while (ours != before);
    all->count = ours;
}

static void signal_all(int signal_number)
{
    OWNED(descendants_free) struct descendants all = { 0 };

    if (read_processes(&all) < 0)
        return;
    keep_ours(&all);
    for (size_t i = 0; i < all.count; i++) {
        OWNED(fd_close) int pidfd = process_open(all.items[i].pid, all.items[i].start_ticks);
        if (pidfd >= 0)
            (void)process_signal(pidfd, signal_number);
    }
}

static void reap(struct server *server);

static void begin_ending(struct server *server)
{
    struct tree *const tree = &server->tree;

    tree->state = TREE_ENDING;
    tree->deadline_ms = clock_after_ms(clock_now_ms(), GRACE_MS);
    signal_all(SIGTERM);
}

void tree_on_deadline(struct server *server)
{
    struct tree *const tree = &server->tree;

    /* A process may have forked between the look and the signal: again, until none is left. */
    tree->state = TREE_KILLING;
    tree->deadline_ms = clock_after_ms(clock_now_ms(), KILL_AGAIN_MS);
    signal_all(SIGKILL);
}

static _Noreturn void exec_command(const struct server *server, pid_t parent)
{
    char **const command = server->options.command;
    const int r = environment_apply(server);

    if (r < 0) {
        fprintf(stderr, "brim emulate: preparing %s: %s\n", command[0], strerror(-r));
        _exit(125);
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(125);
    (void)execvp(command[0], command);
    const int saved_errno = errno;
    fprintf(stderr, "brim emulate: %s: %s\n", command[0], strerror(saved_errno));
    _exit(saved_errno == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE);
}

static int start_command(struct server *server, struct error *err)
{
    const pid_t parent = getpid();
    const pid_t pid = fork();

    if (pid < 0)
        return error_set(err, -errno, "fork: %s", strerror(errno));
    if (pid == 0)
        exec_command(server, parent);
    server->tree.command_pid = pid;
    server->tree.state = TREE_RUNNING;
    schedule_start(server, clock_now_ms());
    return 0;
}

static _Noreturn void exec_holder(const struct server *server, uint32_t gpu, uint64_t bytes, int in,
                                  int out)
{
    char gpu_text[16], bytes_text[32], own[4096];
    const ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);

    if (length < 0 || environment_apply(server) < 0 || setenv("BRIM_EMU_EXEMPT", "1", 1) < 0 ||
        dup2(in, 0) < 0 || dup2(out, 1) < 0)
        _exit(125);
    own[length] = '\0';
    (void)snprintf(gpu_text, sizeof(gpu_text), "%u", gpu);
    (void)snprintf(bytes_text, sizeof(bytes_text), "%" PRIu64,
                   bytes / EMU_PAGE_BYTES * EMU_PAGE_BYTES);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)execl(own, "foreign", "--hold", gpu_text, bytes_text, NULL);
    _exit(125);
}

static void close_holder(struct server *server, struct holder *holder)
{
    if (holder->out >= 0)
        server_unwatch(server, &holder->watch);
    fd_close(&holder->in);
    fd_close(&holder->out);
}

/* A holder says one byte when it holds, and ends without a word if it could not. */
static void on_holder(struct server *server, struct watch *watch)
{
    struct tree *const tree = &server->tree;
    struct holder *const holder = (struct holder *)((char *)watch - offsetof(struct holder, watch));
    struct error err = { 0 };
    char byte = 0;

    server_unwatch(server, watch);
    if (read(watch->fd, &byte, 1) != 1) {
        fprintf(stderr, "brim emulate: a foreign process could not take its memory of gpu %u\n",
                holder->gpu);
        if (holder->is_hog) {
            close_holder(server, holder);
            return;
        }
        tree->status = 125;
        begin_ending(server);
        reap(server); /* its end may have been seen already */
        return;
    }
    if (holder->is_hog) {
        holder->end_ms = clock_after_ms(clock_now_ms(), holder->hold_ms);
        return;
    }
    tree->holders_ready++;
    if (tree->state == TREE_HOLDING && tree->holders_ready == tree->holder_count &&
        start_command(server, &err) < 0) {
        fprintf(stderr, "brim emulate: %s\n", err.message);
        tree->status = 125;
        begin_ending(server);
    }
}

/* One of a hog that has been ended makes room. */
static struct holder *find_room(struct tree *tree)
{
    for (size_t i = 0; i < tree->holder_count; i++) {
        if (tree->holders[i].is_hog && tree->holders[i].out < 0)
            return &tree->holders[i];
    }
    return tree->holder_count < HOLDER_MAX ? &tree->holders[tree->holder_count++] : NULL;
}

static int start_holder(struct server *server, uint32_t gpu, uint64_t bytes, uint64_t hog_ms,
                        struct error *err)
{
    int in[2] = { -1, -1 }, out[2] = { -1, -1 };

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) {
        fd_close(&in[0]);
        fd_close(&in[1]);
        return error_set(err, -errno, "pipe: %s", strerror(errno));
    }
    struct holder *const holder = find_room(&server->tree);
    const pid_t pid = holder ? fork() : -1;
    if (pid == 0)
        exec_holder(server, gpu, bytes, in[0], out[1]);
    fd_close(&in[0]);
    fd_close(&out[1]);
    if (!holder) {
        fd_close(&in[1]);
        fd_close(&out[0]);
        return error_set(err, -ENOSPC, "at most %d foreign processes", HOLDER_MAX);
    }
    *holder = (struct holder){ .watch = { on_holder, out[0] },
                               .pid = pid,
                               .gpu = gpu,
                               .is_hog = hog_ms != 0,
                               .hold_ms = hog_ms,
                               .end_ms = CLOCK_NEVER_MS,
                               .in = in[1],
                               .out = out[0] };
    if (pid < 0)
        return error_set(err, -errno, "fork: %s", strerror(errno));
    const int r = server_watch(server, &holder->watch);
    return r < 0 ? error_set(err, r, "epoll: %s", strerror(-r)) : 0;
}

int tree_start_hog(struct server *server, uint32_t gpu, uint64_t bytes, uint64_t hold_ms,
                   struct error *err)
{
    const uint64_t context_bytes = server->cards[gpu].info.context_bytes;

    return start_holder(server, gpu, bytes > context_bytes ? bytes - context_bytes : 0, hold_ms,
                        err);
}

static bool is_running_hog(const struct holder *holder)
{
    return holder->is_hog && holder->out >= 0;
}

uint64_t tree_hogs_due_ms(const struct server *server)
{
    uint64_t due_ms = CLOCK_NEVER_MS;

    for (size_t i = 0; i < server->tree.holder_count; i++) {
        const struct holder *const holder = &server->tree.holders[i];
        if (is_running_hog(holder) && holder->end_ms < due_ms)
            due_ms = holder->end_ms;
    }
    return due_ms;
}

void tree_settle_hogs(struct server *server, uint64_t now_ms)
{
    for (size_t i = 0; i < server->tree.holder_count; i++) {
        struct holder *const holder = &server->tree.holders[i];
        if (is_running_hog(holder) && holder->end_ms <= now_ms)
            close_holder(server, holder);
    }
}

void tree_end_hogs(struct server *server, uint32_t gpu)
{
    for (size_t i = 0; i < server->tree.holder_count; i++) {
        struct holder *const holder = &server->tree.holders[i];
        if (holder->is_hog && holder->gpu == gpu)
            close_holder(server, holder);
    }
}

/* What --leave's process takes beside its context. */
static uint64_t left_bytes(const struct card *card)
{
    return card->info.capacity_bytes - card->leave_bytes - card->info.context_bytes;
}

int tree_start(struct server *server, struct error *err)
{
    for (uint32_t i = 0; i < server->card_count; i++) {
        const struct card *const card = &server->cards[i];
        const int r =
            card->leave_bytes == NO_LEAVE ? 0 : start_holder(server, i, left_bytes(card), 0, err);
        if (r < 0)
            return r;
    }
    return server->tree.holder_count > 0 ? 0 : start_command(server, err);
}

static bool is_holder(const struct tree *tree, pid_t pid)
{
    for (size_t i = 0; i < tree->holder_count; i++) {
        if (tree->holders[i].pid == pid)
            return true;
    }
    return false;
}

static bool only_holders_are_left(const struct tree *tree)
{
    OWNED(descendants_free) struct descendants all = { 0 };

    if (read_processes(&all) < 0)
        return false;
    keep_ours(&all);
    for (size_t i = 0; i < all.count; i++) {
        if (!is_holder(tree, all.items[i].pid))
            return false;
    }
    return true;
}

static void on_command_end(struct server *server, int status)
{
    struct tree *const tree = &server->tree;

    tree->command_pid = 0;
    tree->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (server->options.is_keep)
        tree->state = TREE_LINGERING;
    else
        begin_ending(server);
}

/* Collect the dead. Without any child left, everything has ended. */
static void reap(struct server *server)
{
    struct tree *const tree = &server->tree;
    int status = 0;
    pid_t pid = 0;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == tree->command_pid)
            on_command_end(server, status);
    }
    const bool is_childless = pid < 0 && errno == ECHILD;
    if (is_childless && tree->state != TREE_HOLDING && tree->command_pid == 0)
        tree->state = TREE_ENDED;
    else if (tree->state == TREE_LINGERING && only_holders_are_left(tree))
        begin_ending(server);
    else if (tree->state == TREE_KILLING)
        signal_all(SIGKILL); /* what the dead have left to us */
}

static void on_signal(struct server *server, struct watch *watch)
{
    struct tree *const tree = &server->tree;
    struct signalfd_siginfo info = { 0 };

    if (read(watch->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo == SIGCHLD) {
        reap(server);
        return;
    }
    const bool was_typed = info.ssi_code == SI_KERNEL && info.ssi_signo != SIGTERM;
    if (tree->state == TREE_RUNNING && !was_typed)
        (void)kill(tree->command_pid, (int)info.ssi_signo);
    else if (tree->state == TREE_LINGERING || tree->state == TREE_HOLDING)
        begin_ending(server);
    else if (tree->state == TREE_ENDING && info.ssi_signo != SIGHUP)
        tree_on_deadline(server); /* asked twice: do not wait for the grace */
}

int tree_open(struct server *server, struct error *err)
{
    struct tree *const tree = &server->tree;
    sigset_t set;

    tree->deadline_ms = CLOCK_NEVER_MS;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGQUIT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return error_set(err, -errno, "prctl: %s", strerror(errno));
    tree->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (tree->signal_fd < 0)
        return error_set(err, -errno, "signalfd: %s", strerror(errno));
    tree->signals = (struct watch){ on_signal, tree->signal_fd };
    const int r = server_watch(server, &tree->signals);
    return r < 0 ? error_set(err, r, "epoll: %s", strerror(-r)) : 0;
}

void tree_close(struct server *server)
{
    struct tree *const tree = &server->tree;

    fd_close(&tree->signal_fd);
    for (size_t i = 0; i < tree->holder_count; i++)
        close_holder(server, &tree->holders[i]);
}
