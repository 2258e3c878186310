/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/restore.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "daemon/daemon.h"
#include "daemon/holder.h"
#include "daemon/note.h"
#include "daemon/recorder.h"

struct restorable {
    struct restorable *next;
    struct journal_lease lease;
};

int restorable_add(struct restorable **list, const struct journal_lease *lease)
{
    struct restorable *item = malloc(sizeof(*item));

    if (!item)
        return -ENOMEM;
    item->next = *list;
    item->lease = *lease;
    *list = item;
    return 0;
}

void restorable_free(struct restorable *list)
{
    while (list) {
        struct restorable *next = list->next;
        free(list);
        list = next;
    }
}

static int find_gpus(const struct gpus *gpus, const struct journal_lease *row, struct claim *claim)
{
    for (uint32_t i = 0; i < claim->part_count; i++) {
        if (gpu_find(gpus, row->gpus[i], &claim->parts[i].gpu) < 0)
            return -ENODEV;
    }
    return claim->part_count > 0 ? 0 : -EINVAL;
}

static bool can_burst(const struct claim *claim)
{
    for (uint32_t i = 0; i < claim->part_count; i++) {
        if (claim->parts[i].burst_bytes > 0)
            return true;
    }
    return false;
}

static int restore_one(struct daemon *daemon, const struct journal_lease *row)
{
    const struct holder_terms terms = {
        .lease_id = row->id,
        .flags = row->flags,
        .uid = row->uid,
        .pid = row->holder_pid,
        .start_ticks = row->holder_ticks,
    };
    struct claim claim = row->claim;
    struct holder *holder = NULL;
    uint64_t lease_id = 0;
    int r = 0;

    if (row->holder_pid == 0 || !process_is_alive(row->holder_pid, row->holder_ticks))
        return -ESRCH;
    r = find_gpus(&daemon->gpus, row, &claim);
    if (r == 0)
        r = budget_restore(daemon->budget, &claim, row->id, row->state, clock_now_ms(), &lease_id);
    if (r != 0)
        return r;
    r = holder_begin(daemon, &terms, NULL, &holder);
    if (r < 0) {
        (void)budget_release(daemon->budget, row->id, clock_now_ms());
        return r;
    }
    holder->is_granted = true;
    holder->since_unix_ms = row->since_unix_ms;
    if (process_is_alive(row->root_pid, row->root_ticks))
        holder_set_root(&daemon->holders, holder, row->root_pid, row->root_ticks);
    if (!holder->is_held_by_pid) {
        holder->reattach_until_ms = clock_after_ms(clock_now_ms(), REATTACH_MS);
        if (can_burst(&claim))
            holder_await(holder);
        daemon_want_chores(daemon);
    }
    note_holder(holder, "restored", 0,
                holder->is_held_by_pid ? "its process lives" : "waits for its holder to come back");
    recorder_lease(daemon->recorder, holder, false);
    return 0;
}

void restorable_put_back(struct daemon *daemon, const struct restorable *list)
{
    for (; list; list = list->next) {
        const struct journal_lease *row = &list->lease;
        const int r = restore_one(daemon, row);
        char name[LOG_ESCAPED_BYTES];

        if (r < 0)
            log_info("journal", "event=not_restored lease=l%" PRIu64 " name=\"%s\" reason=\"%s\"",
                     row->id, log_escape(row->claim.name, name),
                     r == -ESRCH ? "its process has ended" : uv_strerror(r));
    }
}
