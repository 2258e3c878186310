/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/command.h"
#include "cli/options.h"
#include "gpus/gpus.h"

/*
 * brim plan: a workload played through the code that grants memory, on any cards, and through two
 * simpler policies beside it. It needs no gpu and no daemon; the same input gives the same figures.
 * With --record it writes down what a daemon's programs do, to be played later.
 */

enum {
    OPTION_ARRIVALS,
    OPTION_TRACE,
    OPTION_RECORD,
    OPTION_GPU,
    OPTION_RESERVE,
    OPTION_LOAD,
    OPTION_SEED,
    OPTION_FOR,
    OPTION_PAST,
    OPTION_JSON
};

static const struct option_spec specs[] = {
    [OPTION_ARRIVALS] = { 0, "arrivals", "N", "make up N jobs that arrive at random" },
    [OPTION_TRACE] = { 0, "trace", "FILE", "play the jobs of this file" },
    [OPTION_RECORD] = { 0, "record", "FILE", "write what the daemon's programs do as a trace" },
    [OPTION_GPU] = { 0, "gpu", "CARD", "a card (rtx4070ti) or a size (24GiB); may be repeated" },
    [OPTION_RESERVE] = { 0, "reserve", "SIZE", "what is never granted on each (800MiB)" },
    [OPTION_LOAD] = { 0, "load", "PCT", "--arrivals: how full they would be without waits (60)" },
    [OPTION_SEED] = { 0, "seed", "N", "--arrivals: other random jobs (1)" },
    [OPTION_FOR] = { 0, "for", "TIME", "--record: end by itself after that (10m)" },
    [OPTION_PAST] = { 0, "past", NULL, "--record: what the daemon has kept, on average, instead" },
    [OPTION_JSON] = { 0, "json", NULL, "figures for programs" },
};

static int parse_number(const struct options *options, const char *name, uint64_t most,
                        uint64_t *ret_number)
{
    char *end;

    errno = 0;
    *ret_number = strtoull(options->value, &end, 10);
    if (errno != 0 || end == options->value || *end != '\0' || options->value[0] < '0' ||
        options->value[0] > '9' || *ret_number == 0 || *ret_number > most)
        return options_complain(options, "%s: '%s' is not a number from 1 to %" PRIu64, name,
                                options->value, most);
    return COMMAND_OK;
}

static int add_gpu(const struct options *options, struct plan *plan)
{
    struct gpu_profile profile;
    struct error err = { 0 };

    if (plan->gpu_count == SIM_GPU_MAX)
        return options_complain(options, "at most %d gpus", SIM_GPU_MAX);
    if (gpu_profile_parse(options->value, &profile, &err) < 0)
        return options_complain(options, "%s", err.message);
    plan->gpus[plan->gpu_count].capacity_bytes = profile.capacity_bytes;
    memcpy(plan->names[plan->gpu_count], profile.product, sizeof(plan->names[0]));
    plan->gpu_count++;
    return COMMAND_OK;
}

static int take_option(const struct options *options, int found, struct plan *plan)
{
    struct error err = { 0 };

    switch (found) {
    case OPTION_ARRIVALS:
        return parse_number(options, "--arrivals", UINT64_C(1000000000), &plan->arrivals);
    case OPTION_TRACE:
        plan->trace = options->value;
        return COMMAND_OK;
    case OPTION_RECORD:
        plan->record = options->value;
        return COMMAND_OK;
    case OPTION_GPU:
        return add_gpu(options, plan);
    case OPTION_RESERVE:
        plan->has_reserve = true;
        if (strcmp(options->value, "0") != 0 &&
            size_parse(options->value, &plan->reserve_bytes, &err) < 0)
            return options_complain(options, "--reserve: %s", err.message);
        return COMMAND_OK;
    case OPTION_LOAD:
        return parse_number(options, "--load", 1000, &plan->load_pct);
    case OPTION_SEED:
        return parse_number(options, "--seed", UINT64_MAX, &plan->seed);
    case OPTION_FOR:
        if (duration_parse(options->value, &plan->for_ms, &err) < 0)
            return options_complain(options, "--for: %s", err.message);
        return COMMAND_OK;
    case OPTION_PAST:
        plan->is_past = true;
        return COMMAND_OK;
    case OPTION_JSON:
        plan->is_json = true;
        return COMMAND_OK;
    default:
        return options_complain(options, "'%s' is not expected", options->value);
    }
}

static int check(const struct options *options, const struct plan *plan)
{
    if ((plan->trace != NULL) + (plan->arrivals > 0) + (plan->record != NULL) != 1)
        return options_complain(options,
                                "give one of --arrivals N, --trace FILE and --record FILE");
    if ((plan->for_ms != CLOCK_NEVER_MS || plan->is_past) && !plan->record)
        return options_complain(options, "--for and --past go with --record");
    if (plan->for_ms != CLOCK_NEVER_MS && plan->is_past)
        return options_complain(options, "either --for or --past");
    if (plan->record && (plan->gpu_count > 0 || plan->has_reserve || plan->is_json))
        return options_complain(options,
                                "--record writes down the daemon's own gpus; choose others "
                                "when you play it");
    return COMMAND_OK;
}

static int play(struct plan *plan)
{
    OWNED(freep) struct plan_run *run = calloc(1, sizeof(*run));
    struct error err = { 0 };
    int r = run ? plan_play(plan, run, &err) : error_set(&err, -ENOMEM, "no memory");

    if (r == 0)
        r = plan_show(plan, run, &err);
    if (r == 0)
        return COMMAND_OK;
    fprintf(stderr, "brim plan: %s\n", err.message);
    return r == -EINVAL || r == -E2BIG || r == -ERANGE ? COMMAND_USAGE : COMMAND_FAILED;
}

int cmd_plan(int argc, char **argv)
{
    struct options options = { .command = "plan",
                               .specs = specs,
                               .count = sizeof(specs) / sizeof(specs[0]) };
    struct plan plan = { .load_pct = 60, .seed = 1, .for_ms = CLOCK_NEVER_MS };
    int found, code;

    options_init(&options, argc, argv);
    while ((found = options_next(&options)) != OPTIONS_END) {
        if (found == OPTIONS_HELP) {
            options_print_help(&options,
                               "(--arrivals N | --trace FILE | --record FILE) [--gpu CARD]...",
                               "Plays a workload through the code that grants memory, and through "
                               "two simpler\npolicies beside it. Needs no gpu. --record writes "
                               "down what happens at a daemon.");
            return COMMAND_OK;
        }
        if (found == OPTIONS_WRONG)
            return COMMAND_USAGE;
        code = take_option(&options, found, &plan);
        if (code != COMMAND_OK)
            return code;
    }
    code = check(&options, &plan);
    if (code != COMMAND_OK)
        return code;
    return plan.record ? plan_record(&plan) : play(&plan);
}
