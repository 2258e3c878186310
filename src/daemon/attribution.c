/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/attribution.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/daemon.h"
#include "daemon/origin.h"

/* The bytes of one process tree that holds a lease. */
struct tree {
    struct origin origin;
    uint64_t bytes;
};

struct work {
    struct daemon *daemon; /* borrowed */
    uint32_t gpu;
    struct tree *trees; /* owned */
    size_t tree_count;
    struct attribution result;
};

static void name_foreign(struct foreign_process *foreign)
{
    struct process_info info = { 0 };

    if (process_read(foreign->pid, &info) < 0)
        (void)snprintf(info.name, sizeof(info.name), "(not visible)");
    for (char *at = info.name; *at; at++) {
        if ((unsigned char)*at < 0x20 || (unsigned char)*at >= 0x7f)
            *at = '?';
    }
    (void)snprintf(foreign->name, sizeof(foreign->name), "%s", info.name);
}

/* What the lease is charged on this gpu; false: it has no part there. */
static bool charge_on(const struct work *work, const struct holder *holder, uint64_t *ret_bytes)
{
    struct budget_lease_view view;

    if (!holder->is_granted || !budget_view_lease(work->daemon->budget, holder->id, &view))
        return false;
    for (uint32_t i = 0; i < view.claim->part_count; i++) {
        if (view.claim->parts[i].gpu == work->gpu) {
            *ret_bytes = view.charge_bytes[i];
            return true;
        }
    }
    return false;
}

static struct holder *first_on_gpu(const struct work *work, const struct origin *origin)
{
    const struct holders *holders = &work->daemon->holders;
    struct holder *draining = NULL;
    struct holder *holder = NULL;
    uint64_t charge_bytes = 0;

    while ((holder = holder_next_of_root(holders, origin->root_pid, origin->root_ticks, holder))) {
        if (!charge_on(work, holder, &charge_bytes))
            continue;
        if (!holder->is_released)
            return holder;
        draining = draining ? draining : holder;
    }
    return draining;
}

static void add_to_tree(struct work *work, const struct origin *origin, uint64_t bytes)
{
    for (size_t i = 0; i < work->tree_count; i++) {
        struct tree *tree = &work->trees[i];
        if (tree->origin.root_pid == origin->root_pid &&
            tree->origin.root_ticks == origin->root_ticks) {
            tree->bytes += bytes;
            return;
        }
    }
    work->trees[work->tree_count++] = (struct tree){ .origin = *origin, .bytes = bytes };
}

static void take_process(struct work *work, const struct facts_process *process)
{
    const pid_t pid = (pid_t)process->pid;
    const uint64_t bytes = process->has_bytes ? process->used_bytes : 0;
    struct origin origin;

    if (origin_find(&work->daemon->holders, pid, &origin) && first_on_gpu(work, &origin)) {
        add_to_tree(work, &origin, bytes);
        return;
    }
    struct foreign_process *foreign = &work->result.foreign[work->result.foreign_count++];
    *foreign = (struct foreign_process){ .pid = pid, .bytes = bytes };
    name_foreign(foreign);
}

static int add_measure(struct attribution *result, uint64_t lease_id, uint64_t bytes)
{
    /* Doubling, by the count's own bits: at 16, 32, 64 … */
    const size_t count = result->measured_count;

    if (count == 0 || (count >= 16 && (count & (count - 1)) == 0)) {
        struct budget_measure *larger =
            reallocarray(result->measured, count == 0 ? 16 : count * 2, sizeof(*result->measured));
        if (!larger)
            return -ENOMEM;
        result->measured = larger;
    }
    result->measured[result->measured_count++] = (struct budget_measure){ lease_id, bytes };
    return 0;
}

/* One turn over the leases of a tree: the living ones, or the draining ones. */
static int share_out(struct work *work, const struct tree *tree, bool is_draining,
                     uint64_t *rest_bytes)
{
    const struct holders *holders = &work->daemon->holders;
    struct holder *holder = NULL;

    while (*rest_bytes > 0 && (holder = holder_next_of_root(holders, tree->origin.root_pid,
                                                            tree->origin.root_ticks, holder))) {
        uint64_t charge_bytes = 0;
        if (holder->is_released != is_draining || !charge_on(work, holder, &charge_bytes))
            continue;
        const uint64_t bytes = *rest_bytes < charge_bytes ? *rest_bytes : charge_bytes;
        if (add_measure(&work->result, holder->id, bytes) < 0)
            return -ENOMEM;
        *rest_bytes -= bytes;
    }
    return 0;
}

static int share_tree(struct work *work, const struct tree *tree)
{
    const size_t first = work->result.measured_count;
    uint64_t rest_bytes = tree->bytes;

    if (share_out(work, tree, false, &rest_bytes) < 0 ||
        share_out(work, tree, true, &rest_bytes) < 0)
        return -ENOMEM;
    if (rest_bytes > 0 && work->result.measured_count > first)
        work->result.measured[first].bytes += rest_bytes;
    return 0;
}

static int by_bytes(const void *left, const void *right)
{
    const struct foreign_process *a = left;
    const struct foreign_process *b = right;

    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? 1 : -1;
    return a->pid < b->pid ? -1 : a->pid > b->pid;
}

int attribution_make(struct daemon *daemon, uint32_t gpu, const struct facts_gpu *facts,
                     struct attribution *ret_attribution)
{
    OWNED(freep) struct tree *trees = calloc(facts->process_count + 1, sizeof(*trees));
    struct work work = { .daemon = daemon, .gpu = gpu, .trees = trees };
    int r = 0;

    work.result.foreign = calloc(facts->process_count + 1, sizeof(*work.result.foreign));
    if (!trees || !work.result.foreign) {
        free(work.result.foreign);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < facts->process_count; i++)
        take_process(&work, &facts->processes[i]);
    for (size_t i = 0; i < work.tree_count && r == 0; i++)
        r = share_tree(&work, &work.trees[i]);
    if (r < 0) {
        free(work.result.foreign);
        free(work.result.measured);
        return r;
    }
    qsort(work.result.foreign, work.result.foreign_count, sizeof(*work.result.foreign), by_bytes);
    *ret_attribution = work.result;
    return 0;
}
