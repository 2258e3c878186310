/* SPDX-License-Identifier: Apache-2.0 */

/* Traces are read as written, a job with the bursts below it; a recording writes what is read back,
 * whatever it was told. */

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/size.h"
#include "check.h"
#include "sim/recording.h"
#include "sim/sim.h"
#include "sim/trace.h"

static void test_a_line_is_read_as_written(void)
{
    struct sim_item item;

    CHECK(sim_trace_parse("1.5s job chat resident=5.2GiB burst=2.1GiB gpu=0 priority=interactive "
                          "wait=10m load=2s run=5m busy=800ms idle=2s pin # a comment",
                          &item, NULL) == 1);
    CHECK_EQ_U64(item.at_ms, 1500);
    CHECK(strcmp(item.job.claim.name, "chat") == 0 && item.job.claim.is_pinned);
    CHECK_EQ_U64(item.job.claim.priority, CLAIM_PRIORITY_INTERACTIVE);
    CHECK_EQ_U64(item.job.wait_ms, 600000);
    CHECK_EQ_U64(item.job.busy_ms, 800);
    CHECK(sim_trace_parse("15m foreign gpu=1 2GiB", &item, NULL) == 1);
    CHECK_EQ_U64(item.kind, SIM_ITEM_FOREIGN);
    CHECK_EQ_U64(item.foreign_bytes, 2 * GIB);
    CHECK(sim_trace_parse("  # nothing", &item, NULL) == 0);
    CHECK(sim_trace_parse("", &item, NULL) == 0);
}

static void test_a_wrong_line_says_what_is_wrong(void)
{
    static const char *const wrong[][2] = {
        { "job a resident=1GiB", "'job' is not a duration" },
        { "1s walk", "after the time write job, foreign or gpu" },
        { "1s job a", "needs resident" },
        { "1s job resident=1GiB", "needs a name" },
        { "1s job a resident=1", "what?" },
        { "1s job a residnt=1GiB", "did you mean resident?" },
        { "1s job a resident", "resident needs a value" },
        { "1s job a resident=1GiB pin=1", "pin takes no value" },
        { "1s job a resident=1GiB gpu=-1", "is no gpu" },
        { "1s job a resident=1GiB priority=high", "priority=high" },
        { "1s job a resident=1GiB resident=1GiB", "resident is there twice" },
        { "1s job a resident=99TiB", "more than 64 TiB" },
        { "1s foreign 2GiB", "foreign gpu=0 2GiB" },
        { "1s foreign gpu=any 2GiB", "is on one of them" },
        { "1s foreign gpu=0 2GiB more", "foreign gpu=0 2GiB" },
        { "0s gpu 0 12GiB", "reserve=800MiB" },
        { "0s gpu 0 1GiB reserve=2GiB", "leaves nothing" },
        { "0s gpu any 1GiB reserve=0", "is no gpu" },
        { "burst for=1s", "needs after" },
        { "burst after=1s", "needs for" },
        { "burst after=1s for=1s of=2", "knows after, for, bytes and wait" },
        { "end after=1s for=1s", "write end after" },
        { "burst 1s", "NAME=VALUE" },
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct error err = { 0 };
        struct sim_item item;

        CHECK(sim_trace_parse(wrong[i][0], &item, &err) < 0);
        if (!strstr(err.message, wrong[i][1]))
            printf("# %s: %s\n", wrong[i][0], err.message);
        CHECK(strstr(err.message, wrong[i][1]));
    }
}

struct text {
    char bytes[1 << 20];
    size_t length, at;
    char line[2048];
};

static int text_line(void *context, const char **ret_line, struct error *err)
{
    struct text *text = context;
    size_t length = strcspn(text->bytes + text->at, "\n");

    (void)err;
    if (text->at >= text->length)
        return 0;
    CHECK(length < sizeof(text->line));
    memcpy(text->line, text->bytes + text->at, length);
    text->line[length] = '\0';
    text->at += length + 1;
    *ret_line = text->line;
    return 1;
}

static struct text *text_of(const char *bytes)
{
    static struct text text;

    text.length = strlen(bytes);
    text.at = 0;
    memcpy(text.bytes, bytes, text.length + 1);
    return &text;
}

