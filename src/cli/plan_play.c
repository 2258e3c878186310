/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/size.h"
#include "cli/plan.h"
#include "gpus/gpus.h"
#include "sim/trace.h"

const struct sim_policy *const plan_policies[PLAN_POLICY_COUNT] = { &sim_policy_brim,
                                                                    &sim_policy_fcfs,
                                                                    &sim_policy_largest };

#define DEFAULT_CARD    "rtx4070ti"
#define DEFAULT_RESERVE (800 * MIB)

/* The lines of a file. */
struct lines {
    FILE *file; /* owned */
    char *line; /* owned */
    size_t line_room;
};

static int next_line(void *context, const char **ret_line, struct error *err)
{
    struct lines *lines = context;
    ssize_t length = getline(&lines->line, &lines->line_room, lines->file);

    if (length < 0)
        return ferror(lines->file) ? error_set(err, -EIO, "cannot read it") : 0;
    if (strlen(lines->line) != (size_t)length)
        return error_set(err, -EINVAL, "a line has a zero byte: this is no trace");
    *ret_line = lines->line;
    return 1;
}

static int lines_open(const char *path, struct lines *ret_lines, struct error *err)
{
    *ret_lines = (struct lines){ .file = fopen(path, "re") };
    if (!ret_lines->file)
        return error_set(err, -errno, "cannot open %s: %s", path, strerrordesc_np(errno));
    return 0;
}

static void lines_close(struct lines *lines)
{
    free(lines->line);
    (void)fclose(lines->file);
}

/* The gpus that the trace was recorded on. */
static int read_gpus(struct plan *plan, struct error *err)
{
    struct sim_trace trace = { .path = plan->trace, .line = next_line };
    struct lines lines;
    int r = lines_open(plan->trace, &lines, err);

    if (r < 0)
        return r;
    trace.context = &lines;
    r = sim_trace_gpus(&trace, plan->gpus, &plan->gpu_count, err);
    lines_close(&lines);
    for (uint32_t i = 0; i < plan->gpu_count; i++) {
        (void)snprintf(plan->names[i], sizeof(plan->names[i]), "as in %.50s", plan->trace);
        if (plan->has_reserve)
            plan->gpus[i].reserve_bytes = plan->reserve_bytes;
    }
    return r;
}

static int find_gpus(struct plan *plan, struct error *err)
{
    struct gpu_profile profile;
    int r = 0;

    for (uint32_t i = 0; i < plan->gpu_count; i++)
        plan->gpus[i].reserve_bytes = plan->has_reserve ? plan->reserve_bytes : DEFAULT_RESERVE;
    if (plan->gpu_count == 0 && plan->trace)
        r = read_gpus(plan, err);
    if (r == 0 && plan->gpu_count == 0) {
        r = gpu_profile_parse(DEFAULT_CARD, &profile, err);
        plan->gpu_count = 1;
        plan->gpus[0] =
            (struct sim_gpu){ profile.capacity_bytes,
                              plan->has_reserve ? plan->reserve_bytes : DEFAULT_RESERVE };
        memcpy(plan->names[0], profile.product, sizeof(plan->names[0]));
    }
    for (uint32_t i = 0; i < plan->gpu_count && r == 0; i++)
        if (plan->gpus[i].reserve_bytes >= plan->gpus[i].capacity_bytes)
            r = error_set(err, -EINVAL, "the reserve leaves nothing of gpu %" PRIu32, i);
    return r;
}

static int play_trace(const struct plan *plan, const struct sim_policy *policy,
                      struct sim_result *result, struct error *err)
{
    struct sim_trace trace = { .path = plan->trace,
                               .line = next_line,
                               .gpu_count = plan->gpu_count };
    const struct sim_source source = sim_trace_source(&trace);
    struct lines lines;
    int r = lines_open(plan->trace, &lines, err);

    if (r < 0)
        return r;
    trace.context = &lines;
    r = sim_run(policy, plan->gpus, plan->gpu_count, &source, result, err);
    lines_close(&lines);
    if (r == 0 && result->jobs == 0)
        r = error_set(err, -EINVAL, "%s has no job", plan->trace);
    return r;
}

static int play_arrivals(const struct plan *plan, const struct sim_policy *policy,
                         struct sim_result *result, struct error *err)
{
    struct sim_arrivals arrivals;
    struct sim_source source;

    sim_arrivals_init(&arrivals, plan->gpus, plan->gpu_count, plan->arrivals,
                      (uint32_t)plan->load_pct, plan->seed);
    source = sim_arrivals_source(&arrivals);
    return sim_run(policy, plan->gpus, plan->gpu_count, &source, result, err);
}

/* The high-water mark of this program alone: what getrusage() gives is never below what the program
 * had that started it. */
static uint64_t read_peak_bytes(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256];
    uint64_t peak_kib = 0;

    while (status && fgets(line, sizeof(line), status))
        if (strncmp(line, "VmHWM:", 6) == 0)
            peak_kib = strtoull(line + 6, NULL, 10);
    if (status)
        (void)fclose(status);
    return peak_kib * KIB;
}

int plan_play(struct plan *plan, struct plan_run *ret_run, struct error *err)
{
    int r = find_gpus(plan, err);

    for (size_t i = 0; i < PLAN_POLICY_COUNT && r == 0; i++) {
        const clock_t start = clock();

        r = (plan->trace ? play_trace : play_arrivals)(plan, plan_policies[i], &ret_run->results[i],
                                                       err);
        ret_run->policy_s[i] = (double)(clock() - start) / CLOCKS_PER_SEC;
    }
    ret_run->peak_bytes = read_peak_bytes();
    return r;
}
