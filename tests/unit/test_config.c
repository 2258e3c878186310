/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "check.h"
#include "config/config.h"

#define WHOLE                                                                                      \
    "batches:\n"                                                                                   \
    "  narrate:\n"                                                                                 \
    "    command: [python, worker.py]\n"                                                           \
    "    input: { lines: book.txt }\n"                                                             \
    "    output: out/${SEGMENT}.wav\n"

static int parse(const char *text, struct stack *stack, struct error *err)
{
    return config_parse(text, strlen(text), "brim.yaml", "/home/me/book", stack, err);
}

static void expect_error(const char *text, const char *message)
{
    struct stack stack = { 0 };
    struct error err = { 0 };

    CHECK(parse(text, &stack, &err) == -EINVAL);
    if (strcmp(err.message, message) != 0)
        printf("# got: %s\n", err.message);
    CHECK(strcmp(err.message, message) == 0);
    CHECK(stack.batches == NULL);
}

static void test_the_whole_of_a_batch_is_read(void)
{
    struct stack stack = { 0 };
    struct error err = { 0 };

    const int r = parse(WHOLE "    vram: { resident: 5.5GB, burst: 2.1GB, load_peak: 6GB }\n"
                              "    workers: 1..3\n"
                              "    flush: { every: 50, by: worker, on_growth: 10% }\n"
                              "    retries: 3\n"
                              "    protocol: stdio\n"
                              "    timeout: 5m\n"
                              "    heartbeat: 30s\n"
                              "    env: { HF_HOME: /models, N: 3 }\n"
                              "    priority: background\n"
                              "    gpu: \"0\"\n",
                        &stack, &err);
    CHECK(r == 0);
    CHECK_EQ_U64(stack.batch_count, 1);
    const struct stack_batch *batch = stack_find_batch(&stack, "narrate");
    CHECK(batch && !stack_find_batch(&stack, "narr"));
    CHECK(strcmp(batch->command[0], "python") == 0 && strcmp(batch->command[1], "worker.py") == 0 &&
          !batch->command[2]);
    CHECK(batch->input == STACK_INPUT_LINES);
    CHECK(strcmp(batch->input_path, "/home/me/book/book.txt") == 0);
    CHECK(strcmp(batch->output, "/home/me/book/out/${SEGMENT}.wav") == 0);
    CHECK(strcmp(batch->dir, "/home/me/book") == 0);
    CHECK_EQ_U64(batch->resident_bytes, 5500000000);
    CHECK_EQ_U64(batch->burst_bytes, 2100000000);
    CHECK_EQ_U64(batch->load_peak_bytes, 6000000000);
    CHECK_EQ_U64(batch->workers_min, 1);
    CHECK_EQ_U64(batch->workers_max, 3);
    CHECK_EQ_U64(batch->flush_every, 50);
    CHECK(batch->flush_by == STACK_FLUSH_WORKER);
    CHECK_EQ_U64(batch->flush_growth_pct, 10);
    CHECK_EQ_U64(batch->retries, 3);
    CHECK(batch->protocol == STACK_PROTOCOL_STDIO);
    CHECK_EQ_U64(batch->timeout_ms, 300000);
    CHECK_EQ_U64(batch->heartbeat_ms, 30000);
    CHECK(strcmp(batch->env[0], "HF_HOME=/models") == 0 && strcmp(batch->env[1], "N=3") == 0);
    CHECK(batch->priority == STACK_PRIORITY_BACKGROUND);
    CHECK(strcmp(batch->gpu, "0") == 0);
    stack_deinit(&stack);
}

static void test_defaults_are_auto_and_two_retries(void)
{
    struct stack stack = { 0 };

    CHECK(parse(WHOLE "    vram: 5.5GB\n", &stack, NULL) == 0);
    CHECK_EQ_U64(stack.batches[0].resident_bytes, 5500000000);
    CHECK_EQ_U64(stack.batches[0].workers_min, 1);
    CHECK_EQ_U64(stack.batches[0].workers_max, STACK_WORKER_MAX);
    CHECK_EQ_U64(stack.batches[0].retries, 2);
    stack_deinit(&stack);
}

static void test_an_unknown_key_says_where_and_what_was_meant(void)
{
    expect_error(WHOLE "    vram: { resident: 5.5GB, burts: 2.1GB }\n",
                 "brim.yaml:6:30: unknown key 'burts'; did you mean 'burst'?");
    expect_error(WHOLE "    comand: [a]\n",
                 "brim.yaml:6:5: unknown key 'comand'; did you mean 'command'?");
    expect_error("batches:\n  a:\n    flush: { colour: blue }\n",
                 "brim.yaml:3:14: unknown key 'colour'; flush has: every, by, on_growth");
    expect_error("batch: 1\n", "brim.yaml:1:1: unknown key 'batch'; did you mean 'batches'?");
}

