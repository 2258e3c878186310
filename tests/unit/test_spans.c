/* SPDX-License-Identifier: Apache-2.0 */

/* The emulator's books of places and handles. */

#include <errno.h>

#include "check.h"
#include "handles.h"
#include "spans.h"

#define PAGES 500
#define TAKEN 64

struct taken {
    uint64_t start, count;
};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
    return *seed;
}

/* Every page is in a free span or taken, once; free spans lie in order and never touch. */
static void check_books(const struct spans *spans, const struct taken *taken, size_t count)
{
    unsigned char owners[PAGES] = { 0 };

    for (size_t i = 0; i < count; i++) {
        for (uint64_t j = 0; j < taken[i].count; j++)
            owners[taken[i].start + j]++;
    }
    for (size_t i = 0; i < spans->free_count; i++) {
        CHECK(spans->free[i].count > 0);
        CHECK(i == 0 || spans->free[i - 1].start + spans->free[i - 1].count < spans->free[i].start);
        for (uint64_t j = 0; j < spans->free[i].count; j++)
            owners[spans->free[i].start + j]++;
    }
    for (size_t i = 0; i < PAGES; i++)
        CHECK(owners[i] == 1);
}

static void test_every_page_has_one_owner_after_any_step(void)
{
    struct spans spans = { 0 };
    struct taken taken[TAKEN];
    size_t count = 0;
    uint64_t seed = 42;

    CHECK(spans_init(&spans, PAGES) == 0);
    for (int step = 0; step < 20000; step++) {
        const bool is_full = count == TAKEN;
        if (!is_full && (count == 0 || next_random(&seed) % 2 == 0)) {
            struct taken *const more = &taken[count];
            more->count = 1 + next_random(&seed) % 40;
            const int r = spans_take(&spans, more->count, &more->start);
            CHECK(r == 0 || r == -ENOSPC);
            count += r == 0;
        } else {
            const size_t at = (size_t)(next_random(&seed) % count);
            spans_give(&spans, taken[at].start, taken[at].count);
            taken[at] = taken[--count];
        }
        if (step % 16 == 0)
            check_books(&spans, taken, count);
    }
    while (count > 0) {
        count--;
        spans_give(&spans, taken[count].start, taken[count].count);
    }
    CHECK(spans.free_count == 1 && spans.free[0].count == PAGES);
    spans_deinit(&spans);
}

static void test_the_lowest_place_that_is_long_enough_is_taken(void)
{
    struct spans spans = { 0 };
    uint64_t first = 9, second = 9, third = 9;

    CHECK(spans_init(&spans, 10) == 0);
    CHECK(spans_take(&spans, 3, &first) == 0 && first == 0);
    CHECK(spans_take(&spans, 3, &second) == 0 && second == 3);
    spans_give(&spans, 0, 3);
    CHECK(spans_take(&spans, 4, &third) == 0 && third == 6);
    CHECK(spans_take(&spans, 4, &third) == -ENOSPC);
    CHECK(spans_take(&spans, 2, &third) == 0 && third == 0);
    spans_deinit(&spans);
}

static void test_a_handle_that_was_freed_is_never_valid_again_in_its_slot(void)
{
    struct handles handles = { 0 };
    int objects[2] = { 0 };
    void *const first = handle_new(&handles, &objects[0]);

    CHECK(first && handle_get(&handles, first) == &objects[0]);
    handle_free(&handles, first);
    CHECK(handle_get(&handles, first) == NULL);
    for (int i = 0; i < 1000; i++) {
        void *const again = handle_new(&handles, &objects[1]);
        CHECK(again && again != first && handle_get(&handles, again) == &objects[1]);
        CHECK(handle_get(&handles, first) == NULL);
        handle_free(&handles, again);
        handle_free(&handles, again);
    }
    CHECK(handles.slot_count == 1);
    CHECK(handle_get(&handles, NULL) == NULL && handle_get(&handles, &handles) == NULL);
    free(handles.slots);
}

TESTS(TEST(test_every_page_has_one_owner_after_any_step),
      TEST(test_the_lowest_place_that_is_long_enough_is_taken),
      TEST(test_a_handle_that_was_freed_is_never_valid_again_in_its_slot))
