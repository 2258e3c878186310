/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_HEAP_H
#define BUDGET_HEAP_H

#include <stddef.h>
#include <stdint.h>

/*
 * Heap: a multiset of 64-bit keys that knows its largest. Nodes live in their owners and know their
 * place, so that any of them is changed or taken out in O(log n). A heap of times holds
 * UINT64_MAX - time: its largest is the earliest.
 */

struct heap_node {
    void *owner;    /* borrowed */
    uint32_t place; /* 1 + index in the heap; 0: in none */
};

struct heap_entry {
    uint64_t key;
    struct heap_node *node; /* borrowed */
};

struct heap {
    struct heap_entry *entries; /* owned */
    uint32_t count, capacity;
};

void heap_deinit(struct heap *heap);

/* Room for `count` nodes in all, so that heap_push cannot fail. -ENOMEM. */
int heap_reserve(struct heap *heap, uint32_t count) __attribute__((warn_unused_result));

/* The node is in no heap; there is room for it. */
void heap_push(struct heap *heap, struct heap_node *node, uint64_t key);
void heap_update(struct heap *heap, struct heap_node *node, uint64_t key);
/* A node that is in no heap is fine. */
void heap_remove(struct heap *heap, struct heap_node *node);

/* The largest; NULL and 0 when empty. */
static inline struct heap_node *heap_top(const struct heap *heap)
{
    return heap->count > 0 ? heap->entries[0].node : NULL;
}
static inline uint64_t heap_top_key(const struct heap *heap)
{
    return heap->count > 0 ? heap->entries[0].key : 0;
}

/* The owners of the (at most 8) largest, largest first: O(max²), whatever the heap's size. Returns
 * how many there are. */
#define HEAP_LARGEST_MAX 8
size_t heap_largest(const struct heap *heap, void **ret_owners, size_t max);

#endif
