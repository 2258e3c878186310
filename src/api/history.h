/* SPDX-License-Identifier: Apache-2.0 */
#ifndef API_HISTORY_H
#define API_HISTORY_H

#include <uv.h>

#include "api/events.h"
#include "base/error.h"

/*
 * History: the ring of events kept on the disk. At the start the newest are put back into the ring,
 * so that numbers go on; from then on what is appended is written behind, once a second, by the
 * loop's thread pool. A second's events may be lost with the machine or a killed daemon; numbers
 * are not used twice all the same, because after such an end they go on further up.
 */

struct history;

/* events: borrowed, nothing appended yet. on_failed (may be NULL) is called in the loop when a
 * write fails, the first time and whenever one fails after one that did not; on_recovered (may be
 * NULL) when one is written again after that. What could not be written is tried again every
 * second, as long as it is among the events that are kept in memory. */
struct history_listener {
    void (*on_failed)(void *user, const struct error *err);
    void (*on_recovered)(void *user);
    void *user; /* borrowed */
};
int history_open(uv_loop_t *loop, const char *path, struct events *events,
                 const struct history_listener *listener, struct history **ret_history,
                 struct error *err) __attribute__((warn_unused_result));

/* Writes what is left; on_closed (may be NULL) runs in the loop when all handles are gone. NULL
 * history: on_closed is not called. */
void history_close(struct history *history, void (*on_closed)(void *user), void *user);

#endif
