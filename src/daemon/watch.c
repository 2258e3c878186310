/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/watch.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"

#define BUCKET_COUNT 1024 /* a power of two */

LIST_HEAD(listener_list, watch_listener);

struct watch {
    uv_poll_t poll; /* first: its close callback frees the watch */
    LIST_ENTRY(watch) bucket;
    struct listener_list listeners;
    pid_t pid;
    uint64_t start_ticks;
    int pidfd; /* owned */
    bool is_closing;
};

struct watches {
    uv_loop_t *loop; /* borrowed */
    LIST_HEAD(watch_bucket, watch) buckets[BUCKET_COUNT];
};

int watches_new(uv_loop_t *loop, struct watches **ret_watches)
{
    struct watches *watches = calloc(1, sizeof(*watches));

    if (!watches)
        return -ENOMEM;
    watches->loop = loop;
    *ret_watches = watches;
    return 0;
}

static void on_watch_closed(uv_handle_t *handle)
{
    free(handle);
}

static void watch_close(struct watch *watch)
{
    if (watch->is_closing)
        return;
    watch->is_closing = true;
    LIST_REMOVE(watch, bucket);
    uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
    fd_close(&watch->pidfd);
}

static void watch_forsake(struct watch *watch)
{
    struct watch_listener *listener = NULL;

    while ((listener = LIST_FIRST(&watch->listeners))) {
        LIST_REMOVE(listener, entry);
        listener->watch = NULL;
    }
    watch_close(watch);
}

void watches_free(struct watches *watches)
{
    if (!watches)
        return;
    for (size_t i = 0; i < BUCKET_COUNT; i++) {
        struct watch *watch = NULL;
        while ((watch = LIST_FIRST(&watches->buckets[i])))
            watch_forsake(watch);
    }
    free(watches);
}

/* Each listener leaves the list before it is told, so that it may do as it likes. The last one to
 * leave closes the watch; new ones cannot come: the process is gone. */
static void on_pidfd(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = (struct watch *)poll;
    struct watch_listener *listener = NULL;

    (void)status;
    (void)events;
    watch_close(watch);
    while ((listener = LIST_FIRST(&watch->listeners))) {
        LIST_REMOVE(listener, entry);
        listener->watch = NULL;
        listener->on_exit(listener);
    }
}

static int watch_open(struct watches *watches, pid_t pid, uint64_t start_ticks,
                      struct watch **ret_watch)
{
    struct process_info info = { 0 };
    OWNED(fd_close) int pidfd = -1;
    struct watch *watch = NULL;
    int r = 0;

    pidfd = process_open(pid, start_ticks);
    if (pidfd < 0)
        return pidfd;
    r = process_read(pid, &info);
    if (r < 0)
        return r;
    if (info.state == 'Z' || info.state == 'X')
        return -ESRCH;
    watch = calloc(1, sizeof(*watch));
    if (!watch)
        return -ENOMEM;
    r = uv_poll_init(watches->loop, &watch->poll, pidfd);
    if (r < 0) {
        free(watch);
        return r;
    }
    watch->pid = pid;
    watch->start_ticks = info.start_ticks;
    watch->pidfd = fd_take(&pidfd);
    LIST_INIT(&watch->listeners);
    LIST_INSERT_HEAD(&watches->buckets[(size_t)pid % BUCKET_COUNT], watch, bucket);
    r = uv_poll_start(&watch->poll, UV_READABLE, on_pidfd);
    if (r < 0) {
        watch_close(watch);
        return r;
    }
    *ret_watch = watch;
    return 0;
}

/* A watch in the table is of a process that has not been seen to end: if it has ended by now, its
 * pidfd says so in this very turn of the loop. */
static struct watch *find(struct watches *watches, pid_t pid, uint64_t start_ticks)
{
    struct watch *watch = NULL;

    LIST_FOREACH(watch, &watches->buckets[(size_t)pid % BUCKET_COUNT], bucket) {
        if (watch->pid == pid && (start_ticks == 0 || watch->start_ticks == start_ticks))
            return watch;
    }
    return NULL;
}

int watch_begin(struct watches *watches, pid_t pid, uint64_t start_ticks,
                struct watch_listener *listener)
{
    struct watch *watch = NULL;

    if (pid <= 0)
        return -ESRCH;
    watch = find(watches, pid, start_ticks);
    if (!watch) {
        const int r = watch_open(watches, pid, start_ticks, &watch);
        if (r < 0)
            return r;
    }
    listener->watch = watch;
    LIST_INSERT_HEAD(&watch->listeners, listener, entry);
    return 0;
}

void watch_share(const struct watch_listener *other, struct watch_listener *listener)
{
    listener->watch = other->watch;
    if (listener->watch)
        LIST_INSERT_HEAD(&listener->watch->listeners, listener, entry);
}

void watch_end(struct watch_listener *listener)
{
    struct watch *watch = listener->watch;

    if (!watch)
        return;
    LIST_REMOVE(listener, entry);
    listener->watch = NULL;
    if (LIST_EMPTY(&watch->listeners))
        watch_close(watch);
}

pid_t watch_pid(const struct watch_listener *listener)
{
    return listener->watch->pid;
}

uint64_t watch_start_ticks(const struct watch_listener *listener)
{
    return listener->watch->start_ticks;
}

int watch_signal(const struct watch_listener *listener, int signal_number)
{
    return process_signal(listener->watch->pidfd, signal_number);
}
