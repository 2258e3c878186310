/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/gpu.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "daemon/arbiter.h"
#include "daemon/attribution.h"
#include "daemon/daemon.h"
#include "daemon/note.h"
#include "daemon/sampler.h"
#include "daemon/steps.h"

/*
 * A sample is one figure and one list of processes, and no driver gives both for one moment: a
 * program that takes memory between the two calls is in the list and not in the figure, and hides
 * as many foreign bytes. They would be granted to somebody. So bytes that are used and stand under
 * no process count as gone only when two samples in a row do not have them; the second one is asked
 * for at once.
 */

#define FOREIGN_STEP_BYTES (64 * MIB) /* a smaller change of foreign use is no event */
#define FALL_MIN_BYTES     (16 * MIB) /* a smaller one can wait for the next sample */
#define LATE_MAX_MS        150        /* of the 250 ms that facts may be old at a grant */

void gpus_deinit(struct gpus *gpus)
{
    for (uint32_t i = 0; i < gpus->count; i++) {
        free(gpus->table[i].foreign);
        free(gpus->table[i].last);
        gpus->table[i].foreign = NULL;
        gpus->table[i].last = NULL;
        fd_close(&gpus->table[i].lock_fd);
    }
    gpus->count = 0;
}

void gpus_begin_answer(struct daemon *daemon)
{
    for (uint32_t i = 0; i < daemon->gpus.count; i++)
        daemon->gpus.table[i].is_seen = false;
}

static void apply_managed(struct daemon *daemon, uint32_t number)
{
    const struct gpu *gpu = &daemon->gpus.table[number];

    budget_set_gpu_managed(daemon->budget, number, gpu->lock_fd >= 0 && !gpu->is_lost);
}

static void try_lock(struct daemon *daemon, uint32_t number)
{
    struct gpu *gpu = &daemon->gpus.table[number];
    char was[GPU_MANAGER_BYTES];

    (void)snprintf(was, sizeof(was), "%s", gpu->managed_by);
    gpu->managed_by[0] = '\0';
    (void)arbiter_lock(gpu->uuid, daemon->options.scope, daemon->place.runtime_dir, &gpu->lock_fd,
                       gpu->managed_by, sizeof(gpu->managed_by));
    if (strcmp(was, gpu->managed_by) != 0)
        log_warn("gpu", "event=manager gpu=%u uuid=%s manager=\"%s\"", gpu->index, gpu->uuid,
                 gpu->managed_by[0] != '\0' ? gpu->managed_by : "this brimd");
    apply_managed(daemon, number);
}

bool gpus_are_ours(const struct daemon *daemon)
{
    for (uint32_t i = 0; i < daemon->gpus.count; i++) {
        if (daemon->gpus.table[i].lock_fd < 0)
            return false;
    }
    return true;
}

bool gpus_retry_locks(struct daemon *daemon)
{
    for (uint32_t i = 0; i < daemon->gpus.count; i++) {
        if (daemon->gpus.table[i].lock_fd < 0)
            try_lock(daemon, i);
    }
    return gpus_are_ours(daemon);
}

static int find_uuid(const struct gpus *gpus, const char *uuid, uint32_t *ret_number)
{
    for (uint32_t i = 0; i < gpus->count; i++) {
        if (strcmp(gpus->table[i].uuid, uuid) == 0) {
            *ret_number = i;
            return 0;
        }
    }
    return -ENOENT;
}

static int add_gpu(struct daemon *daemon, const struct facts_gpu *facts, uint32_t *ret_number)
{
    struct gpus *gpus = &daemon->gpus;
    struct gpu *gpu = NULL;
    uint32_t number = 0;
    int r = 0;

    if (gpus->count >= FACTS_GPU_MAX)
        return -ENOSPC;
    r = budget_add_gpu(daemon->budget, facts->capacity_bytes, daemon->options.reserve_bytes,
                       &number);
    if (r < 0)
        return r;
    gpu = &gpus->table[number];
    *gpu = (struct gpu){ .lock_fd = -1 };
    (void)snprintf(gpu->uuid, sizeof(gpu->uuid), "%s", facts->uuid);
    gpus->count = number + 1;
    *ret_number = number;
    return 1;
}

