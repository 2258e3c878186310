/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/note.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "daemon/daemon.h"

/* What comes and goes with every lease and request is an event for who follows, not a line in a
 * log: a write for each would cost more than the grant itself. */
static enum log_level level_of(const char *kind)
{
    static const char *const frequent[] = { "granted", "released", "drained", "queued",
                                            "burst_waiting" };

    for (size_t i = 0; i < sizeof(frequent) / sizeof(frequent[0]); i++) {
        if (strcmp(kind, frequent[i]) == 0)
            return LOG_LEVEL_DEBUG;
    }
    if (strcmp(kind, "gpu_lost") == 0 || strcmp(kind, "facts_failed") == 0 ||
        strcmp(kind, "overdraft") == 0)
        return LOG_LEVEL_WARN;
    return LOG_LEVEL_INFO;
}

void note_plain(struct daemon *daemon, const struct event *event)
{
    char name[LOG_ESCAPED_BYTES];
    char text[LOG_ESCAPED_BYTES];

    (void)events_append(daemon->events, event);
    log_write(level_of(event->kind), "event",
              "kind=%s lease=l%" PRIu64 " name=\"%s\" gpu=%d bytes=%" PRIu64 " text=\"%s\"",
              event->kind, event->lease_id, log_escape(event->name ? event->name : "", name),
              event->gpu, event->bytes, log_escape(event->text ? event->text : "", text));
}

void note_holder(struct holder *holder, const char *kind, uint64_t bytes, const char *text)
{
    struct daemon *daemon = holder->daemon;
    struct budget_lease_view view;
    struct event event = {
        .kind = kind, .lease_id = holder->id, .gpu = -1, .bytes = bytes, .text = text
    };

    if (budget_view_lease(daemon->budget, holder->id, &view)) {
        const uint32_t gpu = view.claim->parts[0].gpu;
        event.name = view.claim->name;
        event.gpu = gpu < daemon->gpus.count ? (int)daemon->gpus.table[gpu].index : -1;
    } else {
        event.name = holder->name;
    }
    note_plain(daemon, &event);
}

void note_gpu(struct daemon *daemon, const char *kind, int gpu, uint64_t bytes, const char *text)
{
    const struct event event = { .kind = kind, .gpu = gpu, .bytes = bytes, .text = text };

    note_plain(daemon, &event);
}
