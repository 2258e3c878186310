/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/output.h"
#include "batch/progress.h"
#include "batch/template.h"
#include "check.h"

static const struct progress_facts facts = {
    .name = "narrate",
    .total = 600,
    .done = 312,
    .done_now = 310,
    .elapsed_ms = 100000,
    .workers = 2,
};

static void expect_text(const char *text, const char *expected)
{
    if (strcmp(text, expected) != 0)
        printf("# got: %s\n", text);
    CHECK(strcmp(text, expected) == 0);
}

static void test_a_line_tells_how_far_and_how_long(void)
{
    char text[PROGRESS_TEXT_BYTES];
    struct progress_facts slow = facts;

    expect_text(progress_line(&facts, text), "312 of 600 done, 2 workers, 3.1/s, 1 m 32 s left");
    slow.done_now = 0;
    slow.workers = 1;
    slow.failed = 3;
    expect_text(progress_line(&slow, text), "312 of 600 done, 3 set aside, 1 worker");
    slow.done_now = 2;
    slow.elapsed_ms = 3600000;
    expect_text(progress_line(&slow, text),
                "312 of 600 done, 3 set aside, 1 worker, 2.0/h, 142 h 30 m left");
}

static void test_a_bar_never_is_wider_than_the_terminal(void)
{
    char text[PROGRESS_TEXT_BYTES];
    struct progress_facts waits = facts;

    expect_text(progress_bar(&facts, 78, text),
                "narrate [==============>             ] 312/600  2 workers  3.1/s  ETA 1 m 32 s");
    waits.waits_for = "waiting for m\xc3\xa9mory";
    for (unsigned width = 20; width < 200; width++) {
        size_t columns = 0;
        (void)progress_bar(&waits, width, text);
        for (const char *at = text; *at; at++)
            columns += ((unsigned char)*at & 0xc0) != 0x80;
        CHECK(columns <= width);
    }
}

static void expect_expanded(const char *text, const char *expected)
{
    const struct template_values values = { .segment = "000012", .input = "${OUT}", .out = "/o" };
    char *result = template_expand(text, &values);

    expect_text(result, expected);
    free(result);
}

static void test_values_are_put_in_once(void)
{
    expect_expanded("out/${SEGMENT}.wav", "out/000012.wav");
    expect_expanded("${INPUT} ${OUT}${OUT}", "${OUT} /o/o");
    expect_expanded("$SEGMENT ${HOME} ${SEGMENT", "$SEGMENT ${HOME} ${SEGMENT");
    expect_expanded("", "");
}

static void expect_path(char *path, const char *expected)
{
    expect_text(path, expected);
    free(path);
}

static void test_an_attempt_lies_beside_its_result(void)
{
    expect_path(output_path("/o/${SEGMENT}.wav", 12), "/o/000012.wav");
    expect_path(output_path("/o/${SEGMENT}", 12345678), "/o/12345678");
    expect_path(output_attempt_path("/o/000012.wav", 3), "/o/.000012.attempt-3.wav");
    expect_path(output_attempt_path("/o.d/000012", 1), "/o.d/.000012.attempt-1");
    expect_path(output_attempt_path("/o/.hidden", 1), "/o/..hidden.attempt-1");
    expect_path(output_old_path("/o/000012.wav", 2), "/o/000012.old-2.wav");
}

TESTS(TEST(test_a_line_tells_how_far_and_how_long),
      TEST(test_a_bar_never_is_wider_than_the_terminal), TEST(test_values_are_put_in_once),
      TEST(test_an_attempt_lies_beside_its_result))
