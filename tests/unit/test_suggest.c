/* SPDX-License-Identifier: Apache-2.0 */

#include "base/suggest.h"
#include "check.h"

static const char *const names[] = { "ps", "run", "batch", "events", NULL, "--leases" };

static bool suggests(const char *word, const char *expected)
{
    const char *const found = suggest_nearest(word, names, sizeof(names) / sizeof(names[0]));

    return expected ? found && strcmp(found, expected) == 0 : !found;
}

static void test_a_slip_of_the_finger_is_seen(void)
{
    CHECK(suggests("evnets", "events"));
    CHECK(suggests("sp", "ps"));
    CHECK(suggests("rnu", "run"));
    CHECK(suggests("--leaes", "--leases"));
    CHECK(suggests("batches", "batch"));
    CHECK(suggests("eve", "events"));
}

static void test_a_word_of_its_own_gets_no_suggestion(void)
{
    CHECK(suggests("frobnicate", NULL));
    CHECK(suggests("x", NULL));
    CHECK(suggests("", NULL));
    CHECK(suggests("events-events-events-events-events-events-events-events", NULL));
}

TESTS(TEST(test_a_slip_of_the_finger_is_seen), TEST(test_a_word_of_its_own_gets_no_suggestion))
