/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/size.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/ps_view.h"
#include "cli/terminal.h"

/*
 * brim events: what happened, one event a line, and with -f what happens. A follower outlives the
 * daemon: it waits for the next one and goes on after the last number that it has shown.
 */

enum {
    OPTION_FOLLOW,
    OPTION_SINCE,
    OPTION_JSON
};

static const struct option_spec specs[] = {
    [OPTION_FOLLOW] = { 'f', "follow", NULL, "go on with what happens next" },
    [OPTION_SINCE] = { 0, "since", "N", "only events after number N (0: all that is kept)" },
    [OPTION_JSON] = { 0, "json", NULL, "one JSON object a line" },
};

#define SHOWN_FIRST  20 /* events before now that -f and a plain call begin with */
#define RECONNECT_MS 500

struct wish {
    uint64_t since;
    bool has_since, has_waited, is_following, is_json;
    struct terminal terminal;
};

static void print_time(uint64_t at_unix_ms)
{
    const time_t seconds = (time_t)(at_unix_ms / 1000);
    struct tm local = { 0 };

    (void)localtime_r(&seconds, &local);
    printf("%02d:%02d:%02d.%03u", local.tm_hour, local.tm_min, local.tm_sec,
           (unsigned)(at_unix_ms % 1000));
}

static enum terminal_colour colour_of(const char *kind)
{
    static const struct {
        const char *kind;
        enum terminal_colour colour;
    } colours[] = {
        { "refused", TERMINAL_RED },
        { "overdraft", TERMINAL_RED },
        { "lost", TERMINAL_RED },
        { "gpu_lost", TERMINAL_RED },
        { "facts_failed", TERMINAL_RED },
        { "granted", TERMINAL_GREEN },
        { "queued", TERMINAL_YELLOW },
        { "burst_waiting", TERMINAL_YELLOW },
        { "foreign_grew", TERMINAL_YELLOW },
    };

    for (size_t i = 0; i < sizeof(colours) / sizeof(colours[0]); i++) {
        if (strcmp(colours[i].kind, kind) == 0)
            return colours[i].colour;
    }
    return TERMINAL_PLAIN;
}

/* What stands behind the name: a sentence in one line, or a size. The claim that was granted, and
 * what a lease did while it lived, are in the text for programs (--json). */
static const char *told(const json_t *event, char line[TERMINAL_TEXT_BYTES])
{
    const char *const text = ps_text(event, "text"), *const kind = ps_text(event, "kind");
    const uint64_t bytes = ps_number(event, "bytes");
    const char *const habits = strcmp(kind, "released") == 0 ? strstr(text, "; load=") : NULL;
    const size_t length = habits ? (size_t)(habits - text) : strcspn(text, "\n");
    char size[SIZE_TEXT_BYTES];

    if (bytes > 0 && (*text == '\0' || strcmp(kind, "granted") == 0))
        (void)snprintf(line, TERMINAL_TEXT_BYTES, "%s", size_format(bytes, size));
    else
        (void)snprintf(line, TERMINAL_TEXT_BYTES, "%.*s", (int)length, text);
    return line;
}

static void print_event(const struct wish *wish, const json_t *event)
{
    char name[TERMINAL_TEXT_BYTES], text[TERMINAL_TEXT_BYTES], line[TERMINAL_TEXT_BYTES], kind[32];
    const char *const what = told(event, line);

    printf("%5" PRIu64 "  ", ps_number(event, "n"));
    print_time(ps_number(event, "at_unix_ms"));
    (void)snprintf(kind, sizeof(kind), "%-14s", ps_text(event, "kind"));
    fputs("  ", stdout);
    terminal_paint(&wish->terminal, stdout, colour_of(ps_text(event, "kind")), kind);
    printf("  %-16s", terminal_clean(&wish->terminal, ps_text(event, "name"), 0, name));
    if (*what)
        printf("  %s", terminal_clean(&wish->terminal, what, 0, text));
    fputc('\n', stdout);
}

static int on_event(void *user, json_t *event)
{
    struct wish *const wish = user;

    if (wish->is_json) {
        (void)json_dumpf(event, stdout, JSON_COMPACT);
        fputc('\n', stdout);
    } else {
        print_event(wish, event);
    }
    wish->since = ps_number(event, "n");
    wish->has_since = true;
    if (wish->is_following)
        (void)fflush(stdout);
    return ferror(stdout) ? -EPIPE : 0;
}

static int ask(struct wish *wish, struct error *err)
{
    char target[128];

    /* A program gets all that there is; who waited for the daemon gets all that it does. */
    if (wish->has_since || wish->is_json || wish->has_waited)
        (void)snprintf(target, sizeof(target), "/v1/events?since=%" PRIu64 "%s", wish->since,
                       wish->is_following ? "&follow=1" : "");
    else
        (void)snprintf(target, sizeof(target), "/v1/events?last=%d%s", SHOWN_FIRST,
                       wish->is_following ? "&follow=1" : "");
    return api_follow(target, on_event, wish, err);
}

static bool may_come_back(int r)
{
    return r == 0 || r == -EIO || r == -ESRCH;
}

static int run(struct wish *wish)
{
    struct error err = { 0 };
    int r = ask(wish, &err);
    bool is_told = false;

    while (wish->is_following && may_come_back(r)) {
        if (!is_told)
            fprintf(stderr, "brim events: no daemon runs; waiting for one\n");
        is_told = true;
        /* A socket that comes to life gives no sign to wait for. */
        (void)poll(NULL, 0, RECONNECT_MS);
        const uint64_t before = wish->since;
        wish->has_waited = wish->has_waited || r == -ESRCH;
        r = ask(wish, &err);
        is_told = is_told && wish->since == before;
    }
    if (r == 0 || r == -EPIPE)
        return COMMAND_OK;
    fprintf(stderr, "brim events: %s\n", err.message);
    return COMMAND_FAILED;
}

static int read_number(const struct options *options, uint64_t *ret_number)
{
    char *end = NULL;

    errno = 0;
    const unsigned long long number = strtoull(options->value, &end, 10);
    if (errno != 0 || *end != '\0' || options->value[0] < '0' || options->value[0] > '9') {
        (void)options_complain(options, "--since %s: not the number of an event", options->value);
        return -EINVAL;
    }
    *ret_number = number;
    return 0;
}

int cmd_events(int argc, char **argv)
{
    struct options options = { .command = "events",
                               .specs = specs,
                               .count = sizeof(specs) / sizeof(specs[0]) };
    struct wish wish = { 0 };
    int found = 0;

    options_init(&options, argc, argv);
    while ((found = options_next(&options)) != OPTIONS_END) {
        switch (found) {
        case OPTION_FOLLOW:
            wish.is_following = true;
            break;
        case OPTION_SINCE:
            if (read_number(&options, &wish.since) < 0)
                return COMMAND_USAGE;
            wish.has_since = true;
            break;
        case OPTION_JSON:
            wish.is_json = true;
            break;
        case OPTIONS_HELP:
            options_print_help(
                &options, "[-f] [--since N] [--json]",
                "Shows what happened: grants, refusals, waits, foreign programs that grew.\n"
                "Without --since the last 20; with --json all that is kept.");
            return COMMAND_OK;
        case OPTIONS_OPERAND:
            return options_complain(&options, "takes no argument, got '%s'", options.value);
        default:
            return COMMAND_USAGE;
        }
    }
    terminal_detect(&wish.terminal);
    return run(&wish);
}