/* The process that has most, for the sentence; the sum is what counts. */
static void note_foreign(struct daemon *daemon, uint32_t number)
{
    struct gpu *gpu = &daemon->gpus.table[number];
    struct budget_gpu_view view;
    char text[160];
    char was[SIZE_TEXT_BYTES];
    char is[SIZE_TEXT_BYTES];
    bool has_grown = false;

    budget_view_gpu(daemon->budget, number, &view);
    has_grown = view.foreign_bytes > gpu->told_foreign_bytes;
    if ((has_grown ? view.foreign_bytes - gpu->told_foreign_bytes
                   : gpu->told_foreign_bytes - view.foreign_bytes) < FOREIGN_STEP_BYTES)
        return;
    (void)snprintf(text, sizeof(text), "programs without a lease use %s (before: %s)%s%s",
                   size_format(view.foreign_bytes, is), size_format(gpu->told_foreign_bytes, was),
                   gpu->foreign_count > 0 ? ", most of it " : "",
                   gpu->foreign_count > 0 ? gpu->foreign[0].name : "");
    gpu->told_foreign_bytes = view.foreign_bytes;
    note_gpu(daemon, has_grown ? "foreign_grew" : "foreign_shrank", (int)gpu->index,
             view.foreign_bytes, text);
}

/* The bytes that no process of the list has: of programs that nobody may see, or that have just
 * ended. Negative where processes share memory. */
static int64_t unlisted_bytes(const struct facts_gpu *facts)
{
    uint64_t listed_bytes = 0;

    for (uint32_t i = 0; i < facts->process_count; i++) {
        if (facts->processes[i].has_bytes)
            listed_bytes += facts->processes[i].used_bytes;
    }
    return (int64_t)(facts->used_bytes - listed_bytes);
}

/* What is used, by this sample and the one before. */
static void judge_used(struct daemon *daemon, struct gpu *gpu, const struct facts_gpu *facts)
{
    const int64_t now_bytes = unlisted_bytes(facts);
    int64_t fall_bytes = 0;

    gpu->last_taken_bytes = facts->used_bytes;
    if (facts->has_process_bytes && gpu->last &&
        !__builtin_sub_overflow(gpu->last_unlisted_bytes, now_bytes, &fall_bytes) &&
        fall_bytes > 0) {
        gpu->last_taken_bytes += (uint64_t)fall_bytes;
        if (fall_bytes >= (int64_t)FALL_MIN_BYTES)
            sampler_want(daemon);
    }
    gpu->last_unlisted_bytes = now_bytes;
}

/* When the answer that is read now was begun. A driver that takes its time may not keep everybody
 * from being granted anything. */
static uint64_t begun_ms(const struct daemon *daemon)
{
    const uint64_t now_ms = clock_now_ms();
    const uint64_t asked_ms = daemon->sampler.asked_at_ms;

    return asked_ms + LATE_MAX_MS < now_ms ? now_ms - LATE_MAX_MS : asked_ms;
}

static int observe(struct daemon *daemon, uint32_t number, const struct facts_gpu *facts)
{
    struct gpu *gpu = &daemon->gpus.table[number];
    struct attribution attribution = { 0 };
    int r = attribution_make(daemon, number, facts, &attribution);

    if (r < 0)
        return r;
    const struct budget_facts budget_facts = {
        .used_bytes = gpu->last_taken_bytes,
        .has_process_bytes = facts->has_process_bytes != 0,
        .measured = attribution.measured,
        .measured_count = attribution.measured_count,
    };
    r = budget_observe(daemon->budget, number, &budget_facts, gpu->last_at_ms);
    free(attribution.measured);
    free(gpu->foreign);
    gpu->foreign = attribution.foreign;
    gpu->foreign_count = attribution.foreign_count;
    return r;
}

