/* SPDX-License-Identifier: Apache-2.0 */

/*
 * GET /v1/status: everything that `brim ps` shows. See docs/internals/api.md for the members.
 */

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/control.h"
#include "daemon/daemon.h"

#define LINE_BYTES 256

static json_int_t number(uint64_t value)
{
    return value < INT64_MAX ? (json_int_t)value : INT64_MAX;
}

static json_t *text_or_null(const char *text)
{
    return text[0] != '\0' ? api_text(text) : json_null();
}

static json_t *foreign_json(const struct gpu *gpu)
{
    json_t *list = json_array();

    for (size_t i = 0; i < gpu->foreign_count; i++) {
        const struct foreign_process *process = &gpu->foreign[i];
        (void)json_array_append_new(list, json_pack("{s:i, s:o, s:I}", "pid", (int)process->pid,
                                                    "name", api_text(process->name), "bytes",
                                                    number(process->bytes)));
    }
    return list;
}

static json_t *gpu_json(const struct daemon *daemon, uint32_t index)
{
    const struct gpu *gpu = &daemon->gpus.table[index];
    const uint64_t age_ms = sampler_facts_age_ms(daemon);
    struct budget_gpu_view view;

    budget_view_gpu(daemon->budget, index, &view);
    return json_pack(
        "{s:i, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:b, s:b, s:o, s:b, s:o}",
        "index", (int)gpu->index, "uuid", api_text(gpu->uuid), "name", api_text(gpu->name),
        "capacity_bytes", number(view.capacity_bytes), "used_bytes", number(gpu->used_bytes),
        "reserve_bytes", number(view.reserve_bytes), "charged_bytes", number(view.charged_bytes),
        "draining_bytes", number(view.draining_bytes), "foreign_bytes", number(view.foreign_bytes),
        "free_bytes", number(view.free_bytes), "largest_burst_bytes",
        number(view.largest_burst_bytes), "facts_age_ms",
        age_ms == UINT64_MAX ? json_null() : json_integer(number(age_ms)), "has_process_bytes",
        (int)gpu->has_process_bytes, "managed_by_us", (int)view.is_managed, "managed_by",
        text_or_null(gpu->managed_by), "lost", (int)gpu->is_lost, "foreign", foreign_json(gpu));
}

static json_t *gpus_json(const struct daemon *daemon)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < daemon->gpus.count; i++)
        (void)json_array_append_new(list, gpu_json(daemon, i));
    return list;
}

static const char *priority_name(enum claim_priority priority)
{
    switch (priority) {
    case CLAIM_PRIORITY_BACKGROUND:
        return "background";
    case CLAIM_PRIORITY_INTERACTIVE:
        return "interactive";
    case CLAIM_PRIORITY_NORMAL:
        break;
    }
    return "normal";
}

static json_t *waiting_json(const struct daemon *daemon, const struct holder *holder)
{
    struct refusal refusal;
    char line[LINE_BYTES];

    if (holder->is_granted && !holder->is_burst_waiting)
        return json_null();
    budget_explain(daemon->budget, holder->id, clock_now_ms(), &refusal);
    if (refusal.kind == REFUSAL_NONE)
        return json_null();
    return api_text(refusal_line(&refusal, line, sizeof(line)));
}

static json_t *lease_gpus_json(const struct daemon *daemon, const struct budget_lease_view *view)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < view->claim->part_count; i++) {
        const uint32_t gpu = view->claim->parts[i].gpu;
        if (gpu < daemon->gpus.count)
            (void)json_array_append_new(list, json_integer(daemon->gpus.table[gpu].index));
    }
    return list;
}

struct sums {
    uint64_t charge_bytes, measured_bytes, overdraft_bytes;
};

/* Overdraft is what is measured beyond what the state claims; a charge is the larger of both. */
static struct sums sum_parts(const struct budget_lease_view *view)
{
    struct sums sums = { 0 };

    for (uint32_t i = 0; i < view->claim->part_count; i++) {
        const struct claim_part *part = &view->claim->parts[i];
        uint64_t claimed_bytes = part->resident_bytes;
        if (view->state == LEASE_STATE_LOADING && part->load_peak_bytes > claimed_bytes)
            claimed_bytes = part->load_peak_bytes;
        if (view->state == LEASE_STATE_BUSY)
            claimed_bytes +=
                view->claim->is_always_busy ? part->burst_bytes : view->burst_taken_bytes;
        sums.charge_bytes += view->charge_bytes[i];
        sums.measured_bytes += view->measured_bytes[i];
        if (view->measured_bytes[i] > claimed_bytes && view->state != LEASE_STATE_DRAINING)
            sums.overdraft_bytes += view->measured_bytes[i] - claimed_bytes;
    }
    return sums;
}

static json_t *lease_json(const struct daemon *daemon, const struct holder *holder)
{
    struct budget_lease_view view;
    struct sums sums;
    char id[32];

    if (!budget_view_lease(daemon->budget, holder->id, &view))
        return NULL;
    sums = sum_parts(&view);
    (void)snprintf(id, sizeof(id), "l%llu", (unsigned long long)holder->id);
    return json_pack(
        "{s:s, s:o, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:b, s:b, s:I, s:o}",
        "id", id, "name", api_text(view.claim->name), "state", lease_state_name(view.state),
        "priority", priority_name(view.claim->priority), "gpus", lease_gpus_json(daemon, &view),
        "resident_bytes", number(view.claim->parts[0].resident_bytes), "burst_bytes",
        number(view.claim->parts[0].burst_bytes), "load_peak_bytes",
        number(view.claim->parts[0].load_peak_bytes), "charge_bytes", number(sums.charge_bytes),
        "measured_bytes", number(sums.measured_bytes), "overdraft_bytes",
        number(sums.overdraft_bytes), "pid", (int)holder->root_pid, "uid", (int)holder->uid,
        "connected", (int)(holder->session != NULL), "held_by_process", (int)holder->is_held_by_pid,
        "since_unix_ms", number(holder->since_unix_ms), "waiting_for",
        waiting_json(daemon, holder));
}

/* In the order of their ids, which is that of their coming. */
static json_t *leases_json(const struct daemon *daemon)
{
    json_t *list = json_array();

    for (uint64_t id = budget_next_lease(daemon->budget, 0); id != 0;
         id = budget_next_lease(daemon->budget, id)) {
        const struct holder *holder = holder_find(&daemon->holders, id);
        if (holder)
            (void)json_array_append_new(list, lease_json(daemon, holder));
    }
    return list;
}

int control_status(void *user, const struct api_peer *peer, json_t **ret_json, struct error *err)
{
    const struct daemon *daemon = user;
    json_t *about = json_pack("{s:i, s:s, s:I, s:o, s:o}", "pid", (int)getpid(), "scope",
                              scope_name(daemon->options.scope), "started_unix_ms",
                              number(daemon->started_unix_ms), "runtime_dir",
                              api_text(daemon->place.runtime_dir), "state_dir",
                              api_text(daemon->place.state_dir));

    (void)peer;
    *ret_json = json_pack("{s:s, s:o, s:b, s:o, s:o, s:o}", "version", BRIM_VERSION, "daemon",
                          about, "emulated", (int)daemon->is_emulated, "problem",
                          text_or_null(daemon->sampler.problem), "gpus", gpus_json(daemon),
                          "leases", leases_json(daemon));
    return *ret_json ? 0 : error_set(err, -ENOMEM, "out of memory");
}
