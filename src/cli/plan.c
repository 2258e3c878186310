/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "gpus/gpus.h"
#include "sim/sim.h"

/*
 * brim plan: a workload played through the code that grants memory, on any cards, and through two
 * simpler policies beside it. It needs no gpu and no daemon; the same input gives the same figures.
 */

enum {
    OPTION_ARRIVALS,
    OPTION_TRACE,
    OPTION_GPU,
    OPTION_RESERVE,
    OPTION_LOAD,
    OPTION_SEED,
    OPTION_JSON
};

static const struct option_spec specs[] = {
    [OPTION_ARRIVALS] = { 0, "arrivals", "N", "generate N jobs that arrive at random" },
    [OPTION_TRACE] = { 0, "trace", "FILE", "play the jobs of this file" },
    [OPTION_GPU] = { 0, "gpu", "CARD", "a card (rtx4070ti) or a size (24GiB); may be repeated" },
    [OPTION_RESERVE] = { 0, "reserve", "SIZE", "what is never granted on each (800MiB)" },
    [OPTION_LOAD] = { 0, "load", "PCT", "--arrivals: how full they would be without waits (60)" },
    [OPTION_SEED] = { 0, "seed", "N", "--arrivals: other random jobs (1)" },
    [OPTION_JSON] = { 0, "json", NULL, "figures for programs" },
};

static const struct sim_policy *const policies[] = { &sim_policy_brim, &sim_policy_fcfs,
                                                     &sim_policy_largest };
#define POLICY_COUNT (sizeof(policies) / sizeof(policies[0]))

struct wish {
    const char *trace; /* NULL: arrivals */
    uint64_t arrivals, load_pct, seed, reserve_bytes;
    struct sim_gpu gpus[SIM_GPU_MAX];
    struct gpu_profile profiles[SIM_GPU_MAX];
    uint32_t gpu_count;
    bool is_json;
};

struct trace {
    const char *path;
    FILE *file; /* owned */
    char *line; /* owned */
    size_t line_room, number;
    uint64_t last_ms;
    uint32_t gpu_count;
};

static int trace_check(struct trace *trace, const struct sim_item *item, struct error *err)
{
    uint32_t gpu = item->kind == SIM_ITEM_JOB ? item->job.claim.parts[0].gpu : item->gpu;

    if (item->at_ms < trace->last_ms)
        return error_set(err, -EINVAL, "times must not go back");
    if (gpu != CLAIM_GPU_ANY && gpu >= trace->gpu_count)
        return error_set(err, -EINVAL, "there is no gpu %" PRIu32 "; name more by --gpu", gpu);
    trace->last_ms = item->at_ms;
    return 1;
}

static int trace_next(void *context, struct sim_item *ret_item, struct error *err)
{
    struct trace *trace = context;
    char where[512];
    int r = 0;

    while (r == 0 && getline(&trace->line, &trace->line_room, trace->file) >= 0) {
        trace->number++;
        r = sim_trace_parse(trace->line, ret_item, err);
        if (r > 0)
            r = trace_check(trace, ret_item, err);
    }
    if (r == 0 && ferror(trace->file))
        return error_set(err, -EIO, "cannot read %s", trace->path);
    if (r < 0) {
        (void)snprintf(where, sizeof(where), "%s:%zu", trace->path, trace->number);
        error_wrap(err, where);
    }
    return r;
}

static int play_trace(const struct wish *wish, const struct sim_policy *policy,
                      struct sim_result *result, struct error *err)
{
    struct trace trace = { .path = wish->trace, .gpu_count = wish->gpu_count };
    const struct sim_source source = { .next = trace_next, .context = &trace };
    int r;

    trace.file = fopen(wish->trace, "re");
    if (!trace.file)
        return error_set(err, -errno, "cannot open %s: %s", wish->trace, strerrordesc_np(errno));
    r = sim_run(policy, wish->gpus, wish->gpu_count, &source, result, err);
    free(trace.line);
    (void)fclose(trace.file);
    return r;
}

static int play(const struct wish *wish, const struct sim_policy *policy, struct sim_result *result,
                struct error *err)
{
    struct sim_arrivals arrivals;
    struct sim_source source;

    if (wish->trace)
        return play_trace(wish, policy, result, err);
    sim_arrivals_init(&arrivals, wish->gpus, wish->gpu_count, wish->arrivals,
                      (uint32_t)wish->load_pct, wish->seed);
    source = sim_arrivals_source(&arrivals);
    return sim_run(policy, wish->gpus, wish->gpu_count, &source, result, err);
}

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static json_t *times_json(const struct sim_times *times)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "count", (json_int_t)times->count, "p50_ms",
                     (json_int_t)sim_times_per_mille(times, 500), "p99_ms",
                     (json_int_t)sim_times_per_mille(times, 990), "worst_ms",
                     (json_int_t)times->most_ms);
}