static void test_a_repeated_key_is_refused(void)
{
    expect_error(WHOLE "    vram: 1GB\n    vram: 2GB\n",
                 "brim.yaml:7:5: 'vram' stands here a second time; keep one of them");
    expect_error(WHOLE "    vram: 1GB\n  narrate:\n    vram: 2GB\n",
                 "brim.yaml:7:3: 'narrate' stands here a second time; keep one of them");
    expect_error(WHOLE "    env: { A: 1, AB: 2, A: 3 }\n",
                 "brim.yaml:6:25: 'A' stands here a second time; keep one of them");
}

static void test_sizes_and_numbers_need_their_form(void)
{
    expect_error(WHOLE "    vram: 12\n", "brim.yaml:6:11: vram: 12 what? write 12GiB or 12GB");
    expect_error(WHOLE "    timeout: 5\n", "brim.yaml:6:14: timeout: 5 what? write 5s or 5m");
    expect_error(WHOLE "    retries: two\n",
                 "brim.yaml:6:14: retries: 'two' is not a whole number");
    expect_error(
        WHOLE "    workers: 3..1\n",
        "brim.yaml:6:14: workers: '3..1' is not auto, a number or a range like 1..3 (1 to 64)");
    expect_error(WHOLE "    flush: { on_growth: 10 }\n",
                 "brim.yaml:6:25: on_growth: '10' is not a share; write it like 10%");
    expect_error(WHOLE "    protocol: http\n",
                 "brim.yaml:6:15: protocol: 'http' is not fd, stdio or each");
}

static void test_wrong_types_name_the_key(void)
{
    expect_error("batches:\n  a:\n    command: python worker.py\n",
                 "brim.yaml:3:14: 'command' must be a list like [program, argument], not a text");
    expect_error("batches:\n  a:\n    retries: [2]\n",
                 "brim.yaml:3:5: 'retries' must be a whole number, not a list");
    expect_error("batches:\n  a:\n    output:\n",
                 "brim.yaml:3:5: 'output' must be a path, not empty");
    expect_error("batches: [a]\n",
                 "brim.yaml:1:1: 'batches' must be names, each with a batch below it");
    expect_error("batches:\n  a: 3\n", "brim.yaml:2:6: a batch must be keys and values");
    expect_error("- a\n", "brim.yaml: brim.yaml must be keys and values");
}

static void test_what_is_missing_is_named(void)
{
    expect_error(WHOLE, "brim.yaml:2:3: batch 'narrate' does not say how much gpu memory a worker "
                        "holds; write vram: { resident: 5.5GB } or --vram 5.5GB");
    expect_error("batches:\n  a/b:\n    vram: 1GB\n",
                 "brim.yaml:2:3: 'a/b' cannot be a name: 1 to 63 letters, digits, '.', '_' or '-', "
                 "not starting with '.' or '-'");
    expect_error(
        "batches:\n  a:\n    command: [x]\n    input: { lines: i }\n    output: same.wav\n"
        "    vram: 1GB\n",
        "brim.yaml:2:3: batch 'a': the output '/home/me/book/same.wav' is the same for every "
        "segment; put ${SEGMENT} into it");
    expect_error(
        "batches:\n  a:\n    command: [x]\n    input: { lines: i }\n"
        "    output: ${SEGMENT}/\n    vram: 1GB\n",
        "brim.yaml:2:3: batch 'a': the output '/home/me/book/${SEGMENT}/' names a directory; each "
        "segment gets one file: ${SEGMENT}.wav");
}

static void test_broken_yaml_keeps_its_place(void)
{
    struct stack stack = { 0 };
    struct error err = { 0 };

    CHECK(parse("batches:\n  a: [1,\n", &stack, &err) == -EINVAL);
    CHECK(strncmp(err.message, "brim.yaml:3:1: ", 15) == 0);
    expect_error("", "brim.yaml is empty; it needs at least batches: with one batch in it");
    expect_error("a: 1\n---\nb: 2\n", "brim.yaml holds a second document behind '---'; keep one");
    expect_error("batches:\n  a: &x\n    retries: 2\n  b: *x\n",
                 "brim.yaml:2:3: batch 'a' has no command; write command: [program, argument], or "
                 "put it behind --");
    expect_error(
        "batches: {\"a\\nb\\e[2J\": {}}\n",
        "brim.yaml:1:12: 'a?b?[2J' cannot be a name: 1 to 63 letters, digits, '.', '_' or '-', not starting with '.' or '-'");
    expect_error("a: 1\n%TAG x\n",
                 "brim.yaml:2:1: a line that begins with '%' is a YAML directive; take it out");
    expect_error("batches: *x\n",
                 "brim.yaml:1:11: 'batches': anchors and aliases are not read here; write it out");
}

TESTS(TEST(test_the_whole_of_a_batch_is_read), TEST(test_defaults_are_auto_and_two_retries),
      TEST(test_an_unknown_key_says_where_and_what_was_meant), TEST(test_a_repeated_key_is_refused),
      TEST(test_sizes_and_numbers_need_their_form), TEST(test_wrong_types_name_the_key),
      TEST(test_what_is_missing_is_named), TEST(test_broken_yaml_keeps_its_place))
