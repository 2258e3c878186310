/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/steps.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "daemon/daemon.h"

#define WORDS_BYTES 256

static bool is_followed(const struct daemon *daemon)
{
    return daemon->api && api_has_step_followers(daemon->api);
}

static void append(struct daemon *daemon, const struct event *event)
{
    (void)events_append(daemon->steps, event);
}

/* As a trace writes it; over several gpus there is no word for it, and who reads it leaves it out.
 */
static void write_words(const struct daemon *daemon, const struct claim *claim, uint64_t wait_ms,
                        char words[WORDS_BYTES])
{
    static const char *const priorities[] = { "background", "normal", "interactive" };
    const struct claim_part *part = &claim->parts[0];
    size_t used = (size_t)snprintf(words, WORDS_BYTES,
                                   "resident=%" PRIu64 "B burst=%" PRIu64 "B load_peak=%" PRIu64
                                   "B priority=%s",
                                   part->resident_bytes, part->burst_bytes, part->load_peak_bytes,
                                   priorities[claim->priority]);

    for (uint32_t i = 0; i < claim->part_count && used < WORDS_BYTES; i++)
        if (claim->parts[i].gpu < daemon->gpus.count)
            used += (size_t)snprintf(words + used, WORDS_BYTES - used, "%s%" PRIu32,
                                     i == 0 ? " gpu=" : ",", claim->parts[i].gpu);
    if (used < WORDS_BYTES)
        used += (size_t)snprintf(
            words + used, WORDS_BYTES - used, "%s%s%s", claim->is_pinned ? " pin" : "",
            claim->is_load_alone ? " alone" : "", claim->is_always_busy ? " always-busy" : "");
    if (used >= WORDS_BYTES)
        return;
    if (wait_ms == CLOCK_NEVER_MS)
        (void)snprintf(words + used, WORDS_BYTES - used, " wait=never");
    else
        (void)snprintf(words + used, WORDS_BYTES - used, " wait=%" PRIu64 "ms", wait_ms);
}

void step_asked(struct daemon *daemon, uint64_t lease_id, const struct claim *claim,
                uint64_t wait_ms)
{
    char words[WORDS_BYTES];
    const struct event event = {
        .kind = "asked", .lease_id = lease_id, .name = claim->name, .gpu = -1, .text = words
    };

    if (!is_followed(daemon))
        return;
    write_words(daemon, claim, wait_ms, words);
    append(daemon, &event);
}

void step_lease(struct daemon *daemon, const char *kind, uint64_t lease_id, uint64_t bytes)
{
    const struct event event = { .kind = kind, .lease_id = lease_id, .gpu = -1, .bytes = bytes };

    if (is_followed(daemon))
        append(daemon, &event);
}

static void append_foreign(struct daemon *daemon, uint32_t number, uint64_t bytes)
{
    const struct event event = { .kind = "foreign", .gpu = (int)number, .bytes = bytes };

    daemon->gpus.table[number].stepped_foreign_bytes = bytes;
    append(daemon, &event);
}

void step_foreign(struct daemon *daemon, uint32_t number)
{
    struct budget_gpu_view view;

    if (!is_followed(daemon))
        return;
    budget_view_gpu(daemon->budget, number, &view);
    if (view.foreign_bytes != daemon->gpus.table[number].stepped_foreign_bytes)
        append_foreign(daemon, number, view.foreign_bytes);
}

static void append_gpu(struct daemon *daemon, uint32_t number)
{
    struct budget_gpu_view view;
    char words[WORDS_BYTES];
    struct event event = { .kind = "gpu", .gpu = (int)number, .text = words };

    budget_view_gpu(daemon->budget, number, &view);
    event.bytes = view.capacity_bytes;
    (void)snprintf(words, sizeof(words), "reserve=%" PRIu64 "B", view.reserve_bytes);
    append(daemon, &event);
}

static void append_lease(struct daemon *daemon, uint64_t lease_id)
{
    struct budget_lease_view view;

    if (!budget_view_lease(daemon->budget, lease_id, &view) || view.state == LEASE_STATE_DRAINING)
        return;
    step_asked(daemon, lease_id, view.claim, CLOCK_NEVER_MS);
    if (view.state == LEASE_STATE_QUEUED)
        return;
    step_lease(daemon, "granted", lease_id, 0);
    if (view.state == LEASE_STATE_LOADING)
        return;
    step_lease(daemon, "ready", lease_id, 0);
    if (view.is_burst_waiting)
        step_lease(daemon, "burst_asked", lease_id, 0);
    else if (view.state == LEASE_STATE_BUSY && !view.claim->is_always_busy)
        step_lease(daemon, "burst", lease_id, view.burst_taken_bytes);
}

void steps_begin(struct daemon *daemon)
{
    uint64_t lease_id = 0;

    for (uint32_t i = 0; i < daemon->gpus.count; i++)
        append_gpu(daemon, i);
    for (uint32_t i = 0; i < daemon->gpus.count; i++) {
        struct budget_gpu_view view;

        budget_view_gpu(daemon->budget, i, &view);
        append_foreign(daemon, i, view.foreign_bytes);
    }
    while ((lease_id = budget_next_lease(daemon->budget, lease_id)) != 0)
        append_lease(daemon, lease_id);
}