static void keep_last(struct gpu *gpu, const struct facts_gpu *facts)
{
    const size_t bytes =
        offsetof(struct facts_gpu, processes) + facts->process_count * sizeof(struct facts_process);
    struct facts_gpu *last = malloc(bytes);

    free(gpu->last);
    gpu->last = last;
    if (last)
        memcpy(last, facts, bytes);
}

void gpus_attribute_again(struct daemon *daemon)
{
    for (uint32_t i = 0; i < daemon->gpus.count; i++) {
        const struct gpu *gpu = &daemon->gpus.table[i];
        if (gpu->last && !gpu->is_lost && observe(daemon, i, gpu->last) < 0)
            log_error("gpu", "event=facts_lost index=%u reason=\"out of memory\"", gpu->index);
    }
}

void gpu_take(struct daemon *daemon, const struct facts_gpu *facts)
{
    uint32_t number = 0;
    struct gpu *gpu = NULL;
    int r = find_uuid(&daemon->gpus, facts->uuid, &number);

    if (r < 0)
        r = add_gpu(daemon, facts, &number);
    if (r < 0) {
        log_error("gpu", "event=ignored index=%u reason=\"%s\"", facts->index, strerror(-r));
        return;
    }
    gpu = &daemon->gpus.table[number];
    gpu->index = facts->index;
    (void)snprintf(gpu->name, sizeof(gpu->name), "%s", facts->name);
    gpu->used_bytes = facts->used_bytes;
    gpu->has_process_bytes = facts->has_process_bytes != 0;
    gpu->is_seen = true;
    if (r > 0)
        try_lock(daemon, number);
    if (gpu->is_lost) {
        gpu->is_lost = false;
        apply_managed(daemon, number);
    }
    if (gpu->lock_fd < 0)
        daemon_want_chores(daemon);
    if (!daemon->sampler.is_restored)
        return;
    judge_used(daemon, gpu, facts);
    gpu->last_at_ms = begun_ms(daemon);
    keep_last(gpu, facts);
    r = observe(daemon, number, facts);
    if (r < 0)
        log_error("gpu", "event=facts_lost index=%u reason=\"%s\"", facts->index, strerror(-r));
    note_foreign(daemon, number);
    step_foreign(daemon, number);
}

void gpus_end_answer(struct daemon *daemon)
{
    for (uint32_t i = 0; i < daemon->gpus.count; i++) {
        struct gpu *gpu = &daemon->gpus.table[i];
        if (gpu->is_seen || gpu->is_lost)
            continue;
        gpu->is_lost = true;
        apply_managed(daemon, i);
        note_gpu(daemon, "gpu_lost", (int)gpu->index, 0, "the driver does not show it any more");
    }
}

/* "0", or a UUID, or the first characters of one that only it has. */
int gpu_find(const struct gpus *gpus, const char *name, uint32_t *ret_number)
{
    uint32_t found = gpus->count;
    char index[16];

    for (uint32_t i = 0; i < gpus->count; i++) {
        (void)snprintf(index, sizeof(index), "%u", gpus->table[i].index);
        if (strcmp(index, name) == 0 || strcmp(gpus->table[i].uuid, name) == 0) {
            *ret_number = i;
            return 0;
        }
        if (strlen(name) >= 8 && strncmp(gpus->table[i].uuid, name, strlen(name)) == 0)
            found = found == gpus->count ? i : UINT32_MAX;
    }
    if (found >= gpus->count)
        return -ENOENT;
    *ret_number = found;
    return 0;
}

const char *gpu_label(const struct gpus *gpus, uint32_t number, char *text, size_t text_bytes)
{
    (void)snprintf(text, text_bytes, "gpu %u (%s)", gpus->table[number].index,
                   gpus->table[number].name);
    return text;
}
