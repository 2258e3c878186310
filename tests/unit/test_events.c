/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "api/api.h"
#include "check.h"

static uint64_t append(struct events *events, const char *name, const char *text)
{
    return events_append(
        events, &(struct event){ .kind = "granted", .name = name, .gpu = 0, .text = text });
}

static void test_numbers_go_on_where_the_last_daemon_stopped(void)
{
    struct events *events = NULL;

    CHECK(events_new(41, &events) == 0);
    CHECK(events_first(events) > events_last(events));
    CHECK_EQ_U64(append(events, "a", NULL), 41);
    CHECK_EQ_U64(append(events, "b", NULL), 42);
    CHECK_EQ_U64(events_first(events), 41);
    CHECK_EQ_U64(events_last(events), 42);
    events_free(events);
}

static void test_the_ring_keeps_the_newest(void)
{
    struct events *events = NULL;
    uint64_t number = 0;
    json_t *json = NULL;

    CHECK(events_new(1, &events) == 0);
    for (int i = 0; i < EVENTS_RING_COUNT + 10; i++)
        CHECK(append(events, "a", "text") > 0);
    CHECK_EQ_U64(events_first(events), 11);
    CHECK(events_next(events, 0, &number, &json) == 0);
    CHECK_EQ_U64(number, 11);
    json_decref(json);
    CHECK(events_next(events, events_last(events), &number, &json) == -ENOENT);
    CHECK(events_next(events, UINT64_MAX, &number, &json) == -ENOENT);
    events_free(events);
}

static void test_restored_events_keep_their_numbers_and_gaps(void)
{
    const struct event old = { .kind = "refused", .gpu = -1 };
    struct events *events = NULL;
    uint64_t number = 0;
    json_t *json = NULL;

    CHECK(events_new(1, &events) == 0);
    CHECK(events_restore(events, 5, 1000, &old) == 0);
    CHECK(events_restore(events, 9, 2000, &old) == 0);
    CHECK(events_restore(events, 9, 2000, &old) == -EINVAL);
    CHECK_EQ_U64(append(events, NULL, NULL), 10);
    CHECK(events_next(events, 5, &number, &json) == 0);
    CHECK_EQ_U64(number, 9);
    CHECK(json_integer_value(json_object_get(json, "at_unix_ms")) == 2000);
    CHECK(json_is_null(json_object_get(json, "name")));
    json_decref(json);
    events_free(events);
}

static void test_text_that_is_no_utf8_is_shown_all_the_same(void)
{
    struct events *events = NULL;
    uint64_t number = 0;
    json_t *json = NULL;

    CHECK(events_new(1, &events) == 0);
    CHECK(append(events, "caf\xc3\xa9 \xff\xc0\xaf", "\xed\xa0\x80 cut \xe2\x82") == 1);
    CHECK(events_next(events, 0, &number, &json) == 0);
    CHECK(strcmp(json_string_value(json_object_get(json, "name")), "caf\xc3\xa9 ???") == 0);
    CHECK(strcmp(json_string_value(json_object_get(json, "text")), "??? cut ??") == 0);
    json_decref(json);
    events_free(events);
}

static void count(void *user)
{
    (*(int *)user)++;
}

static void test_listeners_hear_of_each_append_until_they_leave(void)
{
    struct events *events = NULL;
    int first = 0, second = 0;

    CHECK(events_new(1, &events) == 0);
    events_listen(events, count, &first);
    events_listen(events, count, &second);
    events_listen(events, count, &second);
    CHECK(append(events, NULL, NULL) == 1);
    events_listen(events, NULL, &first);
    CHECK(append(events, NULL, NULL) == 2);
    CHECK(first == 1 && second == 2);
    events_free(events);
}

static void test_the_newest_are_counted_over_a_gap(void)
{
    struct events *events = NULL;

    CHECK(events_new(1, &events) == 0);
    CHECK(events_since_newest(events, 20) == 0);
    CHECK(append(events, NULL, NULL) == 1);
    CHECK(append(events, NULL, NULL) == 2);
    events_skip(events, 1000);
    CHECK(append(events, NULL, NULL) == 1003);
    CHECK(events_since_newest(events, 0) == 1003);
    CHECK(events_since_newest(events, 1) == 1002);
    CHECK(events_since_newest(events, 2) == 1);
    CHECK(events_since_newest(events, 20) == 0);
    events_free(events);
}

TESTS(TEST(test_numbers_go_on_where_the_last_daemon_stopped), TEST(test_the_ring_keeps_the_newest),
      TEST(test_the_newest_are_counted_over_a_gap),
      TEST(test_restored_events_keep_their_numbers_and_gaps),
      TEST(test_text_that_is_no_utf8_is_shown_all_the_same),
      TEST(test_listeners_hear_of_each_append_until_they_leave))