static json_t *result_json(const struct sim_policy *policy, const struct sim_result *result,
                           double taken_s)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:I, s:f, s:I, s:f}",
                     "policy", sim_policy_name(policy), "jobs", (json_int_t)result->jobs, "granted",
                     (json_int_t)result->granted, "never_fit", (json_int_t)result->never_fit,
                     "gave_up", (json_int_t)result->gave_up, "evicted", (json_int_t)result->evicted,
                     "bursts", (json_int_t)result->bursts, "bursts_refused",
                     (json_int_t)result->bursts_refused, "overfull", (json_int_t)result->overfull,
                     "waits", times_json(&result->waits), "burst_waits",
                     times_json(&result->burst_waits), "worst_passed",
                     (json_int_t)result->worst_passed, "used_pct", result->used_pct, "events",
                     (json_int_t)result->events, "events_per_s",
                     taken_s > 0.0 ? (double)result->events / taken_s : 0.0);
}

struct row {
    char cells[TABLE_COLUMN_MAX][32];
};

static int add_row(struct table *table, const struct sim_policy *policy,
                   const struct sim_result *result)
{
    const char *cells[TABLE_COLUMN_MAX];
    struct row row;
    uint64_t waits[] = { sim_times_per_mille(&result->waits, 500),
                         sim_times_per_mille(&result->waits, 990), result->waits.most_ms };
    size_t at = 0;

    (void)snprintf(row.cells[at++], sizeof(row.cells[0]), "%s", sim_policy_name(policy));
    (void)snprintf(row.cells[at++], sizeof(row.cells[0]), "%" PRIu64, result->granted);
    for (size_t i = 0; i < 3; i++)
        (void)duration_format(waits[i], row.cells[at++]);
    (void)snprintf(row.cells[at++], sizeof(row.cells[0]), "%" PRIu64, result->worst_passed);
    (void)snprintf(row.cells[at++], sizeof(row.cells[0]), "%" PRIu64,
                   result->gave_up + result->never_fit);
    (void)snprintf(row.cells[at++], sizeof(row.cells[0]), "%" PRIu64, result->evicted);
    (void)snprintf(row.cells[at++], sizeof(row.cells[0]), "%" PRIu64, result->overfull);
    (void)snprintf(row.cells[at++], sizeof(row.cells[0]), "%.1f %%", result->used_pct);
    for (size_t i = 0; i < at; i++)
        cells[i] = row.cells[i];
    return table_add(table, cells);
}

static void print_head(const struct wish *wish)
{
    char capacity[SIZE_TEXT_BYTES], reserve[SIZE_TEXT_BYTES];

    for (uint32_t i = 0; i < wish->gpu_count; i++)
        printf("gpu %" PRIu32 "  %s, %s, reserve %s\n", i, wish->profiles[i].product,
               size_format(wish->gpus[i].capacity_bytes, capacity),
               size_format(wish->gpus[i].reserve_bytes, reserve));
    printf("\n");
}

static void print_tail(const struct sim_result *brim, double taken_s)
{
    char length[DURATION_TEXT_BYTES], p50[DURATION_TEXT_BYTES], p99[DURATION_TEXT_BYTES];

    printf("\n%" PRIu64 " jobs in %s; brim: %" PRIu64 " bursts waited %s (p50), %s (p99)\n",
           brim->jobs, duration_format(brim->end_ms, length), brim->bursts,
           duration_format(sim_times_per_mille(&brim->burst_waits, 500), p50),
           duration_format(sim_times_per_mille(&brim->burst_waits, 990), p99));
    printf("fcfs: first come first served; largest: the largest that fits; both give each job its "
           "peak for life\n");
    if (taken_s > 0.0)
        printf("%.1f million events a second\n", (double)brim->events / taken_s / 1e6);
}

static int plan_table(const struct wish *wish, struct error *err)
{
    static const struct table_column columns[] = {
        { "POLICY", 'l', 7 },  { "GRANTED", 'r', 0 }, { "WAIT p50", 'r', 0 },
        { "p99", 'r', 0 },     { "WORST", 'r', 2 },   { "PASSED", 'r', 0 },
        { "REFUSED", 'r', 0 }, { "STOPPED", 'r', 0 }, { "OVERFULL", 'r', 1 },
        { "USED", 'r', 0 },
    };
    OWNED(freep) struct sim_result *results = calloc(POLICY_COUNT, sizeof(*results));
    OWNED(table_freep) struct table *table = NULL;
    struct terminal terminal;
    double brim_s = 0.0;
    int r;

    terminal_detect(&terminal);
    if (!results || table_new(&terminal, columns, 10, &table) < 0)
        return error_set(err, -ENOMEM, "no memory");
    for (size_t i = 0; i < POLICY_COUNT; i++) {
        const double start_s = cpu_s();

        r = play(wish, policies[i], &results[i], err);
        if (r == 0)
            r = add_row(table, policies[i], &results[i]);
        if (r < 0)
            return r;
        if (i == 0)
            brim_s = cpu_s() - start_s;
    }
    print_head(wish);
    table_print(table, stdout, 0);
    print_tail(&results[0], brim_s);
    return 0;
}

