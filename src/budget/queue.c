/* SPDX-License-Identifier: Apache-2.0 */

#include "budget/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

void queue_deinit(struct queue *queue)
{
    for (uint32_t i = 0; i < queue->scope_count; i++) {
        for (uint32_t k = 0; k < WAIT_CLASS_COUNT; k++)
            waitlist_deinit(&queue->scopes[i]->lines[k]);
        free(queue->scopes[i]);
    }
    free(queue->scopes);
    heap_deinit(&queue->timers);
    *queue = (struct queue){ 0 };
}

int queue_add_scope(struct queue *queue)
{
    size_t bytes = (queue->scope_count + 1) * sizeof(struct wait_scope *);
    struct wait_scope **scopes = realloc(queue->scopes, bytes);
    struct wait_scope *scope;

    if (!scopes)
        return -ENOMEM;
    queue->scopes = scopes;
    scope = calloc(1, sizeof(*scope));
    if (!scope)
        return -ENOMEM;
    queue->scopes[queue->scope_count++] = scope;
    return 0;
}

static struct wait_scope *queue_scope(const struct queue *queue, const struct lease *lease)
{
    if (lease->claim.part_count > 1 || lease->claim.parts[0].gpu == CLAIM_GPU_ANY)
        return queue->scopes[0];
    return queue->scopes[1 + lease->claim.parts[0].gpu];
}

static uint32_t wait_class(const struct lease *lease, bool is_burst)
{
    return (is_burst ? WAIT_BURST_BACKGROUND : WAIT_CLAIM_BACKGROUND) +
           (uint32_t)lease->claim.priority;
}

int queue_reserve(struct queue *queue, const struct lease *lease, bool is_burst)
{
    int r = heap_reserve(&queue->timers, queue->count + 1);

    if (r < 0)
        return r;
    return waitlist_reserve(&queue_scope(queue, lease)->lines[wait_class(lease, is_burst)]);
}

void queue_enter(struct queue *queue, struct lease *lease, const struct room *need, uint64_t now_ms)
{
    struct wait_scope *scope = queue_scope(queue, lease);
    struct waiter *waiter = &lease->waiter;

    waiter->seq = queue->next_seq++;
    waiter->queued_ms = now_ms;
    waitlist_append(&scope->lines[wait_class(lease, waiter->is_burst)], waiter, need);
    heap_push(&queue->timers, &waiter->timer, UINT64_MAX - waiter->deadline_ms);
    scope->count++;
    scope->burst_count += waiter->is_burst;
    queue->count++;
}

static void overdue_unlink(struct queue *queue, struct waiter *waiter)
{
    if (!waiter->is_overdue)
        return;
    waiter->is_overdue = false;
    if (waiter->overdue_prev)
        waiter->overdue_prev->overdue_next = waiter->overdue_next;
    else
        queue->overdue = waiter->overdue_next;
    if (waiter->overdue_next)
        waiter->overdue_next->overdue_prev = waiter->overdue_prev;
}

void queue_leave(struct queue *queue, struct lease *lease)
{
    struct waiter *waiter = &lease->waiter;
    struct wait_scope *scope;

    if (!waiter->list)
        return;
    overdue_unlink(queue, waiter);
    scope = queue_scope(queue, lease);
    scope->count--;
    scope->burst_count -= waiter->is_burst;
    queue->count--;
    waitlist_remove(waiter);
    heap_remove(&queue->timers, &waiter->timer);
}

void queue_set_overdue(struct queue *queue, struct waiter *waiter, uint64_t give_up_ms)
{
    assert(!waiter->is_overdue);
    waiter->is_overdue = true;
    waiter->overdue_prev = NULL;
    waiter->overdue_next = queue->overdue;
    if (queue->overdue)
        queue->overdue->overdue_prev = waiter;
    queue->overdue = waiter;
    heap_update(&queue->timers, &waiter->timer, UINT64_MAX - give_up_ms);
}

uint64_t queue_next_ms(const struct queue *queue)
{
    return queue->timers.count > 0 ? UINT64_MAX - heap_top_key(&queue->timers) : CLOCK_NEVER_MS;
}

/* The first closed one of a line that wants the gpu. The closed ones are a front part of the line:
 * the first that is open ends the search. */
