/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/ps_view.h"
#include "cli/terminal.h"

/*
 * brim why: the reason for a refusal, what somebody waits for or holds; and with --fit what would
 * be said to a claim now. The sentences are the daemon's; here they are laid out.
 */

enum {
    OPTION_FIT,
    OPTION_VRAM,
    OPTION_BURST,
    OPTION_GPU,
    OPTION_JSON
};

static const struct option_spec specs[] = {
    [OPTION_FIT] = { 0, "fit", NULL, "would such a lease fit now, and how many of them" },
    [OPTION_VRAM] = { 0, "vram", "SIZE", "--fit: what it holds all the time" },
    [OPTION_BURST] = { 0, "burst", "SIZE", "--fit: what a request takes beyond it" },
    [OPTION_GPU] = { 0, "gpu", "GPU", "--fit: on this gpu (index or UUID) only" },
    [OPTION_JSON] = { 0, "json", NULL, "the daemon's answer as it is" },
};

struct wish {
    const char *what; /* NULL: the newest */
    const char *gpu;
    uint64_t resident_bytes, burst_bytes;
    bool is_fit, is_json;
};

/* Lines that a person reads whole: wrapped, and the daemon's own line breaks kept. */
static void print_text(const char *text)
{
    struct terminal terminal;

    terminal_detect(&terminal);
    terminal_wrap(&terminal, stdout, 0, text);
}

static void print_age(const json_t *answer)
{
    const uint64_t at_ms = ps_number(answer, "at_unix_ms"), now_ms = clock_wall_ms();
    char age[DURATION_TEXT_BYTES];

    if (at_ms > 0 && strcmp(ps_text(answer, "kind"), "refusal") == 0)
        printf("(%s ago)\n", duration_format(now_ms > at_ms ? now_ms - at_ms : 0, age));
}

static int print_json(const json_t *answer)
{
    const int r = json_dumpf(answer, stdout, JSON_INDENT(2));

    fputc('\n', stdout);
    return r < 0 ? COMMAND_FAILED : COMMAND_OK;
}

static int explain(const struct wish *wish)
{
    OWNED(freep) char *what = wish->what ? api_escape(wish->what) : NULL;
    struct error err = { 0 };
    json_t *answer = NULL;
    char target[1024];

    (void)snprintf(target, sizeof(target), "/v1/why%s%s", what ? "/" : "", what ? what : "");
    if (api_get(target, &answer, &err) < 0) {
        fprintf(stderr, "brim why: %s\n", err.message);
        return COMMAND_FAILED;
    }
    const bool is_known = strcmp(ps_text(answer, "kind"), "unknown") != 0;
    int code = is_known || !wish->what ? COMMAND_OK : COMMAND_FAILED;
    if (wish->is_json) {
        code = print_json(answer) == COMMAND_OK ? code : COMMAND_FAILED;
    } else {
        print_text(ps_text(answer, "text"));
        print_age(answer);
    }
    json_decref(answer);
    return code;
}

/* What the exit status says of an answer, as those of `brim run` do. */
static int fit_code(const json_t *answer)
{
    if (strcmp(ps_text(answer, "answer"), "never") == 0)
        return COMMAND_NO_FIT;
    return strcmp(ps_text(answer, "answer"), "fits") == 0 ? COMMAND_OK : COMMAND_NO_ROOM;
}

static void print_fit(const struct wish *wish, const json_t *answer)
{
    const uint64_t count = ps_number(answer, "count");
    char resident[SIZE_TEXT_BYTES], burst[SIZE_TEXT_BYTES];

    if (count == 0)
        printf("no such lease fits now: ");
    else
        printf("%" PRIu64 " such lease%s now: ", count, count == 1 ? " fits" : "s fit");
    printf("%s each", size_format(wish->resident_bytes, resident));
    if (wish->burst_bytes > 0)
        printf(" and bursts of %s", size_format(wish->burst_bytes, burst));
    printf("\n");
    if (strcmp(ps_text(answer, "answer"), "fits") != 0)
        print_text(ps_text(answer, "text"));
}

static int fit(const struct wish *wish)
{
    OWNED(freep) char *gpu = wish->gpu ? api_escape(wish->gpu) : NULL;
    struct error err = { 0 };
    json_t *answer = NULL;
    char target[1024];

    (void)snprintf(target, sizeof(target), "/v1/fit?resident=%" PRIu64 "&burst=%" PRIu64 "%s%.512s",
                   wish->resident_bytes, wish->burst_bytes, gpu ? "&gpu=" : "", gpu ? gpu : "");
    if (api_get(target, &answer, &err) < 0) {
        fprintf(stderr, "brim why: %s\n", err.message);
        return COMMAND_FAILED;
    }
    int code = fit_code(answer);
    if (!wish->is_json)
        print_fit(wish, answer);
    else if (print_json(answer) != COMMAND_OK)
        code = COMMAND_FAILED;
    json_decref(answer);
    return code;
}

static int read_size(const struct options *options, const char *name, uint64_t *ret_bytes)
{
    struct error err = { 0 };

    if (size_parse(options->value, ret_bytes, &err) == 0)
        return 0;
    (void)options_complain(options, "--%s: %s", name, err.message);
    return OPTIONS_WRONG;
}

static void print_help(const struct options *options)
{
    options_print_help(
        options, "[WHAT] | --fit --vram SIZE [--burst SIZE] [--gpu GPU]",
        "Says why a program was refused, what it waits for, or what it holds. WHAT is a\n"
        "refusal (r12), a lease (l7) or a name; without it, the newest refusal or who\n"
        "waits. With --fit it says what would be said to such a claim now; the exit\n"
        "status is then 0 (fits), 4 (would wait) or 3 (can never fit).");
}

/* 0, or what options_next said that ends the reading. */
static int read_option(struct options *options, int found, struct wish *wish)
{
    switch (found) {
    case OPTION_FIT:
        wish->is_fit = true;
        return 0;
    case OPTION_VRAM:
        return read_size(options, "vram", &wish->resident_bytes);
    case OPTION_BURST:
        return read_size(options, "burst", &wish->burst_bytes);
    case OPTION_GPU:
        wish->gpu = options->value;
        return 0;
    case OPTION_JSON:
        wish->is_json = true;
        return 0;
    case OPTIONS_OPERAND:
        if (wish->what) {
            (void)options_complain(options, "one name at a time: %s or %s", wish->what,
                                   options->value);
            return OPTIONS_WRONG;
        }
        wish->what = options->value;
        return 0;
    default:
        return found;
    }
}

int cmd_why(int argc, char **argv)
{
    struct options options = { .command = "why",
                               .specs = specs,
                               .count = sizeof(specs) / sizeof(specs[0]) };
    struct wish wish = { 0 };
    int found = 0, r = 0;

    options_init(&options, argc, argv);
    while (r == 0 && (found = options_next(&options)) != OPTIONS_END)
        r = read_option(&options, found, &wish);
    if (r == OPTIONS_HELP) {
        print_help(&options);
        return COMMAND_OK;
    }
    if (r < 0)
        return COMMAND_USAGE;
    if (wish.is_fit && wish.what)
        return options_complain(&options, "--fit takes no name: --fit --vram SIZE");
    if (wish.is_fit && wish.resident_bytes == 0)
        return options_complain(&options, "--fit needs a size: --fit --vram 5.2GiB");
    if (!wish.is_fit && (wish.resident_bytes > 0 || wish.burst_bytes > 0 || wish.gpu))
        return options_complain(&options, "--vram, --burst and --gpu go with --fit");
    return wish.is_fit ? fit(&wish) : explain(&wish);
}