static int plan_json(const struct wish *wish, struct error *err)
{
    OWNED(freep) struct sim_result *result = calloc(1, sizeof(*result));
    json_t *answer = json_array();
    int r = result && answer ? 0 : error_set(err, -ENOMEM, "no memory");

    for (size_t i = 0; i < POLICY_COUNT && r == 0; i++) {
        const double start_s = cpu_s();

        r = play(wish, policies[i], result, err);
        if (r == 0 &&
            json_array_append_new(answer, result_json(policies[i], result, cpu_s() - start_s)) < 0)
            r = error_set(err, -ENOMEM, "no memory");
    }
    if (r == 0 && json_dumpf(answer, stdout, JSON_INDENT(2)) < 0)
        r = error_set(err, -EIO, "cannot write");
    if (r == 0)
        fputc('\n', stdout);
    json_decref(answer);
    return r;
}

static int parse_number(const struct options *options, uint64_t most, uint64_t *ret_number)
{
    char *end;

    errno = 0;
    *ret_number = strtoull(options->value, &end, 10);
    if (errno != 0 || end == options->value || *end != '\0' || options->value[0] == '-' ||
        *ret_number == 0 || *ret_number > most)
        return options_complain(options, "'%s' is not a number from 1 to %" PRIu64, options->value,
                                most);
    return COMMAND_OK;
}

static int add_gpu(const struct options *options, const char *text, struct wish *wish)
{
    struct error err = { 0 };

    if (wish->gpu_count == SIM_GPU_MAX)
        return options_complain(options, "at most %d gpus", SIM_GPU_MAX);
    if (gpu_profile_parse(text, &wish->profiles[wish->gpu_count], &err) < 0)
        return options_complain(options, "%s", err.message);
    wish->gpus[wish->gpu_count].capacity_bytes = wish->profiles[wish->gpu_count].capacity_bytes;
    wish->gpu_count++;
    return COMMAND_OK;
}

static int take_option(const struct options *options, int found, struct wish *wish)
{
    struct error err = { 0 };

    switch (found) {
    case OPTION_ARRIVALS:
        return parse_number(options, UINT64_C(1000000000), &wish->arrivals);
    case OPTION_TRACE:
        wish->trace = options->value;
        return COMMAND_OK;
    case OPTION_GPU:
        return add_gpu(options, options->value, wish);
    case OPTION_RESERVE:
        if (size_parse(options->value, &wish->reserve_bytes, &err) < 0)
            return options_complain(options, "--reserve: %s", err.message);
        return COMMAND_OK;
    case OPTION_LOAD:
        return parse_number(options, 1000, &wish->load_pct);
    case OPTION_SEED:
        return parse_number(options, UINT64_MAX, &wish->seed);
    case OPTION_JSON:
        wish->is_json = true;
        return COMMAND_OK;
    default:
        return options_complain(options, "'%s' is not expected", options->value);
    }
}

static int finish_wish(const struct options *options, struct wish *wish)
{
    if (!wish->trace == !wish->arrivals)
        return options_complain(options, "give either --arrivals N or --trace FILE");
    if (wish->gpu_count == 0 && add_gpu(options, "rtx4070ti", wish) != COMMAND_OK)
        return COMMAND_USAGE;
    for (uint32_t i = 0; i < wish->gpu_count; i++) {
        wish->gpus[i].reserve_bytes = wish->reserve_bytes;
        if (wish->reserve_bytes >= wish->gpus[i].capacity_bytes)
            return options_complain(options, "the reserve leaves nothing of gpu %" PRIu32, i);
    }
    return COMMAND_OK;
}

int cmd_plan(int argc, char **argv)
{
    struct options options = { .command = "plan",
                               .specs = specs,
                               .count = sizeof(specs) / sizeof(specs[0]) };
    struct wish wish = { .load_pct = 60, .seed = 1, .reserve_bytes = 800 * MIB };
    struct error err = { 0 };
    int found, code;

    options_init(&options, argc, argv);
    while ((found = options_next(&options)) != OPTIONS_END) {
        if (found == OPTIONS_HELP) {
            options_print_help(&options, "(--arrivals N | --trace FILE) [--gpu CARD]...",
                               "Plays a workload through the code that grants memory, and through "
                               "two simpler\npolicies beside it. Needs no gpu.");
            return COMMAND_OK;
        }
        if (found == OPTIONS_WRONG)
            return COMMAND_USAGE;
        code = take_option(&options, found, &wish);
        if (code != COMMAND_OK)
            return code;
    }
    code = finish_wish(&options, &wish);
    if (code != COMMAND_OK)
        return code;
    if ((wish.is_json ? plan_json(&wish, &err) : plan_table(&wish, &err)) < 0) {
        fprintf(stderr, "brim plan: %s\n", err.message);
        return err.code == -EINVAL || err.code == -E2BIG || err.code == -ERANGE ? COMMAND_USAGE
                                                                                : COMMAND_FAILED;
    }
    return COMMAND_OK;
}
