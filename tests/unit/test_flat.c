/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "check.h"
#include "client/flat.h"

static char line[4096];
static struct flat flat;

static int parse(const char *text)
{
    (void)snprintf(line, sizeof(line), "%s", text);
    return flat_parse(line, strlen(line), &flat);
}

static void test_a_segment_is_read_in_place(void)
{
    CHECK(
        parse(
            " {\"segment\": 12, \"id\":\"000012\",\"input\":\"a \\\"b\\\" \\u00e9\\ud83d\\ude00\\n\", "
            "\"out\": \"/o\"} ") == 0);
    CHECK_EQ_U64(flat.count, 4);
    CHECK(strcmp(flat_find(&flat, "segment", FLAT_NUMBER), "12") == 0);
    CHECK(strcmp(flat_find(&flat, "id", FLAT_TEXT), "000012") == 0);
    CHECK(strcmp(flat_find(&flat, "input", FLAT_TEXT), "a \"b\" \xc3\xa9\xf0\x9f\x98\x80\n") == 0);
    CHECK(strcmp(flat_find(&flat, "out", FLAT_TEXT), "/o") == 0);
    CHECK(!flat_find(&flat, "id", FLAT_NUMBER) && !flat_find(&flat, "none", FLAT_TEXT));
}

static void test_a_nested_value_stays_as_it_is(void)
{
    CHECK(parse("{\"input\":{\"a\":[1,{\"b\":\"}\\\"\"}],\"c\":null},\"n\":-1.5e+3,\"t\":true}") ==
          0);
    CHECK(strcmp(flat_find(&flat, "input", FLAT_NESTED),
                 "{\"a\":[1,{\"b\":\"}\\\"\"}],\"c\":null}") == 0);
    CHECK(strcmp(flat_find(&flat, "n", FLAT_NUMBER), "-1.5e+3") == 0);
    CHECK(strcmp(flat_find(&flat, "t", FLAT_WORD), "true") == 0);
    CHECK(parse("{}") == 0 && flat.count == 0);
}

static void test_anything_else_is_refused(void)
{
    static const char *const texts[] = {
        "",
        "{",
        "}",
        "[]",
        "1",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\":1}x",
        "{\"a\":1 \"b\":2}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":-}",
        "{\"a\":1e}",
        "{\"a\":tru}",
        "{\"a\":\"x}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\ude00\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":[}",
        "{\"a\":[1}}",
        "{\"a\":{\"b\":\"}",
        "{\"a\":1,\"a\":2}",
        "{\"1\":1,\"2\":1,\"3\":1,\"4\":1,\"5\":1,\"6\":1,\"7\":1,\"8\":1,\"9\":1}",
    };
    char deep[400] = "{\"a\":";

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (parse(texts[i]) != -EPROTO)
            printf("# taken: %s\n", texts[i]);
        CHECK(parse(texts[i]) == -EPROTO);
    }
    memset(deep + 5, '[', 300);
    CHECK(parse(deep) == -EPROTO);
    (void)snprintf(line, sizeof(line), "{\"a\":1}");
    line[3] = '\0';
    CHECK(flat_parse(line, 7, &flat) == -EPROTO);
}

static void test_texts_are_quoted_for_any_reader(void)
{
    char to[64];

    CHECK_EQ_U64(flat_quote(to, sizeof(to), 0, "a\"\\\n\x1f\xc3\xa9\xff"), 22);
    CHECK(strcmp(to, "\"a\\\"\\\\\\u000a\\u001f\xc3\xa9?\"") == 0);
    CHECK(flat_quote(to, 12, 0, "aaaaaaaaaaaaaaaaaaaaaa") == 0);
    CHECK(flat_quote(to, 2, 0, "") == 0);
    CHECK_EQ_U64(flat_quote(to, sizeof(to), 0, ""), 2);
}

TESTS(TEST(test_a_segment_is_read_in_place), TEST(test_a_nested_value_stays_as_it_is),
      TEST(test_anything_else_is_refused), TEST(test_texts_are_quoted_for_any_reader))
