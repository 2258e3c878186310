/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/ps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/facts.h"
#include "cli/options.h"
#include "cli/ps_batches.h"
#include "cli/ps_view.h"

/*
 * brim ps: who holds what. Reads only, and starts nothing: without a daemon it asks the driver
 * itself (facts.h), where every program is then a foreign one.
 */

enum {
    OPTION_GPUS,
    OPTION_LEASES,
    OPTION_JSON,
    OPTION_QUIET
};

static const struct option_spec specs[] = {
    [OPTION_GPUS] = { 0, "gpus", NULL, "only the gpus" },
    [OPTION_LEASES] = { 0, "leases", NULL, "only who holds and who waits" },
    [OPTION_JSON] = { 0, "json", NULL, "the daemon's answer as it is" },
    [OPTION_QUIET] = { 'q', "quiet", NULL, "only the names of the leases" },
};

struct wish {
    bool has_gpus, has_leases, is_json, is_quiet;
    unsigned next_count;
};

static int get_status(json_t **ret_status, bool *ret_has_daemon, struct error *err)
{
    const int r = api_get("/v1/status", ret_status, err);

    *ret_has_daemon = r != -ESRCH;
    return *ret_has_daemon ? r : facts_read(ret_status, err);
}

static int complain(const struct error *err, int code)
{
    fprintf(stderr, "brim ps: %s\n", err->message);
    if (code == -ENODEV && !strstr(err->message, "brim emulate"))
        fprintf(stderr, "there is nothing to show; to try it on a card that is not there:\n"
                        "  brim emulate --gpu rtx4070ti -- brim ps\n");
    return COMMAND_FAILED;
}

static int print_json(const json_t *status)
{
    OWNED(freep) char *text = json_dumps(status, JSON_INDENT(2)); /* as a whole or not at all */
    struct error err = { 0 };

    if (!text) {
        (void)error_set(&err, -ENOMEM, "out of memory");
        return complain(&err, -ENOMEM);
    }
    (void)puts(text);
    return COMMAND_OK;
}

static int print_view(const json_t *status, const struct wish *wish, bool has_daemon)
{
    struct terminal terminal;
    const char *const profiles = getenv("BRIM_EMULATED");
    json_t *const batches = ps_batches_read();
    int r = 0;

    terminal_detect(&terminal);
    const struct ps_view view = {
        .terminal = &terminal,
        .out = stdout,
        .status = status,
        .batches = batches,
        .now_unix_ms = clock_wall_ms(),
        .has_daemon = has_daemon,
        .is_emulated = (profiles && *profiles) || json_is_true(json_object_get(status, "emulated")),
        .emulated = profiles,
        .has_gpus = wish->has_gpus,
        .has_leases = wish->has_leases,
        .next_count = wish->next_count,
    };

    if (wish->is_quiet)
        ps_view_print_names(&view);
    else
        r = ps_view_print(&view);
    json_decref(batches);
    if (r < 0) {
        struct error err = { 0 };
        (void)error_set(&err, r, "the rest is missing: out of memory");
        return complain(&err, r);
    }
    return COMMAND_OK;
}

static int show(const struct wish *wish)
{
    struct error err = { 0 };
    json_t *status = NULL;
    bool has_daemon = false;
    const int r = get_status(&status, &has_daemon, &err);

    if (r < 0)
        return complain(&err, r);
    const int code = wish->is_json ? print_json(status) : print_view(status, wish, has_daemon);
    json_decref(status);
    return code;
}

int ps_and_next(void)
{
    return show(&(struct wish){ .has_gpus = true, .has_leases = true, .next_count = 3 });
}

int cmd_ps(int argc, char **argv)
{
    struct options options = { .command = "ps",
                               .specs = specs,
                               .count = sizeof(specs) / sizeof(specs[0]) };
    struct wish wish = { .has_gpus = true, .has_leases = true, .next_count = 1 };
    int found = 0;

    options_init(&options, argc, argv);
    while ((found = options_next(&options)) != OPTIONS_END) {
        switch (found) {
        case OPTION_GPUS:
            wish.has_leases = false;
            break;
        case OPTION_LEASES:
            wish.has_gpus = false;
            break;
        case OPTION_JSON:
            wish.is_json = true;
            break;
        case OPTION_QUIET:
            wish.is_quiet = true;
            break;
        case OPTIONS_HELP:
            options_print_help(&options, "[--gpus | --leases] [--json | -q]",
                               "Shows who holds what on each gpu, who waits and for what, which "
                               "programs hold\nmemory without a lease, and what is free. Changes "
                               "nothing and starts nothing.");
            return COMMAND_OK;
        case OPTIONS_OPERAND:
            return options_complain(&options, "takes no argument, got '%s'; `brim why %s`?",
                                    options.value, options.value);
        default:
            return COMMAND_USAGE;
        }
    }
    if (!wish.has_gpus && !wish.has_leases)
        return options_complain(&options, "--gpus and --leases exclude each other");
    return show(&wish);
}