static struct waiter *line_closed(const struct queue *queue, const struct waitlist *line,
                                  uint32_t gpu, uint64_t now_ms)
{
    uint64_t passed = line->passed;
    uint32_t place = line->length > 0 ? line->front : WAITLIST_NONE;

    while (place != WAITLIST_NONE) {
        const struct waitlist_slot *slot = &line->slots[place];

        if (passed < queue->limits->overtake_max &&
            now_ms - slot->queued_ms < queue->limits->overtake_ms)
            return NULL;
        if (((slot->waiter->gpus >> gpu) & 1) &&
            !(slot->waiter->is_burst && lease_burst_is_hopeless(slot->waiter->lease)))
            return slot->waiter;
        passed -= slot->passed;
        place = waitlist_find(line, place + 1, NULL);
    }
    return NULL;
}

/* The lines of one kind on a gpu: [0] wide, [1] its own. */
static const struct waitlist *gpu_line(const struct queue *queue, uint32_t gpu, uint32_t side,
                                       bool is_burst, uint32_t priority)
{
    const struct wait_scope *scope = queue->scopes[side == 0 ? 0 : 1 + gpu];

    return &scope->lines[(is_burst ? 0 : WAIT_CLAIM_BACKGROUND) + priority];
}

static uint32_t scope_count(const struct wait_scope *scope, bool is_burst)
{
    return is_burst ? scope->burst_count : scope->count - scope->burst_count;
}

bool queue_is_waited_for(const struct queue *queue, uint32_t gpu, bool is_burst)
{
    return scope_count(queue->scopes[0], is_burst) > 0 ||
           scope_count(queue->scopes[1 + gpu], is_burst) > 0;
}

struct waiter *queue_closed(const struct queue *queue, uint32_t gpu, bool is_burst, uint64_t now_ms)
{
    struct waiter *first = NULL;

    if (!queue_is_waited_for(queue, gpu, is_burst))
        return NULL;
    for (uint32_t i = 0; i < 2 * CLAIM_PRIORITY_COUNT; i++) {
        const struct waitlist *line = gpu_line(queue, gpu, i & 1, is_burst, i / 2);
        struct waiter *waiter = line_closed(queue, line, gpu, now_ms);

        if (waiter && (!first || waiter->seq < first->seq))
            first = waiter;
    }
    return first;
}

/* The priority with what waiting has added. */
static uint64_t slot_level(const struct queue *queue, const struct waitlist_slot *slot,
                           uint32_t priority, uint64_t now_ms)
{
    uint64_t risen = (now_ms - slot->queued_ms) / queue->limits->age_ms;

    return risen < CLAIM_PRIORITY_INTERACTIVE - priority ? priority + risen
                                                         : CLAIM_PRIORITY_INTERACTIVE;
}

void queue_walk_begin(struct queue_walk *walk)
{
    for (uint32_t i = 0; i < 2 * CLAIM_PRIORITY_COUNT; i++)
        walk->places[i & 1][i / 2] = waitlist_find(
            gpu_line(walk->queue, walk->gpu, i & 1, walk->is_burst, i / 2), 0, &walk->room);
}

struct waiter *queue_walk_next(struct queue_walk *walk)
{
    const struct waitlist *best_line = NULL;
    const struct waitlist_slot *best = NULL;
    uint32_t best_i = 0;
    uint64_t best_level = 0;

    for (uint32_t i = 0; i < 2 * CLAIM_PRIORITY_COUNT; i++) {
        const struct waitlist *line =
            gpu_line(walk->queue, walk->gpu, i & 1, walk->is_burst, i / 2);
        uint32_t place = walk->places[i & 1][i / 2];
        const struct waitlist_slot *slot;
        uint64_t level;

        if (place == WAITLIST_NONE)
            continue;
        slot = &line->slots[place];
        level = slot_level(walk->queue, slot, i / 2, walk->now_ms);
        if (best && (level < best_level || (level == best_level && slot->seq > best->seq)))
            continue;
        best = slot;
        best_level = level;
        best_line = line;
        best_i = i;
    }
    if (!best)
        return NULL;
    walk->places[best_i & 1][best_i / 2] =
        waitlist_find(best_line, walk->places[best_i & 1][best_i / 2] + 1, &walk->room);
    return best->waiter;
}