static void test_a_job_has_the_bursts_below_it(void)
{
    struct sim_trace trace = { .path = "t", .line = text_line, .gpu_count = 1 };
    const struct sim_source source = sim_trace_source(&trace);
    struct sim_item item;

    trace.context = text_of("0s gpu 0 12GiB reserve=0\n"
                            "0s job a resident=1GiB burst=1GiB\n"
                            "# between\n"
                            "burst after=1s for=2s bytes=512MiB wait=3s\n"
                            "  burst after=4s for=5s\n"
                            "  end after=6s\n"
                            "7s job b resident=2GiB\n"
                            "8s foreign gpu=0 0\n");
    CHECK(source.next(source.context, &item, NULL) == 1);
    CHECK_EQ_U64(item.job.burst_count, 2);
    CHECK_EQ_U64(item.job.bursts[0].bytes, 512 * MIB);
    CHECK_EQ_U64(item.job.bursts[0].wait_ms, 3000);
    CHECK_EQ_U64(item.job.bursts[1].after_ms, 4000);
    CHECK_EQ_U64(item.job.bursts[1].for_ms, 5000);
    CHECK_EQ_U64(item.job.bursts[1].wait_ms, CLOCK_NEVER_MS);
    CHECK_EQ_U64(item.job.rest_ms, 6000);
    free(item.job.bursts);
    CHECK(source.next(source.context, &item, NULL) == 1);
    CHECK(item.kind == SIM_ITEM_JOB && !item.job.bursts);
    CHECK_EQ_U64(item.at_ms, 7000);
    CHECK(source.next(source.context, &item, NULL) == 1);
    CHECK(item.kind == SIM_ITEM_FOREIGN);
    CHECK(source.next(source.context, &item, NULL) == 0);
}

static void test_what_is_wrong_is_told_with_its_line(void)
{
    static const char *const wrong[][2] = {
        { "1s job a resident=1GiB\n0s job b resident=1GiB\n", "t:2: times must not go back" },
        { "0s job a resident=1GiB gpu=1\n", "t:1: there is no gpu 1" },
        { "0s job a resident=1GiB\n0s gpu 0 1GiB reserve=0\n", "t:2: gpus come before all else" },
        { "0s gpu 1 1GiB reserve=0\n", "t:1: this is gpu 0, not 1" },
        { "\nend after=1s\n", "t:2: an end without a job" },
        { "0s job a resident=1GiB\nend after=1s\n", "t:2: an end without a job" },
        { "0s job a resident=1GiB\nburst after=1s for=1s\nend after=1s\n", "job a has no burst" },
        { "0s job a resident=1GiB burst=1GiB\nburst after=1s for=1s bytes=2GiB\n", "t:2: more" },
        { "0s job a resident=1GiB burst=1GiB run=1s\nburst after=1s for=1s\nend after=1s\n",
          "one or the other" },
        { "0s job a resident=1GiB burst=1GiB\nburst after=1s for=1s\n", "lack their end" },
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct sim_trace trace = { .path = "t", .line = text_line, .gpu_count = 1 };
        const struct sim_source source = sim_trace_source(&trace);
        struct error err = { 0 };
        struct sim_item item;
        int r;

        trace.context = text_of(wrong[i][0]);
        while ((r = source.next(source.context, &item, &err)) > 0)
            free(item.job.bursts);
        CHECK(r < 0);
        if (!strstr(err.message, wrong[i][1]))
            printf("# %s: %s\n", wrong[i][0], err.message);
        CHECK(strstr(err.message, wrong[i][1]));
    }
}

static struct sim_result play(const char *bytes)
{
    static const struct sim_gpu card = { 12282 * MIB, 800 * MIB };
    struct sim_trace trace = { .path = "t", .line = text_line, .gpu_count = 1 };
    const struct sim_source source = sim_trace_source(&trace);
    struct sim_result result;
    struct error err = { 0 };

    trace.context = text_of(bytes);
    if (sim_run(&sim_policy_brim, &card, 1, &source, &result, &err) != 0)
        printf("# %s\n%s\n", err.message, bytes);
    CHECK(err.code == 0);
    return result;
}

static void test_bursts_come_one_after_the_other_and_a_wait_moves_the_rest(void)
{
    struct sim_result result =
        play("0s job a resident=5GiB burst=5GiB load=0s\n"
             "burst after=1s for=10s\nend after=1s\n"
             "0s job b resident=1GiB burst=5GiB load=0s\n"
             "burst after=2s for=1s wait=3s\nburst after=1s for=2s\nend after=0s\n");

    CHECK_EQ_U64(result.granted, 2);
    CHECK_EQ_U64(result.bursts, 2);
    CHECK_EQ_U64(result.bursts_refused, 1);         /* b at 2 s, until 5 s */
    CHECK_EQ_U64(result.burst_waits.most_ms, 5000); /* b at 6 s, until a's ends at 11 s */
    CHECK_EQ_U64(result.end_ms, 13000);
}

static void test_who_waits_for_ever_is_counted_not_an_error(void)
{
    struct sim_result result = play("0s foreign gpu=0 10GiB\n0s job a resident=5GiB wait=never\n");

    CHECK_EQ_U64(result.stuck, 1);
    CHECK_EQ_U64(result.granted, 0);
}

