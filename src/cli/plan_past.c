/* SPDX-License-Identifier: Apache-2.0 */

/*
 * brim plan --record FILE --past: the events that the daemon has kept, as steps. A lease's claim is
 * told with its grant, what it did with its end, on average; of one that was never granted only the
 * bytes it asked for are known.
 */

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/api_client.h"
#include "cli/plan.h"
#include "cli/ps_view.h"
#include "sim/recording.h"

#define WORDS_BYTES 512

struct past {
    int (*take)(void *user, const struct sim_step *step);
    void *user;      /* borrowed */
    json_t *events;  /* owned: an array */
    json_t *granted; /* owned: lease -> the words of its claim */
    json_t *asked;   /* owned: leases that have asked, and not ended */
    json_t *gpus;    /* owned: of the status */
};

static int on_event(void *user, json_t *event)
{
    struct past *past = user;
    const char *lease = ps_text(event, "lease");

    if (strcmp(ps_text(event, "kind"), "granted") == 0 && *lease &&
        json_object_set(past->granted, lease, json_object_get(event, "text")) < 0)
        return -ENOMEM;
    return json_array_append(past->events, event) < 0 ? -ENOMEM : 0;
}

static int tell(const struct past *past, const json_t *event, const char *kind, const char *words)
{
    const char *lease = ps_text(event, "lease");
    const struct sim_step step = {
        .kind = kind,
        .at_ms = ps_number(event, "at_unix_ms"),
        .lease_id = *lease == 'l' ? strtoull(lease + 1, NULL, 10) : 0,
        .name = ps_text(event, "name"),
        .words = words,
    };

    return past->take(past->user, &step);
}

/* Once for each lease. */
static int tell_asked(const struct past *past, const json_t *event)
{
    const char *lease = ps_text(event, "lease");
    const char *known = json_string_value(json_object_get(past->granted, lease));
    char words[WORDS_BYTES];

    if (*lease && json_object_get(past->asked, lease))
        return 0;
    if (*lease && json_object_set_new(past->asked, lease, json_true()) < 0)
        return -ENOMEM;
    (void)snprintf(words, sizeof(words), "resident=%" PRIu64 "B wait=never",
                   ps_number(event, "bytes"));
    return tell(past, event, "asked", known ? known : words);
}

/* "its process has ended; load=1200ms busy=800ms idle=8000ms" */
static int tell_released(const struct past *past, const json_t *event)
{
    const char *habits = strstr(ps_text(event, "text"), "; load=");
    const char *lease = ps_text(event, "lease");

    (void)json_object_del(past->asked, lease);
    return tell(past, event, "released", habits ? habits + 2 : NULL);
}

/* People know a gpu by the driver's number, a trace by its place. */
static int tell_foreign(const struct past *past, const json_t *event)
{
    struct sim_step step = { .kind = "foreign",
                             .at_ms = ps_number(event, "at_unix_ms"),
                             .bytes = ps_number(event, "bytes") };

    for (size_t i = 0; i < json_array_size(past->gpus); i++) {
        step.gpu = (uint32_t)i;
        if (ps_number(json_array_get(past->gpus, i), "index") == ps_number(event, "gpu"))
            return past->take(past->user, &step);
    }
    return 0;
}

static int tell_event(const struct past *past, const json_t *event)
{
    const char *kind = ps_text(event, "kind"), *lease = ps_text(event, "lease");
    const bool was_granted = json_object_get(past->granted, lease) != NULL;
    int r = 0;

    if (strncmp(kind, "foreign_", 8) == 0)
        return tell_foreign(past, event);
    if (strcmp(kind, "released") == 0)
        return tell_released(past, event);
    if (strcmp(kind, "refused") == 0 && was_granted)
        return 0; /* a burst, or a change of its size */
    if (strcmp(kind, "granted") != 0 && strcmp(kind, "queued") != 0 && strcmp(kind, "refused") != 0)
        return 0;
    r = tell_asked(past, event);
    if (r < 0 || strcmp(kind, "queued") == 0)
        return r;
    return tell(past, event, kind, strcmp(kind, "refused") == 0 ? "waited" : NULL);
}

static int tell_all(const struct past *past)
{
    const json_t *first = json_array_get(past->events, 0);
    char words[WORDS_BYTES];
    int r = 0;

    for (size_t i = 0; i < json_array_size(past->gpus) && r == 0; i++) {
        const json_t *gpu = json_array_get(past->gpus, i);
        const struct sim_step step = { .kind = "gpu",
                                       .at_ms = ps_number(first, "at_unix_ms"),
                                       .words = words,
                                       .gpu = (uint32_t)i,
                                       .bytes = ps_number(gpu, "capacity_bytes") };

        (void)snprintf(words, sizeof(words), "reserve=%" PRIu64 "B",
                       ps_number(gpu, "reserve_bytes"));
        r = past->take(past->user, &step);
    }
    for (size_t i = 0; i < json_array_size(past->events) && r == 0; i++)
        r = tell_event(past, json_array_get(past->events, i));
    return r;
}

int plan_past(int (*take)(void *user, const struct sim_step *step), void *user, struct error *err)
{
    struct past past = { .take = take,
                         .user = user,
                         .events = json_array(),
                         .granted = json_object(),
                         .asked = json_object() };
    json_t *status = NULL;
    int r = past.events && past.granted && past.asked ? 0 : error_set(err, -ENOMEM, "no memory");

    if (r == 0)
        r = api_get("/v1/status", &status, err);
    if (r == 0) {
        past.gpus = json_incref(json_object_get(status, "gpus"));
        r = api_follow("/v1/events?since=0", on_event, &past, err);
    }
    if (r == 0 && tell_all(&past) < 0)
        r = error_set(err, -EPROTO, "the kept events make no sense, or memory is out");
    json_decref(status);
    json_decref(past.gpus);
    json_decref(past.asked);
    json_decref(past.granted);
    json_decref(past.events);
    return r;
}