/* The end of the front part of a line that has risen to `level` or above. */
static uint32_t line_end_of_level(const struct queue *queue, const struct waitlist *line,
                                  uint32_t priority, uint64_t level, uint64_t now_ms)
{
    uint64_t waited_ms;

    if (level <= priority)
        return line->length;
    if (level > CLAIM_PRIORITY_INTERACTIVE)
        return 0;
    if (__builtin_mul_overflow(level - priority, queue->limits->age_ms, &waited_ms) ||
        waited_ms > now_ms)
        return 0;
    return waitlist_end_of_time(line, now_ms - waited_ms);
}

/* Passed in a line by a waiter: who came earlier, and who ranks before it by priority. A closed one
 * ranks before all that are open. */
static uint32_t line_end_of_passed(const struct queue *queue, const struct waitlist *line,
                                   uint32_t priority, const struct waiter *waiter, uint64_t now_ms)
{
    const struct waitlist_slot *slot = &waiter->list->slots[waiter->place];
    uint64_t level = slot_level(queue, slot, (uint32_t)waiter->lease->claim.priority, now_ms);
    uint32_t by_seq = waitlist_end_of_seq(line, waiter->seq);
    uint32_t by_level =
        waiter->is_closed ? 0 : line_end_of_level(queue, line, priority, level + 1, now_ms);

    return by_seq > by_level ? by_seq : by_level;
}

static void scope_pass(struct queue *queue, struct wait_scope *scope, const struct waiter *waiter,
                       bool is_burst, uint64_t now_ms)
{
    if (scope->count == 0)
        return;
    for (uint32_t i = 0; i < WAIT_CLASS_COUNT; i++) {
        struct waitlist *line = &scope->lines[i];
        bool is_burst_line = i < WAIT_CLAIM_BACKGROUND;

        if (waitlist_count(line) == 0 || (is_burst && !is_burst_line))
            continue;
        if (!waiter || is_burst_line != is_burst)
            waitlist_pass(line, line->length);
        else
            waitlist_pass(
                line, line_end_of_passed(queue, line, i % CLAIM_PRIORITY_COUNT, waiter, now_ms));
    }
}

void queue_pass(struct queue *queue, const uint32_t *gpus, uint32_t gpu_count,
                const struct waiter *waiter, bool is_burst, uint64_t now_ms)
{
    if (queue->count == 0)
        return;
    scope_pass(queue, queue->scopes[0], waiter, is_burst, now_ms);
    for (uint32_t i = 0; i < gpu_count; i++)
        scope_pass(queue, queue->scopes[1 + gpus[i]], waiter, is_burst, now_ms);
}

/* The end of the front part of a line that goes before a waiter that has not closed yet. */
static uint32_t line_end_of_before(const struct queue *queue, const struct waitlist *line,
                                   uint32_t priority, const struct waiter *waiter, uint64_t now_ms)
{
    const struct waitlist_slot *slot = &waiter->list->slots[waiter->place];
    uint64_t level = slot_level(queue, slot, (uint32_t)waiter->lease->claim.priority, now_ms);
    uint32_t above = line_end_of_level(queue, line, priority, level + 1, now_ms);
    uint32_t same = line_end_of_level(queue, line, priority, level, now_ms);
    uint32_t by_seq = waitlist_end_of_seq(line, waiter->seq);

    if (now_ms - waiter->queued_ms >= queue->limits->overtake_ms)
        return by_seq;
    if (by_seq < same)
        same = by_seq;
    return same > above ? same : above;
}

uint32_t queue_count_before(const struct queue *queue, uint32_t gpu, const struct waiter *waiter,
                            bool is_burst, uint64_t now_ms)
{
    uint32_t count = 0;

    if (!queue_is_waited_for(queue, gpu, is_burst))
        return 0;
    for (uint32_t i = 0; i < 2 * CLAIM_PRIORITY_COUNT; i++) {
        const struct waitlist *line = gpu_line(queue, gpu, i & 1, is_burst, i / 2);
        uint32_t end =
            waiter ? line_end_of_before(queue, line, i / 2, waiter, now_ms) : line->length;

        count += waitlist_count_before(line, end);
    }
    return count;
}
