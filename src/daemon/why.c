/* SPDX-License-Identifier: Apache-2.0 */

/*
 * GET /v1/why/WHAT: why somebody was refused, waits, or holds what they hold.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "daemon/answer.h"
#include "daemon/control.h"
#include "daemon/daemon.h"

#define CANDIDATES_BYTES 256

static const char *kind_name(uint32_t kind)
{
    switch ((enum refusal_kind)kind) {
    case REFUSAL_NONE:
        return "none";
    case REFUSAL_NEVER_FITS:
        return "never_fits";
    case REFUSAL_NO_ROOM:
        return "no_room";
    case REFUSAL_NO_PROGRESS:
        return "no_progress";
    case REFUSAL_BEHIND:
        return "behind";
    case REFUSAL_LOAD_WINDOW:
        return "load_window";
    case REFUSAL_STALE_FACTS:
        return "stale_facts";
    case REFUSAL_OVERCOMMITTED:
        return "overcommitted";
    case REFUSAL_NO_GPU:
        return "no_gpu";
    case REFUSAL_BAD_CLAIM:
        return "bad_claim";
    case REFUSAL_BAD_STATE:
        return "bad_state";
    case REFUSAL_QUEUE_FULL:
        return "queue_full";
    case REFUSAL_CANCELLED:
        return "cancelled";
    }
    return "unknown";
}

static json_t *figures_json(const struct refusal_record *record)
{
    char id[32] = "";

    if (record->id != 0)
        (void)snprintf(id, sizeof(id), "r%" PRIu64, record->id);
    return json_pack(
        "{s:s, s:s, s:o, s:i, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "id", id, "kind",
        kind_name(record->kind), "name", api_text(record->name), "pid", (int)record->pid, "gpu",
        api_text(record->gpu_uuid), "asked_bytes", (json_int_t)record->asked_bytes, "free_bytes",
        (json_int_t)record->free_bytes, "short_bytes", (json_int_t)record->short_bytes,
        "capacity_bytes", (json_int_t)record->capacity_bytes, "reserve_bytes",
        (json_int_t)record->reserve_bytes, "foreign_bytes", (json_int_t)record->foreign_bytes,
        "charged_bytes", (json_int_t)record->charged_bytes, "draining_bytes",
        (json_int_t)record->draining_bytes);
}

static json_t *answer_json(const char *kind, const char *text, json_t *take_refusal,
                           uint64_t at_unix_ms)
{
    return json_pack("{s:s, s:o, s:o, s:I}", "kind", kind, "text", api_text(text), "refusal",
                     take_refusal ? take_refusal : json_null(), "at_unix_ms",
                     (json_int_t)at_unix_ms);
}

static json_t *refused_json(const struct refusal_record *record)
{
    return answer_json("refusal", record->text, figures_json(record), record->at_unix_ms);
}

static json_t *waiting_json(const struct daemon *daemon, const struct holder *holder)
{
    struct refusal refusal;
    char text[MESSAGE_REASON_BYTES];

    budget_explain(daemon->budget, holder->id, clock_now_ms(), &refusal);
    if (refusal.kind == REFUSAL_NONE)
        return answer_json("waiting", "it is next, and will have what it asked for in a moment",
                           NULL, clock_wall_ms());
    const struct refusal_record record = {
        .kind = (uint32_t)refusal.kind,
        .pid = holder->pid,
        .asked_bytes = refusal.asked_bytes,
        .free_bytes = refusal.free_bytes,
        .short_bytes = refusal.short_bytes,
        .capacity_bytes = refusal.capacity_bytes,
        .reserve_bytes = refusal.reserve_bytes,
        .foreign_bytes = refusal.foreign_bytes,
        .charged_bytes = refusal.charged_bytes,
        .draining_bytes = refusal.draining_bytes,
    };
    return answer_json("waiting", reason_text(daemon, &refusal, text, sizeof(text)),
                       figures_json(&record), clock_wall_ms());
}

static json_t *holding_json(const struct daemon *daemon, const struct holder *holder)
{
    struct budget_lease_view view;
    uint64_t charge_bytes = 0;
    uint64_t measured_bytes = 0;
    char charge[SIZE_TEXT_BYTES], measured[SIZE_TEXT_BYTES], resident[SIZE_TEXT_BYTES],
        burst[SIZE_TEXT_BYTES], label[128] = "", text[512];

    if (!budget_view_lease(daemon->budget, holder->id, &view))
        return NULL;
    for (uint32_t i = 0; i < view.claim->part_count; i++) {
        charge_bytes += view.charge_bytes[i];
        measured_bytes += view.measured_bytes[i];
    }
    if (view.claim->parts[0].gpu < daemon->gpus.count)
        (void)gpu_label(&daemon->gpus, view.claim->parts[0].gpu, label, sizeof(label));
    (void)snprintf(text, sizeof(text),
                   "%s (l%" PRIu64 ", pid %d) is %s and holds %s on %s%s: it asked for %s resident "
                   "and %s of burst; the driver shows %s",
                   view.claim->name, holder->id, (int)holder->root_pid,
                   lease_state_name(view.state), size_format(charge_bytes, charge), label,
                   view.claim->part_count > 1 ? " and others" : "",
                   size_format(view.claim->parts[0].resident_bytes, resident),
                   size_format(view.claim->parts[0].burst_bytes, burst),
                   size_format(measured_bytes, measured));
    return answer_json("holding", text, NULL, holder->since_unix_ms);
}

static json_t *lease_json(const struct daemon *daemon, const struct holder *holder)
{
    if (!holder->is_granted || holder->is_burst_waiting)
        return waiting_json(daemon, holder);
    return holding_json(daemon, holder);
}

static const struct refusal_record *find_refusal(const struct daemon *daemon, const char *what)
{
    uint64_t id = 0;
    char rest = 0;

    /* NOLINTNEXTLINE(cert-err34-c): what does not match is a name */
    if (sscanf(what, "r%" SCNu64 "%c", &id, &rest) == 1)
        return refusals_find(&daemon->refusals, id);
    return refusals_find_name(&daemon->refusals, what);
}

