/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WATCH_H
#define DAEMON_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uv.h>

/*
 * Watches: processes whose end matters. One pidfd for each process, however many connections and
 * leases depend on it, so that ten thousand of them from one program cost one descriptor.
 *
 * A listener is embedded in whoever waits. It hears of the end once, in the loop, and no longer
 * listens then; it may make others stop listening while it is told.
 */

struct watches;
struct watch;

struct watch_listener {
    LIST_ENTRY(watch_listener) entry;
    struct watch *watch; /* owned share; NULL: listens to nothing */
    void (*on_exit)(struct watch_listener *listener);
};

int watches_new(uv_loop_t *loop, struct watches **ret_watches);
/* Closes what is still watched, without telling anyone; memory goes when the loop has run on. */
void watches_free(struct watches *watches);

/* Listen for the end of a process. start_ticks: 0, or what its start time must be. -ESRCH: there is
 * no such process (any more); -EMFILE and the like: cannot watch it. */
int watch_begin(struct watches *watches, pid_t pid, uint64_t start_ticks,
                struct watch_listener *listener) __attribute__((warn_unused_result));
/* Listen to what another listener listens to. */
void watch_share(const struct watch_listener *other, struct watch_listener *listener);
/* Twice, or without a begin, is fine. */
void watch_end(struct watch_listener *listener);

/* Of a listener that listens. */
pid_t watch_pid(const struct watch_listener *listener);
uint64_t watch_start_ticks(const struct watch_listener *listener);
/* Signal the process, never a successor with its pid. 0 or -errno. */
int watch_signal(const struct watch_listener *listener, int signal_number);

#endif
