/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/ask.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/ps_view.h"
#include "cli/terminal.h"

enum {
    OPTION_JSON
};

static const struct option_spec specs[] = {
    [OPTION_JSON] = { 0, "json", NULL, "the daemon's answer as it is" },
};

/* "l7" is a lease's id; a name may look the same, so the daemon is told which is meant only here.
 */
static bool is_id(const char *name)
{
    return name[0] == 'l' && name[1] != '\0' && strspn(name + 1, "0123456789") == strlen(name + 1);
}

static void print_answer(const json_t *answer, bool is_json)
{
    struct terminal terminal;

    if (is_json) {
        (void)json_dumpf(answer, stdout, JSON_INDENT(2));
        fputc('\n', stdout);
        return;
    }
    terminal_detect(&terminal);
    terminal_wrap(&terminal, stdout, 0, ps_text(answer, "text"));
}

static int post_name(const struct ask *ask, const char *name, json_t **ret_answer,
                     struct error *err)
{
    json_t *const body = json_pack("{ss}", is_id(name) ? "id" : "name", name);

    if (!body)
        return error_set(err, -EINVAL, "the name is not UTF-8");
    const int r = api_post(ask->target, body, ret_answer, err);
    json_decref(body);
    return r;
}

static int ask_name(const struct ask *ask, const char *name, bool is_json)
{
    struct error err = { 0 };
    json_t *answer = NULL;
    int r = ask->instead ? ask->instead(name, &answer, &err) : -ENOENT;

    if (r == -ENOENT)
        r = post_name(ask, name, &answer, &err);
    if (r < 0) {
        fprintf(stderr, "brim %s: %s\n", ask->command, err.message);
        return COMMAND_FAILED;
    }
    print_answer(answer, is_json);
    json_decref(answer);
    return COMMAND_OK;
}

int ask_holder(const struct ask *ask, int argc, char **argv)
{
    struct options options = { .command = ask->command, .specs = specs, .count = 1 };
    const char *name = NULL;
    bool is_json = false;
    int found = 0;

    options_init(&options, argc, argv);
    while ((found = options_next(&options)) != OPTIONS_END) {
        switch (found) {
        case OPTION_JSON:
            is_json = true;
            break;
        case OPTIONS_HELP:
            options_print_help(&options, "NAME [--json]", ask->help);
            return COMMAND_OK;
        case OPTIONS_OPERAND:
            if (name)
                return options_complain(&options, "one name at a time: %s or %s", name,
                                        options.value);
            name = options.value;
            break;
        default:
            return COMMAND_USAGE;
        }
    }
    if (!name || !*name)
        return options_complain(&options, "whom? `brim ps -q` lists the names");
    return ask_name(ask, name, is_json);
}
