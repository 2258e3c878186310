/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/steps.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/size.h"
#include "daemon/daemon.h"

struct words {
    char *at;
    size_t left_bytes; /* with the NUL */
};

__attribute__((format(printf, 2, 3))) static void words_add(struct words *words, const char *format,
                                                            ...)
{
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(words->at, words->left_bytes, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= words->left_bytes)
        length = (int)words->left_bytes - 1; /* cut off: it has fewer words than that */
    words->at += length;
    words->left_bytes -= (size_t)length;
}

static bool is_followed(const struct daemon *daemon)
{
    return daemon->api && api_has_step_followers(daemon->api);
}

static void append(struct daemon *daemon, const struct event *event)
{
    (void)events_append(daemon->steps, event);
}

/* What a trace takes for granted is left out. Over several gpus it has no word for, and who reads
 * this leaves the lease out. */
static const char *claim_words(const struct claim *claim, uint64_t wait_ms,
                               char words[STEP_WORDS_BYTES])
{
    static const char *const priorities[] = { "background", "normal", "interactive" };
    const struct claim_part *part = &claim->parts[0];
    char size[SIZE_TEXT_BYTES];
    struct words out = { .at = words, .left_bytes = STEP_WORDS_BYTES };

    words_add(&out, "resident=%s", size_format_exact(part->resident_bytes, size));
    if (part->burst_bytes > 0)
        words_add(&out, " burst=%s", size_format_exact(part->burst_bytes, size));
    if (part->load_peak_bytes > part->resident_bytes)
        words_add(&out, " load_peak=%s", size_format_exact(part->load_peak_bytes, size));
    for (uint32_t i = 0; i < claim->part_count && claim->parts[i].gpu != CLAIM_GPU_ANY; i++)
        words_add(&out, "%s%" PRIu32, i == 0 ? " gpu=" : ",", claim->parts[i].gpu);
    if (claim->priority != CLAIM_PRIORITY_NORMAL)
        words_add(&out, " priority=%s", priorities[claim->priority]);
    words_add(&out, "%s%s%s", claim->is_pinned ? " pin" : "", claim->is_load_alone ? " alone" : "",
              claim->is_always_busy ? " always-busy" : "");
    if (wait_ms == CLOCK_NEVER_MS)
        words_add(&out, " wait=never");
    else if (wait_ms % 1000 == 0)
        words_add(&out, " wait=%" PRIu64 "s", wait_ms / 1000);
    else
        words_add(&out, " wait=%" PRIu64 "ms", wait_ms);
    return words;
}

/* As it was asked: which gpu it was given is not of the claim. */
const char *step_words(const struct holder *holder, char words[STEP_WORDS_BYTES])
{
    struct budget_lease_view view;
    struct claim claim;

    words[0] = '\0';
    if (!budget_view_lease(holder->daemon->budget, holder->id, &view))
        return words;
    claim = *view.claim;
    if (holder->is_anywhere)
        claim.parts[0].gpu = CLAIM_GPU_ANY;
    return claim_words(&claim, holder->habits.wait_ms, words);
}

void step_asked(struct daemon *daemon, uint64_t lease_id, const struct claim *claim,
                uint64_t wait_ms)
{
    char words[STEP_WORDS_BYTES];
    const struct event event = {
        .kind = "asked", .lease_id = lease_id, .name = claim->name, .gpu = -1, .text = words
    };

    if (!is_followed(daemon))
        return;
    (void)claim_words(claim, wait_ms, words);
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
    char words[STEP_WORDS_BYTES];
    struct event event = { .kind = "gpu", .gpu = (int)number, .text = words };

    budget_view_gpu(daemon->budget, number, &view);
    event.bytes = view.capacity_bytes;
    (void)snprintf(words, sizeof(words), "reserve=%" PRIu64 "B", view.reserve_bytes);
    append(daemon, &event);
}

static void append_lease(struct daemon *daemon, uint64_t lease_id)
{
    const struct holder *holder = holder_find(&daemon->holders, lease_id);
    struct budget_lease_view view;
    char words[STEP_WORDS_BYTES];
    struct event asked = { .kind = "asked", .lease_id = lease_id, .gpu = -1, .text = words };

    if (!holder || !budget_view_lease(daemon->budget, lease_id, &view) ||
        view.state == LEASE_STATE_DRAINING)
        return;
    asked.name = view.claim->name;
    (void)step_words(holder, words);
    append(daemon, &asked);
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