static int put(void *user, const char *line, struct error *err)
{
    struct text *text = user;

    (void)err;
    text->length += (size_t)snprintf(text->bytes + text->length, sizeof(text->bytes) - text->length,
                                     "%s\n", line);
    return 0;
}

static void told(struct sim_recording *recording, uint64_t at_ms, const char *kind,
                 uint64_t lease_id, const char *words)
{
    const struct sim_step step = {
        .kind = kind, .at_ms = at_ms, .lease_id = lease_id, .name = "a b=c#d", .words = words
    };
    struct error err = { 0 };

    CHECK(sim_recording_step(recording, &step, &err) == 0);
}

static void test_steps_become_a_trace(void)
{
    static struct text text;
    struct sim_recording *recording = NULL;
    struct sim_recording_counts counts;
    struct sim_step gpu = {
        .kind = "gpu", .at_ms = 5000, .bytes = GIB, .words = "reserve=1048576B"
    };
    struct error err = { 0 };

    CHECK(sim_recording_new(put, &text, &recording) == 0);
    CHECK(sim_recording_step(recording, &gpu, &err) == 0);
    told(recording, 5000, "asked", 1, "resident=1048576B burst=1025B wait=never");
    told(recording, 5000, "granted", 1, NULL);
    told(recording, 6000, "ready", 1, NULL);
    told(recording, 7500, "burst", 1, NULL);
    told(recording, 7600, "asked", 0, "resident=2097152B gpu=0 wait=never");
    told(recording, 7600, "refused", 0, NULL);
    CHECK(!strstr(text.bytes, "job")); /* the first is not complete */
    told(recording, 8000, "burst_end", 1, NULL);
    told(recording, 7000, "burst_asked", 1, NULL); /* a clock that went back stands still */
    told(recording, 8500, "burst_refused", 1, NULL);
    told(recording, 9000, "released", 1, NULL);
    told(recording, 9100, "asked", 2, "resident=3145728B load_peak=4194304B pin wait=1500ms");
    told(recording, 9200, "asked", 3, "resident=1B gpu=0,1 wait=0ms");
    CHECK(sim_recording_end(recording, 9300, &err) == 0);
    CHECK(strcmp(text.bytes,
                 "0s       gpu 0 1GiB reserve=1MiB\n"
                 "0s       job a_b_c_d resident=1MiB burst=1025B wait=never load=1s\n"
                 "         burst after=1.500s for=0.500s\n"
                 "         burst after=0s for=0.500s wait=0.500s\n"
                 "         end after=0.500s\n"
                 "2.600s   job a_b_c_d resident=2MiB gpu=0 wait=never  # it did not run\n"
                 "4.100s   job a_b_c_d resident=3MiB load_peak=4MiB pin wait=1.500s"
                 "  # it still waited at the end\n") == 0);
    counts = sim_recording_counts(recording);
    CHECK(counts.jobs == 3 && counts.granted == 1 && counts.refused == 1 && counts.left_out == 1);
    sim_recording_free(recording);
}

static void test_whatever_is_told_is_read_back(void)
{
    static const char *const kinds[] = { "asked",   "granted",   "ready",         "burst_asked",
                                         "burst",   "burst_end", "burst_refused", "released",
                                         "refused", "resized",   "foreign",       "drained" };
    static struct text text;
    struct sim_recording *recording = NULL;
    struct sim_result result;
    struct error err = { 0 };
    uint64_t at_ms = 0;

    srand(1);
    CHECK(sim_recording_new(put, &text, &recording) == 0);
    for (int i = 0; i < 5000; i++) {
        struct sim_step step = { .kind = kinds[(size_t)rand() % (sizeof(kinds) / sizeof(kinds[0]))],
                                 .at_ms = at_ms,
                                 .lease_id = (uint64_t)rand() % 12,
                                 .name = rand() % 2 ? "x" : "",
                                 .words = "resident=1073741824B burst=5368709120B wait=9000ms",
                                 .bytes = (uint64_t)rand() % GIB };

        at_ms += (uint64_t)rand() % 500;
        CHECK(sim_recording_step(recording, &step, &err) == 0);
    }
    CHECK(sim_recording_end(recording, at_ms, &err) == 0);
    result = play(text.bytes);
    CHECK_EQ_U64(result.jobs, sim_recording_counts(recording).jobs);
    CHECK(result.jobs > 100 && result.bursts > 10);
    sim_recording_free(recording);
}

TESTS(TEST(test_a_line_is_read_as_written), TEST(test_a_wrong_line_says_what_is_wrong),
      TEST(test_a_job_has_the_bursts_below_it), TEST(test_what_is_wrong_is_told_with_its_line),
      TEST(test_bursts_come_one_after_the_other_and_a_wait_moves_the_rest),
      TEST(test_who_waits_for_ever_is_counted_not_an_error), TEST(test_steps_become_a_trace),
      TEST(test_whatever_is_told_is_read_back))
