/* SPDX-License-Identifier: Apache-2.0 */

#include "spans.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int spans_init(struct spans *spans, uint64_t count)
{
    spans->free = calloc(16, sizeof(*spans->free));
    if (!spans->free)
        return -ENOMEM;
    spans->free_room = 16;
    spans->free_count = count > 0;
    spans->taken_count = 0;
    spans->free[0] = (struct span){ 0, count };
    return 0;
}

void spans_deinit(struct spans *spans)
{
    free(spans->free);
    *spans = (struct spans){ 0 };
}

/* Each taken span may become a free one of its own. */
int spans_expect(struct spans *spans, size_t more)
{
    const size_t needed = spans->free_count + spans->taken_count + more;
    struct span *moved = NULL;

    if (needed <= spans->free_room)
        return 0;
    moved = realloc(spans->free, 2 * needed * sizeof(*moved));
    if (!moved)
        return -ENOMEM;
    spans->free = moved;
    spans->free_room = 2 * needed;
    return 0;
}

static void remove_at(struct spans *spans, size_t at)
{
    spans->free_count--;
    memmove(&spans->free[at], &spans->free[at + 1],
            (spans->free_count - at) * sizeof(spans->free[0]));
}

int spans_take(struct spans *spans, uint64_t count, uint64_t *ret_start)
{
    if (spans_expect(spans, 1) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < spans->free_count; i++) {
        struct span *const span = &spans->free[i];
        if (span->count < count)
            continue;
        *ret_start = span->start;
        span->start += count;
        span->count -= count;
        if (span->count == 0)
            remove_at(spans, i);
        spans->taken_count++;
        return 0;
    }
    return -ENOSPC;
}

/* Index of the first free span that starts above start. */
static size_t find_above(const struct spans *spans, uint64_t start)
{
    size_t low = 0, high = spans->free_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (spans->free[middle].start > start)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void spans_give(struct spans *spans, uint64_t start, uint64_t count)
{
    const size_t at = find_above(spans, start);
    struct span *const next = at < spans->free_count ? &spans->free[at] : NULL;
    struct span *const previous = at > 0 ? &spans->free[at - 1] : NULL;
    const int joins_next = next && start + count == next->start;
    const int joins_previous = previous && previous->start + previous->count == start;

    spans->taken_count--;
    if (joins_previous && joins_next) {
        previous->count += count + next->count;
        remove_at(spans, at);
    } else if (joins_previous) {
        previous->count += count;
    } else if (joins_next) {
        next->start = start;
        next->count += count;
    } else {
        memmove(&spans->free[at + 1], &spans->free[at],
                (spans->free_count - at) * sizeof(spans->free[0]));
        spans->free[at] = (struct span){ start, count };
        spans->free_count++;
    }
}

int spans_add(struct spans *spans, uint64_t start, uint64_t count)
{
    const int r = spans_expect(spans, 1);

    if (r < 0)
        return r;
    spans->taken_count++;
    spans_give(spans, start, count);
    return 0;
}

int spans_take_longest(struct spans *spans, uint64_t *ret_start, uint64_t *ret_count)
{
    size_t longest = 0;

    *ret_count = 0;
    if (spans_expect(spans, 1) < 0)
        return -ENOMEM;
    if (spans->free_count == 0)
        return 0;
    for (size_t i = 1; i < spans->free_count; i++) {
        if (spans->free[i].count > spans->free[longest].count)
            longest = i;
    }
    *ret_start = spans->free[longest].start;
    *ret_count = spans->free[longest].count;
    remove_at(spans, longest);
    spans->taken_count++;
    return 0;
}

void spans_forget(struct spans *spans)
{
    spans->taken_count--;
}

uint64_t spans_free(const struct spans *spans)
{
    uint64_t free_count = 0;

    for (size_t i = 0; i < spans->free_count; i++)
        free_count += spans->free[i].count;
    return free_count;
}
