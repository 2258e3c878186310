/* SPDX-License-Identifier: Apache-2.0 */

#include "budget/waitlist.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static const struct waitlist_node nobody = {
    .least = { UINT64_MAX, UINT64_MAX, UINT64_MAX },
};

static uint64_t smallest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct waitlist_node node_join(const struct waitlist_node *a, const struct waitlist_node *b)
{
    return (struct waitlist_node){
        .least = { smallest(a->least.charge_bytes, b->least.charge_bytes),
                   smallest(a->least.resident_bytes, b->least.resident_bytes),
                   smallest(a->least.total_bytes, b->least.total_bytes) },
        .count = a->count + b->count,
    };
}

static bool node_may_fit(const struct waitlist_node *node, const struct room *room)
{
    if (node->count == 0)
        return false;
    return !room || (node->least.charge_bytes <= room->charge_bytes &&
                     node->least.resident_bytes <= room->resident_bytes &&
                     node->least.total_bytes <= room->total_bytes);
}

static struct waitlist_node node_below(const struct waitlist *list, uint32_t node)
{
    size_t left = 2 * (size_t)node;

    return node_join(&list->nodes[left], &list->nodes[left + 1]);
}

static void tree_set(struct waitlist *list, uint32_t place, struct waitlist_node leaf)
{
    uint32_t node = list->capacity + place;

    list->nodes[node] = leaf;
    for (node /= 2; node > 0; node /= 2)
        list->nodes[node] = node_below(list, node);
}

static void tree_join_all(struct waitlist *list)
{
    for (uint32_t node = list->capacity - 1; node > 0; node--)
        list->nodes[node] = node_below(list, node);
}

void waitlist_deinit(struct waitlist *list)
{
    free(list->slots);
    free(list->nodes);
    *list = (struct waitlist){ 0 };
}

/* Move everybody into new arrays without holes. */
static void waitlist_move(struct waitlist *list, struct waitlist *to)
{
    for (uint32_t i = 0; i < 2 * to->capacity; i++)
        to->nodes[i] = nobody;
    for (uint32_t i = 0; i < list->length; i++) {
        struct waitlist_slot *slot = &list->slots[i];

        if (!slot->waiter)
            continue;
        to->nodes[to->capacity + to->length] = list->nodes[list->capacity + i];
        slot->waiter->place = to->length;
        to->slots[to->length++] = *slot;
    }
    to->passed = list->passed;
    tree_join_all(to);
    free(list->slots);
    free(list->nodes);
    *list = *to;
}

int waitlist_reserve(struct waitlist *list)
{
    struct waitlist to = { .capacity = 16 };

    if (list->length < list->capacity)
        return 0;
    while (to.capacity < 2 * waitlist_count(list))
        to.capacity *= 2;

    to.slots = malloc(to.capacity * sizeof(*to.slots));
    to.nodes = malloc(2 * (size_t)to.capacity * sizeof(*to.nodes));
    if (!to.slots || !to.nodes) {
        waitlist_deinit(&to);
        return -ENOMEM;
    }
    waitlist_move(list, &to);
    return 0;
}

void waitlist_append(struct waitlist *list, struct waiter *waiter, const struct room *need)
{
    assert(list->length < list->capacity && !waiter->list);
    waiter->list = list;
    waiter->place = list->length++;
    list->slots[waiter->place] = (struct waitlist_slot){ .waiter = waiter,
                                                         .seq = waiter->seq,
                                                         .queued_ms = waiter->queued_ms };
    tree_set(list, waiter->place, (struct waitlist_node){ .least = *need, .count = 1 });
}

/* The last waiter below `end`. */
static uint32_t waitlist_last(const struct waitlist *list, uint32_t end)
{
    uint32_t node = list->capacity + end;

    if (end >= list->capacity && list->capacity > 0) {
        node = 1;
        if (list->nodes[1].count == 0)
            return WAITLIST_NONE;
    } else {
        if (end == 0 || list->capacity == 0)
            return WAITLIST_NONE;
        /* Up until there is somebody to the left, then down along the right edge. */
        while (node > 1 && !((node & 1) && list->nodes[node - 1].count > 0))
            node /= 2;
        if (node == 1)
            return WAITLIST_NONE;
        node--;
    }
    while (node < list->capacity)
        node = list->nodes[2 * node + 1].count > 0 ? 2 * node + 1 : 2 * node;
    return node - list->capacity;
}

void waitlist_remove(struct waiter *waiter)
{
    struct waitlist *list = waiter->list;
    struct waitlist_slot *slot;
    uint32_t before;

    if (!list)
        return;
    slot = &list->slots[waiter->place];
    before = waitlist_last(list, waiter->place);
    if (before != WAITLIST_NONE)
        list->slots[before].passed += slot->passed;
    else
        list->passed -= slot->passed;
    slot->passed = 0;
    slot->waiter = NULL;
    tree_set(list, waiter->place, nobody);
    waiter->list = NULL;
    if (waitlist_count(list) == 0) {
        list->length = 0;
        list->front = 0;
    } else if (list->front == waiter->place) {
        list->front = waitlist_find(list, waiter->place + 1, NULL);
    }
}

uint32_t waitlist_find(const struct waitlist *list, uint32_t from, const struct room *room)
{
    uint32_t node;

    if (from < list->front)
        from = list->front;
    if (from >= list->length || !node_may_fit(&list->nodes[1], room))
        return WAITLIST_NONE;
    node = list->capacity + from;
    for (;;) {
        /* Down to the leftmost that may fit: the smallest needs below a node may be of different
         * waiters, so a way down can end in nobody. */
        while (node < list->capacity && node_may_fit(&list->nodes[node], room))
            node = 2 * node;
        if (node >= list->capacity && node_may_fit(&list->nodes[node], room))
            return node - list->capacity;
        /* On to the next subtree on the right. */
        while (node & 1)
            node /= 2;
        if (node == 0)
            return WAITLIST_NONE;
        node++;
    }
}

bool waitlist_may_fit(const struct waiter *waiter, const struct room *room)
{
    const struct waitlist *list = waiter->list;

    return node_may_fit(&list->nodes[list->capacity + waiter->place], room);
}

uint32_t waitlist_count_before(const struct waitlist *list, uint32_t end)
{
    uint32_t node = list->capacity + end, count = 0;

    if (end >= list->capacity)
        return waitlist_count(list);
    for (; node > 1; node /= 2)
        if (node & 1)
            count += list->nodes[node - 1].count;
    return count;
}

uint32_t waitlist_end_of_seq(const struct waitlist *list, uint64_t seq)
{
    uint32_t low = 0, high = list->length;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (list->slots[middle].seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t waitlist_end_of_time(const struct waitlist *list, uint64_t queued_ms)
{
    uint32_t low = 0, high = list->length;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (list->slots[middle].queued_ms <= queued_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void waitlist_pass(struct waitlist *list, uint32_t end)
{
    uint32_t last = waitlist_last(list, end);

    if (last == WAITLIST_NONE)
        return;
    list->slots[last].passed++;
    list->passed++;
}

uint64_t waitlist_passed(const struct waitlist *list, const struct waiter *waiter)
{
    uint64_t passed = list->passed;

    for (uint32_t i = list->front; i < waiter->place; i++)
        passed -= list->slots[i].passed;
    return passed;
}
