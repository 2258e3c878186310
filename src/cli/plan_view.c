/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/plan.h"
#include "cli/table.h"
#include "cli/terminal.h"

#define CELL_BYTES 48

/* ---- for people ---- */

/* 1 234 567 */
static void format_count(uint64_t count, char text[CELL_BYTES])
{
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRIu64, count);
    size_t used = 0;

    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            text[used++] = ' ';
        text[used++] = digits[i];
    }
    text[used] = '\0';
}

static void format_time(uint64_t ms, char text[CELL_BYTES])
{
    char duration[DURATION_TEXT_BYTES];

    (void)snprintf(text, CELL_BYTES, "%s", ms == 0 ? "0" : duration_format(ms, duration));
}

static void cell_granted(const struct sim_result *result, char text[CELL_BYTES])
{
    format_count(result->granted, text);
}

static void cell_refused(const struct sim_result *result, char text[CELL_BYTES])
{
    format_count(result->gave_up + result->never_fit + result->stuck, text);
}

static void cell_never_fit(const struct sim_result *result, char text[CELL_BYTES])
{
    format_count(result->never_fit, text);
}

static void cell_wait_p50(const struct sim_result *result, char text[CELL_BYTES])
{
    format_time(sim_times_per_mille(&result->waits, 500), text);
}

static void cell_wait_p99(const struct sim_result *result, char text[CELL_BYTES])
{
    format_time(sim_times_per_mille(&result->waits, 990), text);
}

static void cell_wait_worst(const struct sim_result *result, char text[CELL_BYTES])
{
    format_time(result->waits.most_ms, text);
}

static void cell_passed(const struct sim_result *result, char text[CELL_BYTES])
{
    format_count(result->worst_passed, text);
}

static void cell_bursts(const struct sim_result *result, char text[CELL_BYTES])
{
    format_count(result->bursts, text);
}

static void cell_burst_p99(const struct sim_result *result, char text[CELL_BYTES])
{
    format_time(sim_times_per_mille(&result->burst_waits, 990), text);
}

static void cell_burst_refused(const struct sim_result *result, char text[CELL_BYTES])
{
    format_count(result->bursts_refused, text);
}

static void cell_evicted(const struct sim_result *result, char text[CELL_BYTES])
{
    format_count(result->evicted, text);
}

static void cell_overfull(const struct sim_result *result, char text[CELL_BYTES])
{
    format_count(result->overfull, text);
}

static void cell_used(const struct sim_result *result, char text[CELL_BYTES])
{
    (void)snprintf(text, CELL_BYTES, "%.1f %%", result->used_pct);
}

static const struct {
    const char *title;
    void (*cell)(const struct sim_result *result, char text[CELL_BYTES]);
} rows[] = {
    { "jobs let in", cell_granted },
    { "  half waited at most (p50)", cell_wait_p50 },
    { "  99 in 100 at most (p99)", cell_wait_p99 },
    { "  longest wait", cell_wait_worst },
    { "  overtaken by at most", cell_passed },
    { "jobs refused", cell_refused },
    { "  of these: too large ever to fit", cell_never_fit },
    { "bursts", cell_bursts },
    { "  99 in 100 waited at most (p99)", cell_burst_p99 },
    { "  refused", cell_burst_refused },
    { "evicted for foreign programs", cell_evicted },
    { "times a gpu was overfull", cell_overfull },
    { "gpu memory in use", cell_used },
};

static int print_table(const struct plan_run *run, const struct terminal *terminal)
{
    static const struct table_column columns[] = {
        { "", 'l', 10 }, { "BRIM", 'r', 0 }, { "FCFS", 'r', 0 }, { "LARGEST", 'r', 0 }
    };
    OWNED(table_freep) struct table *table = NULL;

    if (table_new(terminal, columns, 1 + PLAN_POLICY_COUNT, &table) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char texts[PLAN_POLICY_COUNT][CELL_BYTES];
        const char *cells[1 + PLAN_POLICY_COUNT] = { rows[i].title };

        for (size_t k = 0; k < PLAN_POLICY_COUNT; k++) {
            rows[i].cell(&run->results[k], texts[k]);
            cells[1 + k] = texts[k];
        }
        if (table_add(table, cells) < 0)
            return -ENOMEM;
    }
    table_print(table, stdout, 0);
    return 0;
}

