/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_SPANS_H
#define EMU_SPANS_H

#include <stddef.h>
#include <stdint.h>

/*
 * The free spans of a range of pages: who takes gets the lowest place that is long enough, who
 * gives back makes neighbours one again. The server keeps one over each memfd, each library one
 * over its device addresses.
 */

struct span {
    uint64_t start, count;
};

struct spans {
    struct span *free; /* owned; by start, never adjacent */
    size_t free_count, free_room;
    size_t taken_count;
};

/* All of 0 … count-1 is free; count may be 0. -ENOMEM. */
int spans_init(struct spans *spans, uint64_t count);
void spans_deinit(struct spans *spans);

/* -ENOSPC where no span is long enough, -ENOMEM. */
int spans_take(struct spans *spans, uint64_t count, uint64_t *ret_start);

/* So many more will be taken, by parts: room for giving them back. -ENOMEM. */
int spans_expect(struct spans *spans, size_t more);
/* A span that was nobody's so far is free. -ENOMEM. */
int spans_add(struct spans *spans, uint64_t start, uint64_t count);
/* The longest free span is taken; *ret_count 0: none is free. -ENOMEM. */
int spans_take_longest(struct spans *spans, uint64_t *ret_start, uint64_t *ret_count);
/* A span that was taken does not come back. */
void spans_forget(struct spans *spans);
/* How much is free. */
uint64_t spans_free(const struct spans *spans);

/* Never fails: the room it may need was set aside when the span was taken. */
void spans_give(struct spans *spans, uint64_t start, uint64_t count);

#endif