/* A few names that would have been found. */
static int not_found(const struct daemon *daemon, const char *what, struct error *err)
{
    char names[CANDIDATES_BYTES] = "";
    size_t used = 0;
    const struct holder *holder = NULL;

    LIST_FOREACH(holder, &daemon->holders.all, entry) {
        const size_t needed = strlen(holder->name) + 2;
        if (used + needed >= sizeof(names))
            break;
        (void)snprintf(names + used, sizeof(names) - used, "%s%s", used > 0 ? ", " : "",
                       holder->name);
        used += used > 0 ? needed : needed - 2;
    }
    if (daemon->refusals.next_id > 1 && used + 48 < sizeof(names))
        (void)snprintf(names + used, sizeof(names) - used, "%sr%" PRIu64 " (the last refusal)",
                       used > 0 ? ", " : "", daemon->refusals.next_id - 1);
    if (names[0] == '\0')
        return error_set(err, -ENOENT,
                         "nothing is known of %.64s: nobody holds or waits, and nobody was refused",
                         what);
    return error_set(err, -ENOENT, "nothing is known of %.64s; there is: %s", what, names);
}

static const struct holder *newest_waiter(const struct daemon *daemon)
{
    const struct holder *holder = NULL, *newest = NULL;

    LIST_FOREACH(holder, &daemon->holders.all, entry) {
        const bool is_waiting = !holder->is_granted || holder->is_burst_waiting;
        if (is_waiting && (!newest || holder->since_unix_ms >= newest->since_unix_ms))
            newest = holder;
    }
    return newest;
}

/* Without a name: what was said last to somebody who did not get what they asked for. */
static json_t *newest_json(const struct daemon *daemon)
{
    const struct holder *const waiter = newest_waiter(daemon);
    const struct refusal_record *const record =
        refusals_find(&daemon->refusals, daemon->refusals.next_id - 1);

    if (record && (!waiter || record->at_unix_ms > waiter->since_unix_ms))
        return refused_json(record);
    if (waiter)
        return lease_json(daemon, waiter);
    return answer_json("unknown", "nobody waits, and nobody was refused", NULL, clock_wall_ms());
}

int control_why(void *user, const struct api_peer *peer, const char *what, json_t **ret_json,
                struct error *err)
{
    struct daemon *daemon = user;
    const struct holder *holder = control_find_holder(daemon, what);
    const struct refusal_record *record = holder ? NULL : find_refusal(daemon, what);

    (void)peer;
    if (*what && !holder && !record)
        return not_found(daemon, what, err);
    if (!*what)
        *ret_json = newest_json(daemon);
    else
        *ret_json = holder ? lease_json(daemon, holder) : refused_json(record);
    return *ret_json ? 0 : error_set(err, -ENOMEM, "out of memory");
}
