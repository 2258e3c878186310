/* SPDX-License-Identifier: Apache-2.0 */
#ifndef API_EVENTS_H
#define API_EVENTS_H

#include <jansson.h>
#include <stdint.h>

/*
 * Events: what happened, numbered from 1 and never reused, the last EVENTS_RING_COUNT of them in
 * memory for those who follow (docs/internals/api.md lists the kinds). A reader holds a number, not
 * memory: who is slower than the ring loses events, never the daemon its memory. One thread.
 */

#define EVENTS_RING_COUNT 4096
#define EVENT_NAME_BYTES  64
#define EVENT_TEXT_BYTES  1280 /* longer text is cut */

struct event {
    const char *kind;  /* static text, one of docs/internals/api.md */
    uint64_t lease_id; /* 0: none */
    const char *name;  /* may be NULL */
    int gpu;           /* -1: none */
    uint64_t bytes;    /* 0: none */
    const char *text;  /* for a person; may be NULL */
};

struct events;

/* first_number: one more than the last one before this daemon. */
int events_new(uint64_t first_number, struct events **ret_events);
void events_free(struct events *events);

/* Number, time-stamp and publish; returns its number (0 when memory is out: the event is lost). */
uint64_t events_append(struct events *events, const struct event *event);

/* The same for an event of an earlier daemon, before anything else is appended: keeps its number,
 * which must be larger than the last one, and its time. 0, -EINVAL or -ENOMEM. */
int events_restore(struct events *events, uint64_t number, uint64_t at_unix_ms,
                   const struct event *event);

/* Leave count numbers out: they may have been used by a daemon that could not keep them. */
void events_skip(struct events *events, uint64_t count);

/* The number behind which the newest `count` events begin. Numbers that are missing do not count.
 */
uint64_t events_since_newest(const struct events *events, uint64_t count);

/* The static text of a kind that was read from somewhere; "other" for one that is not known. */
const char *events_kind(const char *kind);

/* The numbers that are still here: first .. last; first > last when there is none. Between them a
 * number may be missing (it was restored so). */
uint64_t events_first(const struct events *events);
uint64_t events_last(const struct events *events);

/* The first event with a number > since; its texts last until the next append. -ENOENT: none yet.
 */
struct event_record {
    uint64_t number, at_unix_ms;
    struct event event;
};
int events_find(const struct events *events, uint64_t since, struct event_record *ret_record)
    __attribute__((warn_unused_result));

/* The first event with a number > since as a fresh JSON object, and its number. -ENOENT: none yet;
 * -ENOMEM. */
int events_next(const struct events *events, uint64_t since, uint64_t *ret_number,
                json_t **ret_json) __attribute__((warn_unused_result));

/* Called at the end of every events_append(); it must not append. Two at most (the API and the
 * history); a listener with the same user is replaced, and taken away by a NULL function. */
#define EVENTS_LISTENER_MAX 2
void events_listen(struct events *events, void (*on_append)(void *user), void *user);

#endif
