/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Orders that wait for their time: those of --at from the command's start on, and those that the
 * orders `at` and `every` make while it runs.
 */

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "server.h"

void schedule_start(struct server *server, uint64_t now_ms)
{
    struct options *const options = &server->options;

    for (size_t i = 0; i < options->timed_count; i++)
        options->timed[i].due_ms = clock_after_ms(now_ms, options->timed[i].due_ms);
    options->is_timing = true;
    schedule_settle(server, now_ms);
}

/* One that is done makes room. */
static struct timed *find_room(struct options *options)
{
    for (size_t i = 0; i < options->timed_count; i++) {
        if (options->timed[i].is_done)
            return &options->timed[i];
    }
    return options->timed_count < TIMED_MAX ? &options->timed[options->timed_count++] : NULL;
}

int schedule_add(struct server *server, uint64_t due_ms, uint64_t period_ms, const char *order,
                 struct error *err)
{
    struct timed *const timed = find_room(&server->options);

    if (!timed)
        return error_set(err, -ENOSPC, "at most %d orders can wait; `clear` ends those of `every`",
                         TIMED_MAX);
    *timed = (struct timed){ .due_ms = due_ms, .period_ms = period_ms };
    (void)snprintf(timed->own, sizeof(timed->own), "%s", order);
    timed->order = timed->own;
    return 0;
}

void schedule_clear(struct server *server)
{
    struct options *const options = &server->options;

    for (size_t i = 0; i < options->timed_count; i++) {
        if (options->timed[i].period_ms > 0)
            options->timed[i].is_done = true;
    }
}

uint64_t schedule_due_ms(const struct server *server)
{
    const struct options *const options = &server->options;
    uint64_t due_ms = CLOCK_NEVER_MS;

    for (size_t i = 0; i < options->timed_count && options->is_timing; i++) {
        if (!options->timed[i].is_done && options->timed[i].due_ms < due_ms)
            due_ms = options->timed[i].due_ms;
    }
    return due_ms;
}

/* An order that recurs is due again a period later, however late it was. */
void schedule_settle(struct server *server, uint64_t now_ms)
{
    struct options *const options = &server->options;

    for (size_t i = 0; i < options->timed_count && options->is_timing; i++) {
        struct timed *const timed = &options->timed[i];
        char order[EMU_TEXT_BYTES];
        struct error err = { 0 };
        if (timed->is_done || timed->due_ms > now_ms)
            continue;
        (void)snprintf(order, sizeof(order), "%s", timed->order);
        timed->is_done = timed->period_ms == 0;
        timed->due_ms = clock_after_ms(now_ms, timed->period_ms);
        if (script_obey(server, order, &err) < 0)
            fprintf(stderr, "brim emulate: %s: %s\n", order, err.message);
    }
}
