/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "batch/answer.h"
#include "check.h"

static int parse(const char *line, struct answer *answer, struct error *err)
{
    return answer_parse(line, strlen(line), answer, err);
}

static void expect_request(char *line, const char *expected)
{
    CHECK(line != NULL);
    if (strcmp(line, expected) != 0)
        printf("# got: %s", line);
    CHECK(strcmp(line, expected) == 0);
    free(line);
}

static void test_every_answer_is_read(void)
{
    struct answer answer = { 0 };

    CHECK(parse("{\"ready\": true, \"flush\": true, \"heartbeat\": true, \"asks\": true}", &answer,
                NULL) == 0);
    CHECK(answer.kind == ANSWER_READY && answer.can_flush && answer.has_heartbeat && answer.asks);
    CHECK(parse("{\"ready\": true}", &answer, NULL) == 0);
    CHECK(answer.kind == ANSWER_READY && !answer.can_flush && !answer.asks);
    CHECK(parse("{\"burst\": 2254857830}", &answer, NULL) == 0);
    CHECK(answer.kind == ANSWER_BURST);
    CHECK_EQ_U64(answer.number, 2254857830);
    CHECK(parse("{\"done\": 12}", &answer, NULL) == 0);
    CHECK(answer.kind == ANSWER_DONE && answer.number == 12);
    CHECK(parse("{\"failed\": 12, \"reason\": \"no\\nspeech\"}", &answer, NULL) == 0);
    CHECK(answer.kind == ANSWER_FAILED && strcmp(answer.reason, "no speech") == 0);
    CHECK(parse("{\"failed\": 12}", &answer, NULL) == 0 && answer.reason[0] == '\0');
    CHECK(parse("{\"heartbeat\": 1}", &answer, NULL) == 0 && answer.kind == ANSWER_HEARTBEAT);
    CHECK(parse("{\"flushed\": false}", &answer, NULL) == 0 && !answer.is_good);
    CHECK(parse("{\"ready\": true, \"later\": [1]}", &answer, NULL) == 0);
}

static void test_anything_else_is_refused_and_left_alone(void)
{
    static const char *const lines[] = {
        "",
        "Loading model...",
        "[]",
        "12",
        "{}",
        "{\"done\": \"12\"}",
        "{\"done\": -1}",
        "{\"done\": 1.5}",
        "{\"done\": 1, \"done\": 2}",
        "{\"done\": 1, \"failed\": 1}",
        "{\"done\": 1} {\"done\": 2}",
        "{\"done\": 99999999999999999999}",
        "{\"failed\": 1, \"reson\": \"x\"}",
        "{\"failed\": 1, \"reason\": 3}",
        "{\"ready\": false}",
        "{\"ready\": true, \"flush\": 1}",
        "{\"flushed\": 1}",
        "{\"segment\": 1}",
    };
    struct answer answer = { .number = 7 };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        CHECK(parse(lines[i], &answer, NULL) == -EPROTO);
    CHECK(answer_parse("{\"done\": 1}\0", 12, &answer, NULL) == -EPROTO);
    CHECK_EQ_U64(answer.number, 7);
}

static void test_a_refusal_shows_the_line_harmlessly(void)
{
    struct answer answer;
    struct error err = { 0 };
    char line[200];

    CHECK(parse("\033[31mLoading", &answer, &err) == -EPROTO);
    CHECK(strcmp(err.message, "a line that is no JSON: '?[31mLoading'") == 0);
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    CHECK(parse(line, &answer, &err) == -EPROTO);
    CHECK(strlen(err.message) < 100 && strstr(err.message, "xxx...'") != NULL);
}

static void test_requests_are_one_line_each(void)
{
    expect_request(request_segment(12, "000012", "say \"hi\"\tnow", false, "/o/.000012.attempt-1"),
                   "{\"segment\":12,\"id\":\"000012\",\"input\":\"say \\\"hi\\\"\\tnow\","
                   "\"out\":\"/o/.000012.attempt-1\"}\n");
    expect_request(request_segment(0, "000000", "{\"text\": \"a\"}", true, "/o"),
                   "{\"segment\":0,\"id\":\"000000\",\"input\":{\"text\":\"a\"},\"out\":\"/o\"}\n");
    expect_request(request_granted(2254857830), "{\"granted\":2254857830}\n");
    expect_request(request_refused("no\nroom"), "{\"refused\":\"no\\nroom\"}\n");
    expect_request(request_flush(), "{\"flush\":1}\n");
    expect_request(request_stop("the batch ends"), "{\"stop\":\"the batch ends\"}\n");
}

TESTS(TEST(test_every_answer_is_read), TEST(test_anything_else_is_refused_and_left_alone),
      TEST(test_a_refusal_shows_the_line_harmlessly), TEST(test_requests_are_one_line_each))
