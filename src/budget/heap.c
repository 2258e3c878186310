/* SPDX-License-Identifier: Apache-2.0 */

#include "budget/heap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void heap_deinit(struct heap *heap)
{
    free(heap->entries);
    *heap = (struct heap){ 0 };
}

int heap_reserve(struct heap *heap, uint32_t count)
{
    uint32_t capacity = heap->capacity > 0 ? heap->capacity : 8;
    struct heap_entry *entries;

    if (count <= heap->capacity)
        return 0;
    while (capacity < count)
        capacity *= 2;

    entries = realloc(heap->entries, (size_t)capacity * sizeof(*entries));
    if (!entries)
        return -ENOMEM;
    heap->entries = entries;
    heap->capacity = capacity;
    return 0;
}

static void heap_put(struct heap *heap, uint32_t index, struct heap_entry entry)
{
    heap->entries[index] = entry;
    entry.node->place = index + 1;
}

static void heap_rise(struct heap *heap, uint32_t index, struct heap_entry entry)
{
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;

        if (heap->entries[parent].key >= entry.key)
            break;
        heap_put(heap, index, heap->entries[parent]);
        index = parent;
    }
    heap_put(heap, index, entry);
}

static void heap_sink(struct heap *heap, uint32_t index, struct heap_entry entry)
{
    for (;;) {
        uint32_t child = 2 * index + 1;

        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->entries[child + 1].key > heap->entries[child].key)
            child++;
        if (heap->entries[child].key <= entry.key)
            break;
        heap_put(heap, index, heap->entries[child]);
        index = child;
    }
    heap_put(heap, index, entry);
}

void heap_push(struct heap *heap, struct heap_node *node, uint64_t key)
{
    assert(node->place == 0 && heap->count < heap->capacity);
    heap->count++;
    heap_rise(heap, heap->count - 1, (struct heap_entry){ .key = key, .node = node });
}

void heap_update(struct heap *heap, struct heap_node *node, uint64_t key)
{
    uint32_t index = node->place - 1;
    struct heap_entry entry = { .key = key, .node = node };

    assert(node->place > 0 && heap->entries[index].node == node);
    if (key > heap->entries[index].key)
        heap_rise(heap, index, entry);
    else if (key < heap->entries[index].key)
        heap_sink(heap, index, entry);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    uint32_t index = node->place - 1;
    struct heap_entry last;
    uint64_t gone_key;

    if (node->place == 0)
        return;
    assert(heap->entries[index].node == node);
    gone_key = heap->entries[index].key;
    node->place = 0;

    last = heap->entries[--heap->count];
    if (last.node == node)
        return;
    if (last.key > gone_key)
        heap_rise(heap, index, last);
    else
        heap_sink(heap, index, last);
}

/* Each entry that is taken brings its two children into the frontier, which stays small. */
size_t heap_largest(const struct heap *heap, void **ret_owners, size_t max)
{
    uint32_t frontier[2 * HEAP_LARGEST_MAX + 1];
    size_t waiting = 0, taken = 0;

    assert(max <= HEAP_LARGEST_MAX);
    if (heap->count > 0)
        frontier[waiting++] = 0;
    while (taken < max && waiting > 0) {
        size_t best = 0;
        uint32_t index;

        for (size_t i = 1; i < waiting; i++)
            if (heap->entries[frontier[i]].key > heap->entries[frontier[best]].key)
                best = i;
        index = frontier[best];
        frontier[best] = frontier[--waiting];
        ret_owners[taken++] = heap->entries[index].node->owner;
        for (uint32_t child = 2 * index + 1; child <= 2 * index + 2; child++)
            if (child < heap->count)
                frontier[waiting++] = child;
    }
    return taken;
}