static void print_head(const struct plan *plan, const struct plan_run *run,
                       const struct terminal *terminal)
{
    char capacity[SIZE_TEXT_BYTES], reserve[SIZE_TEXT_BYTES], length[DURATION_TEXT_BYTES];
    char name[TERMINAL_TEXT_BYTES], jobs[CELL_BYTES];

    for (uint32_t i = 0; i < plan->gpu_count; i++)
        printf("gpu %" PRIu32 "  %s, %s, reserve %s\n", i,
               terminal_clean(terminal, plan->names[i], 0, name),
               size_format(plan->gpus[i].capacity_bytes, capacity),
               size_format(plan->gpus[i].reserve_bytes, reserve));
    format_count(run->results[0].jobs, jobs);
    printf("%s jobs in %s", jobs, duration_format(run->results[0].end_ms, length));
    if (plan->trace)
        printf(" (%s)\n\n", terminal_clean(terminal, plan->trace, 40, name));
    else
        printf(" (made up: --load %" PRIu64 " --seed %" PRIu64 ")\n\n", plan->load_pct, plan->seed);
}

static void print_tail(const struct plan_run *run, const struct terminal *terminal)
{
    const struct sim_result *brim = &run->results[0];
    char text[512], peak[SIZE_TEXT_BYTES], stuck[CELL_BYTES];
    double all_s = 0.0;

    terminal_wrap(
        terminal, stdout, 0,
        "\nbrim: what brimd does: idle jobs hold their resident bytes, bursts go in turn"
        "\nfcfs: first come first served, each job its peak for life, nobody passes"
        "\nlargest: the largest that fits first, each job its peak for life"
        "\nevicted: asked to leave, at its next boundary, for what a foreign program took");
    printf("\n");
    if (brim->stuck > 0) {
        format_count(brim->stuck, stuck);
        printf("brim: %s jobs still waited when nothing happened any more\n", stuck);
    }
    for (size_t i = 0; i < PLAN_POLICY_COUNT; i++)
        all_s += run->policy_s[i];
    (void)snprintf(text, sizeof(text),
                   "%.1f million events a second under brim, %.1f s for all "
                   "three, %s of memory",
                   run->policy_s[0] > 0.0 ? (double)brim->events / run->policy_s[0] / 1e6 : 0.0,
                   all_s, size_format(run->peak_bytes, peak));
    terminal_wrap(terminal, stdout, 0, text);
}

static int show_table(const struct plan *plan, const struct plan_run *run, struct error *err)
{
    struct terminal terminal;

    terminal_detect(&terminal);
    print_head(plan, run, &terminal);
    if (print_table(run, &terminal) < 0)
        return error_set(err, -ENOMEM, "no memory");
    print_tail(run, &terminal);
    return 0;
}

/* ---- for programs ---- */

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
    json_t *json =
        json_pack("{s:s, s:o, s:o, s:f, s:f, s:f}", "policy", sim_policy_name(policy), "waits",
                  times_json(&result->waits), "burst_waits", times_json(&result->burst_waits),
                  "used_pct", result->used_pct, "cpu_s", taken_s, "events_per_s",
                  taken_s > 0.0 ? (double)result->events / taken_s : 0.0);
    const struct {
        const char *key;
        uint64_t count;
    } counts[] = {
        { "jobs", result->jobs },           { "granted", result->granted },
        { "never_fit", result->never_fit }, { "gave_up", result->gave_up },
        { "stuck", result->stuck },         { "worst_passed", result->worst_passed },
        { "bursts", result->bursts },       { "bursts_refused", result->bursts_refused },
        { "evicted", result->evicted },     { "trims_asked", result->trims_asked },
        { "overfull", result->overfull },   { "events", result->events },
        { "end_ms", result->end_ms },
    };

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        if (json_object_set_new(json, counts[i].key, json_integer((json_int_t)counts[i].count)) < 0)
            return json; /* NULL, or what is missing is seen */
    return json;
}

static int show_json(const struct plan *plan, const struct plan_run *run, struct error *err)
{
    json_t *gpus = json_array(), *policies = json_array(), *answer;
    int r = 0;

    for (uint32_t i = 0; i < plan->gpu_count; i++)
        r |= json_array_append_new(gpus, json_pack("{s:I, s:I}", "capacity_bytes",
                                                   (json_int_t)plan->gpus[i].capacity_bytes,
                                                   "reserve_bytes",
                                                   (json_int_t)plan->gpus[i].reserve_bytes));
    for (size_t i = 0; i < PLAN_POLICY_COUNT; i++)
        r |= json_array_append_new(
            policies, result_json(plan_policies[i], &run->results[i], run->policy_s[i]));
    answer = json_pack("{s:o, s:o, s:I}", "gpus", gpus, "policies", policies, "peak_rss_bytes",
                       (json_int_t)run->peak_bytes);
    if (r != 0 || !answer)
        r = error_set(err, -ENOMEM, "no memory");
    else if (json_dumpf(answer, stdout, JSON_INDENT(2)) < 0 || fputc('\n', stdout) == EOF)
        r = error_set(err, -EIO, "cannot write");
    json_decref(answer);
    return r;
}

int plan_show(const struct plan *plan, const struct plan_run *run, struct error *err)
{
    return plan->is_json ? show_json(plan, run, err) : show_table(plan, run, err);
}
