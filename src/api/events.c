/* SPDX-License-Identifier: Apache-2.0 */

#include "api/events.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/cleanup.h"
#include "base/clock.h"

/*
 * A slot is number modulo the ring's size, so that a number finds its event at once. A slot whose
 * number is another one is empty as far as that number goes.
 */

struct event_slot {
    uint64_t number; /* 0: empty */
    uint64_t at_unix_ms;
    const char *kind;
    uint64_t lease_id;
    int gpu;
    uint64_t bytes;
    bool has_name;
    char name[EVENT_NAME_BYTES];
    char *text; /* owned; may be NULL */
};

struct events {
    uint64_t first_number; /* the oldest that may be here */
    uint64_t next_number;
    struct {
        void (*on_append)(void *user);
        void *user; /* borrowed */
    } listeners[EVENTS_LISTENER_MAX];
    struct event_slot slots[EVENTS_RING_COUNT];
};

int events_new(uint64_t first_number, struct events **ret_events)
{
    struct events *const events = calloc(1, sizeof(*events));

    if (!events)
        return -ENOMEM;
    events->first_number = first_number > 0 ? first_number : 1;
    events->next_number = events->first_number;
    *ret_events = events;
    return 0;
}

void events_free(struct events *events)
{
    if (!events)
        return;
    for (size_t i = 0; i < EVENTS_RING_COUNT; i++)
        free(events->slots[i].text);
    free(events);
}

static int put(struct events *events, uint64_t number, uint64_t at_unix_ms,
               const struct event *event)
{
    struct event_slot *const slot = &events->slots[number % EVENTS_RING_COUNT];
    char *text = NULL;

    if (event->text) {
        text = strndup(event->text, EVENT_TEXT_BYTES - 1);
        if (!text)
            return -ENOMEM;
    }
    free(slot->text);
    *slot = (struct event_slot){
        .number = number,
        .at_unix_ms = at_unix_ms,
        .kind = event->kind,
        .lease_id = event->lease_id,
        .gpu = event->gpu,
        .bytes = event->bytes,
        .has_name = event->name,
        .text = text,
    };
    if (event->name)
        (void)snprintf(slot->name, sizeof(slot->name), "%s", event->name);
    events->next_number = number + 1;
    if (events->next_number - events->first_number > EVENTS_RING_COUNT)
        events->first_number = events->next_number - EVENTS_RING_COUNT;
    return 0;
}

uint64_t events_append(struct events *events, const struct event *event)
{
    const uint64_t number = events->next_number;

    if (put(events, number, clock_wall_ms(), event) < 0)
        return 0;
    for (size_t i = 0; i < EVENTS_LISTENER_MAX; i++) {
        if (events->listeners[i].on_append)
            events->listeners[i].on_append(events->listeners[i].user);
    }
    return number;
}

int events_restore(struct events *events, uint64_t number, uint64_t at_unix_ms,
                   const struct event *event)
{
    if (number < events->next_number)
        return -EINVAL;
    if (events->first_number == events->next_number)
        events->first_number = number;
    return put(events, number, at_unix_ms, event);
}

uint64_t events_first(const struct events *events)
{
    return events->first_number;
}

uint64_t events_last(const struct events *events)
{
    return events->next_number - 1;
}

void events_skip(struct events *events, uint64_t count)
{
    events->next_number += count;
    if (events->next_number - events->first_number > EVENTS_RING_COUNT)
        events->first_number = events->next_number - EVENTS_RING_COUNT;
}

uint64_t events_since_newest(const struct events *events, uint64_t count)
{
    uint64_t number = events->next_number - 1;

    for (; number >= events->first_number && count > 0; number--)
        count -= events->slots[number % EVENTS_RING_COUNT].number == number;
    return number;
}

const char *events_kind(const char *kind)
{
    static const char *const kinds[] = {
        "granted",       "queued",     "refused",      "released",       "drained",
        "burst_waiting", "overdraft",  "foreign_grew", "foreign_shrank", "asked_trim",
        "asked_stop",    "lost",       "restored",     "gpu_lost",       "daemon_started",
        "facts_failed",  "facts_back", "noted",
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i], kind) == 0)
            return kinds[i];
    }
    return "other";
}

int events_find(const struct events *events, uint64_t since, struct event_record *ret_record)
{
    uint64_t number = since < UINT64_MAX ? since + 1 : since;

    if (number < events->first_number)
        number = events->first_number;
    for (; number < events->next_number; number++) {
        const struct event_slot *const slot = &events->slots[number % EVENTS_RING_COUNT];
        if (slot->number != number)
            continue;
        *ret_record = (struct event_record){
            .number = number,
            .at_unix_ms = slot->at_unix_ms,
            .event = { .kind = slot->kind,
                       .lease_id = slot->lease_id,
                       .name = slot->has_name ? slot->name : NULL,
                       .gpu = slot->gpu,
                       .bytes = slot->bytes,
                       .text = slot->text },
        };
        return 0;
    }
    return -ENOENT;
}

int events_next(const struct events *events, uint64_t since, uint64_t *ret_number,
                json_t **ret_json)
{
    struct event_record record;
    char lease[24] = "";

    if (events_find(events, since, &record) < 0)
        return -ENOENT;
    const struct event *const event = &record.event;
    if (event->lease_id > 0)
        (void)snprintf(lease, sizeof(lease), "l%" PRIu64, event->lease_id);
    json_t *const json =
        json_pack("{sI sI ss so so so so so}", "n", (json_int_t)record.number, "at_unix_ms",
                  (json_int_t)record.at_unix_ms, "kind", event->kind, "lease",
                  api_text(*lease ? lease : NULL), "name", api_text(event->name), "gpu",
                  event->gpu >= 0 ? json_integer(event->gpu) : json_null(), "bytes",
                  event->bytes > 0 ? json_integer((json_int_t)event->bytes) : json_null(), "text",
                  api_text(event->text));
    if (!json)
        return -ENOMEM;
    *ret_number = record.number;
    *ret_json = json;
    return 0;
}

void events_listen(struct events *events, void (*on_append)(void *user), void *user)
{
    size_t chosen = EVENTS_LISTENER_MAX;

    for (size_t i = EVENTS_LISTENER_MAX; i-- > 0;) {
        if (!events->listeners[i].on_append)
            chosen = i;
    }
    for (size_t i = 0; i < EVENTS_LISTENER_MAX; i++) {
        if (events->listeners[i].on_append && events->listeners[i].user == user)
            chosen = i;
    }
    if (chosen == EVENTS_LISTENER_MAX)
        return;
    events->listeners[chosen].on_append = on_append;
    events->listeners[chosen].user = user;
}
