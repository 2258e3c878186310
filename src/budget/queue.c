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
    uint32_t line = wait_class(lease, waiter->is_burst);

    waiter->seq = queue->next_seq++;
    waiter->queued_ms = now_ms;
    waitlist_append(&scope->lines[line], waiter, need);
    scope->waiting |= UINT32_C(1) << line;
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
    uint32_t line;

    if (!waiter->list)
        return;
    overdue_unlink(queue, waiter);
    scope = queue_scope(queue, lease);
    line = wait_class(lease, waiter->is_burst);
    scope->count--;
    scope->burst_count -= waiter->is_burst;
    queue->count--;
    waitlist_remove(waiter);
    if (waitlist_count(&scope->lines[line]) == 0)
        scope->waiting &= ~(UINT32_C(1) << line);
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

/* The lines of one kind that concern a gpu: three wide ones, then its own; by priority. */
static const struct waitlist *gpu_line(const struct queue *queue, uint32_t gpu, bool is_burst,
                                       uint32_t number)
{
    const struct wait_scope *scope = queue->scopes[number < CLAIM_PRIORITY_COUNT ? 0 : 1 + gpu];

    return &scope->lines[(is_burst ? 0 : WAIT_CLAIM_BACKGROUND) + number % CLAIM_PRIORITY_COUNT];
}

/* A bit for each of these lines where somebody waits. */
static uint32_t gpu_waiting(const struct queue *queue, uint32_t gpu, bool is_burst)
{
    const uint32_t shift = is_burst ? 0 : WAIT_CLAIM_BACKGROUND;
    const uint32_t mask = (UINT32_C(1) << CLAIM_PRIORITY_COUNT) - 1;
    const uint32_t wide = (queue->scopes[0]->waiting >> shift) & mask;

    return wide | ((queue->scopes[1 + gpu]->waiting >> shift) & mask) << CLAIM_PRIORITY_COUNT;
}

bool queue_is_waited_for(const struct queue *queue, uint32_t gpu, bool is_burst)
{
    return gpu_waiting(queue, gpu, is_burst) != 0;
}

struct waiter *queue_closed(const struct queue *queue, uint32_t gpu, bool is_burst, uint64_t now_ms)
{
    struct waiter *first = NULL;

    for (uint32_t waiting = gpu_waiting(queue, gpu, is_burst); waiting; waiting &= waiting - 1) {
        uint32_t number = (uint32_t)__builtin_ctz(waiting);
        struct waiter *waiter =
            line_closed(queue, gpu_line(queue, gpu, is_burst, number), gpu, now_ms);

        if (waiter && (!first || waiter->seq < first->seq))
            first = waiter;
    }
    return first;
}

/* The priority with what waiting has added. */
static uint64_t slot_level(const struct queue *queue, const struct waitlist_slot *slot,
                           uint32_t priority, uint64_t now_ms)
{
    uint64_t waited_ms = now_ms - slot->queued_ms;
    uint64_t risen = waited_ms < queue->limits->age_ms ? 0 : waited_ms / queue->limits->age_ms;

    return risen < CLAIM_PRIORITY_INTERACTIVE - priority ? priority + risen
                                                         : CLAIM_PRIORITY_INTERACTIVE;
}

static void walk_find(struct queue_walk *walk, uint32_t number, uint32_t from)
{
    walk->places[number] =
        waitlist_find(gpu_line(walk->queue, walk->gpu, walk->is_burst, number), from, &walk->room);
    if (walk->places[number] == WAITLIST_NONE)
        walk->left &= ~(UINT32_C(1) << number);
}

void queue_walk_begin(struct queue_walk *walk)
{
    walk->left = gpu_waiting(walk->queue, walk->gpu, walk->is_burst);
    for (uint32_t left = walk->left; left; left &= left - 1)
        walk_find(walk, (uint32_t)__builtin_ctz(left), 0);
}

struct waiter *queue_walk_next(struct queue_walk *walk)
{
    const struct waitlist_slot *best = NULL;
    uint32_t best_number = 0;
    uint64_t best_level = 0;

    for (uint32_t left = walk->left; left; left &= left - 1) {
        uint32_t number = (uint32_t)__builtin_ctz(left);
        const struct waitlist *line = gpu_line(walk->queue, walk->gpu, walk->is_burst, number);
        const struct waitlist_slot *slot = &line->slots[walk->places[number]];
        uint64_t level = slot_level(walk->queue, slot, number % CLAIM_PRIORITY_COUNT, walk->now_ms);

        if (best && (level < best_level || (level == best_level && slot->seq > best->seq)))
            continue;
        best = slot;
        best_level = level;
        best_number = number;
    }
    if (best)
        walk_find(walk, best_number, walk->places[best_number] + 1);
    return best ? best->waiter : NULL;
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
    for (uint32_t waiting = scope->waiting; waiting; waiting &= waiting - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(waiting);
        struct waitlist *line = &scope->lines[i];
        bool is_burst_line = i < WAIT_CLAIM_BACKGROUND;

        if (is_burst && !is_burst_line)
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

    for (uint32_t waiting = gpu_waiting(queue, gpu, is_burst); waiting; waiting &= waiting - 1) {
        uint32_t number = (uint32_t)__builtin_ctz(waiting);
        const struct waitlist *line = gpu_line(queue, gpu, is_burst, number);
        uint32_t end =
            waiter ? line_end_of_before(queue, line, number % CLAIM_PRIORITY_COUNT, waiter, now_ms)
                   : line->length;

        count += waitlist_count_before(line, end);
    }
    return count;
}
