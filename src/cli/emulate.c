/* SPDX-License-Identifier: Apache-2.0 */

/*
 * brim emulate: run a command on emulated gpus. This file reads what a person typed, looks the
 * cards up, and becomes brim-emulator, which does the rest.
 */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/paths.h"
#include "base/size.h"
#include "cli/command.h"
#include "gpus/gpus.h"

#define CARD_MAX  16
#define ORDER_MAX 32
#define OPTION_MAX                                                                                 \
    (11 + ORDER_MAX + CARD_MAX) /* arguments beside cards and command, and the NULL at the end */

struct card {
    struct gpu_profile profile;
    bool has_leave;
    uint64_t leave_bytes;
};

struct emulation {
    struct card cards[CARD_MAX];
    size_t card_count;
    bool has_early_leave; /* --leave before the first --gpu */
    uint64_t early_leave_bytes;
    uint64_t free_lag_ms;
    const char *async, *state_dir, *stats_file, *driver;
    bool is_keep, is_wsl, is_unified, has_bandwidth;
    struct {
        uint64_t at_ms;
        const char *text; /* borrowed from argv; NAME:N:CODE where is_fail */
        bool is_fail;
    } orders[ORDER_MAX];
    size_t order_count;
};

static void print_help(void)
{
    printf("usage: brim emulate --gpu CARD [OPTION]... -- COMMAND [ARGUMENT]...\n"
           "       brim emulate --list\n\n"
           "Runs a command on emulated gpus: everything it starts sees these cards, and a\n"
           "daemon, runtime and state directory of its own. When it ends, all that it\n"
           "started ends. Memory, copies and the driver's bookkeeping are real; kernels do\n"
           "not run.\n\n"
           "  --gpu CARD         rtx4070ti (--list), or a size like 6GiB; once a card\n"
           "  --leave SIZE       a foreign process takes memory of that --gpu, leaves SIZE\n"
           "  --free-lag TIME    memory of what has ended comes back so late, like 500ms\n"
           "  --async MODE       late (default): stream work is done when something waits\n"
           "                     for it; eager: at once\n"
           "  --state DIR        keep footprints and history there (default: temporary)\n"
           "  --keep             let what COMMAND started go on; ends with the last of it\n"
           "  --stats-file FILE  write the driver's counters there at the end\n"
           "  --fail NAME:N:CODE the N-th call of NAME fails, like cuMemCreate:3:2 (no room)\n"
           "  --at TIME:ORDER    an order at that time: '2s:hog 0 4GiB' (docs/emulator.md)\n"
           "  --bandwidth profile  copies take as long as on the card\n"
           "  --driver BRANCH    570, 580 (default), 595 or 610, with its known hazards\n"
           "  --wsl              NVML tells no processes' bytes, as under WSL2\n"
           "  --unified          NVML tells no memory, as where it is the host's\n"
           "  --list             the known cards\n\n"
           "The exit status is COMMAND's. Inside, `brim emulate --stats` prints the\n"
           "counters, and `brim emulate --control ORDER` gives an order.\n"
           "  brim emulate --gpu rtx4070ti -- brim ps\n");
}

static void print_list(void)
{
    size_t count = 0;
    const struct gpu_profile *const profiles = gpu_profiles(&count);

    printf("%-10s  %-49s  %10s\n", "CARD", "NAME", "MEMORY");
    for (size_t i = 0; i < count; i++) {
        const struct gpu_profile *const card = &profiles[i];
        printf("%-10s  %-49s  %6" PRIu64 " MiB\n", card->name, card->product,
               card->capacity_bytes / MIB);
    }
    printf(
        "\nAny other size: --gpu 6GiB. A process's context takes 256 MiB (data-centre\n"
        "cards: 512 MiB): an assumption of the emulator, real ones depend on driver and program.\n");
}

static int complain(const struct error *err)
{
    fprintf(stderr, "brim emulate: %s\n", err->message);
    return COMMAND_USAGE;
}

static int add_card(struct emulation *emulation, const char *text)
{
    struct error err = { 0 };

    if (emulation->card_count == CARD_MAX) {
        fprintf(stderr, "brim emulate: more than %d gpus; take away some --gpu\n", CARD_MAX);
        return COMMAND_USAGE;
    }
    struct card *const card = &emulation->cards[emulation->card_count];
    if (gpu_profile_parse(text, &card->profile, &err) < 0) {
        (void)complain(&err);
        fprintf(stderr, "`brim emulate --list` shows the known cards\n");
        return COMMAND_USAGE;
    }
    if (emulation->card_count++ == 0 && emulation->has_early_leave) {
        card->has_leave = true;
        card->leave_bytes = emulation->early_leave_bytes;
    }
    return 0;
}

static int add_leave(struct emulation *emulation, const char *text)
{
    struct error err = { 0 };
    uint64_t bytes = 0;

    if (size_parse(text, &bytes, &err) < 0) {
        (void)error_wrap(&err, "--leave");
        return complain(&err);
    }
    if (emulation->card_count == 0) {
        emulation->has_early_leave = true;
        emulation->early_leave_bytes = bytes;
        return 0;
    }
    emulation->cards[emulation->card_count - 1].has_leave = true;
    emulation->cards[emulation->card_count - 1].leave_bytes = bytes;
    return 0;
}

/* NAME:N:CODE, or TIME:ORDER. */
static int add_order(struct emulation *emulation, bool is_fail, const char *text)
{
    const char *const colon = strchr(text, ':');
    struct error err = { 0 };
    char time[32] = "";

    if (emulation->order_count == ORDER_MAX) {
        fprintf(stderr, "brim emulate: more than %d orders; give the others by --control\n",
                ORDER_MAX);
        return COMMAND_USAGE;
    }
    if (!colon || (is_fail && !strchr(colon + 1, ':')) ||
        (!is_fail && (size_t)(colon - text) >= sizeof(time))) {
        fprintf(stderr, "brim emulate: %s: write it like %s\n", text,
                is_fail ? "--fail cuMemCreate:3:2" : "--at '2s:hog 0 4GiB'");
        return COMMAND_USAGE;
    }
    emulation->orders[emulation->order_count].is_fail = is_fail;
    emulation->orders[emulation->order_count].text = is_fail ? text : colon + 1;
    (void)snprintf(time, sizeof(time), "%.*s", is_fail ? 0 : (int)(colon - text), text);
    if (!is_fail &&
        duration_parse(time, &emulation->orders[emulation->order_count].at_ms, &err) < 0) {
        (void)error_wrap(&err, "--at");
        return complain(&err);
    }
    emulation->order_count++;
    return 0;
}

static int apply_option(struct emulation *emulation, int option, const char *value)
{
    struct error err = { 0 };

    switch (option) {
    case 'g':
        return add_card(emulation, value);
    case 'l':
        return add_leave(emulation, value);
    case 'f':
        if (duration_parse(value, &emulation->free_lag_ms, &err) == 0)
            return 0;
        (void)error_wrap(&err, "--free-lag");
        return complain(&err);
    case 'a':
        emulation->async = value;
        if (strcmp(value, "late") == 0 || strcmp(value, "eager") == 0)
            return 0;
        fprintf(stderr, "brim emulate: --async %s: write late or eager\n", value);
        return COMMAND_USAGE;
    case 's':
        emulation->state_dir = value;
        return 0;
    case 't':
        emulation->stats_file = value;
        return 0;
    case 'k':
        emulation->is_keep = true;
        return 0;
    case 'F':
    case 'A':
        return add_order(emulation, option == 'F', value);
    case 'B':
        emulation->has_bandwidth = true;
        if (strcmp(value, "profile") == 0)
            return 0;
        fprintf(stderr, "brim emulate: --bandwidth %s: write profile\n", value);
        return COMMAND_USAGE;
    case 'D':
        emulation->driver = value;
        if (strcmp(value, "570") == 0 || strcmp(value, "580") == 0 || strcmp(value, "595") == 0 ||
            strcmp(value, "610") == 0)
            return 0;
        fprintf(stderr, "brim emulate: --driver %s: write 570, 580, 595 or 610\n", value);
        return COMMAND_USAGE;
    case 'W':
        emulation->is_wsl = true;
        return 0;
    case 'U':
        emulation->is_unified = true;
        return 0;
    default:
        fprintf(stderr, "`brim emulate --help` shows the options\n");
        return COMMAND_USAGE;
    }
}

static int check_leaves(const struct emulation *emulation)
{
    char leave[SIZE_TEXT_BYTES], most[SIZE_TEXT_BYTES];

    for (size_t i = 0; i < emulation->card_count; i++) {
        const struct card *const card = &emulation->cards[i];
        const uint64_t most_bytes = card->profile.capacity_bytes - card->profile.context_bytes;
        if (!card->has_leave || card->leave_bytes <= most_bytes)
            continue;
        fprintf(stderr,
                "brim emulate: --leave %s: %s can be left free at most %s beside a foreign process "
                "and its context\n",
                size_format(card->leave_bytes, leave), card->profile.name,
                size_format(most_bytes, most));
        return COMMAND_USAGE;
    }
    return 0;
}

/* The emulator's command line. Only memory can fail, and that is told once. */
struct arguments {
    char **items; /* owned, as are the texts up to owned_count */
    size_t count, owned_count;
    bool is_broken;
};

static void arguments_free(struct arguments *arguments)
{
    for (size_t i = 0; i < arguments->owned_count; i++)
        free(arguments->items[i]);
    free(arguments->items);
}

__attribute__((format(printf, 2, 3))) static void arguments_add(struct arguments *arguments,
                                                                const char *format, ...)
{
    va_list values;
    char *text = NULL;

    va_start(values, format);
    const int length = vasprintf(&text, format, values);
    va_end(values);
    if (length < 0) {
        arguments->is_broken = true;
        return;
    }
    arguments->items[arguments->count++] = text;
    arguments->owned_count = arguments->count;
}

/* As options.c of the emulator reads it. */
static void add_card_argument(struct arguments *arguments, const struct card *card)
{
    const struct gpu_profile *const profile = &card->profile;
    char leave[24] = "-";

    if (card->has_leave)
        (void)snprintf(leave, sizeof(leave), "%" PRIu64, card->leave_bytes);
    arguments_add(arguments, "--card=%s:%" PRIu64 ":%" PRIu64 ":%u:%u:%u:%s:%s", profile->name,
                  profile->capacity_bytes, profile->context_bytes, profile->compute_major,
                  profile->compute_minor, profile->multiprocessor_count, leave, profile->product);
}

static void add_order_arguments(struct arguments *arguments, const struct emulation *emulation)
{
    for (size_t i = 0; i < emulation->order_count; i++) {
        const char *const text = emulation->orders[i].text;
        if (!emulation->orders[i].is_fail) {
            arguments_add(arguments, "--at=%" PRIu64 ":%s", emulation->orders[i].at_ms, text);
            continue;
        }
        const char *const nth = strchr(text, ':') + 1, *const code = strchr(nth, ':') + 1;
        arguments_add(arguments, "--at=0:fail %.*s %.*s %s", (int)(nth - 1 - text), text,
                      (int)(code - 1 - nth), nth, code);
    }
}

static void describe(const struct emulation *emulation, const char *program,
                     struct arguments *arguments)
{
    arguments_add(arguments, "%s", program);
    for (size_t i = 0; i < emulation->card_count; i++) {
        add_card_argument(arguments, &emulation->cards[i]);
        arguments_add(
            arguments, "--%s=%u:%u", emulation->has_bandwidth ? "bandwidth" : "profile-bandwidth",
            emulation->cards[i].profile.pcie_gbps, emulation->cards[i].profile.memory_gbps);
    }
    add_order_arguments(arguments, emulation);
    if (emulation->driver)
        arguments_add(arguments, "--driver=%s", emulation->driver);
    if (emulation->is_wsl)
        arguments_add(arguments, "--wsl");
    if (emulation->is_unified)
        arguments_add(arguments, "--unified");
    arguments_add(arguments, "--free-lag=%" PRIu64, emulation->free_lag_ms);
    arguments_add(arguments, "--async=%s", emulation->async);
    if (emulation->state_dir)
        arguments_add(arguments, "--state=%s", emulation->state_dir);
    if (emulation->stats_file)
        arguments_add(arguments, "--stats-file=%s", emulation->stats_file);
    if (emulation->is_keep)
        arguments_add(arguments, "--keep");
    arguments_add(arguments, "--");
}

static int become_emulator(const struct emulation *emulation, char **command, int command_count)
{
    char program[PATHS_BYTES];
    struct error err = { 0 };
    OWNED(arguments_free) struct arguments arguments = { 0 };

    if (paths_program("brim-emulator", program, &err) < 0) {
        fprintf(stderr, "brim emulate: %s\n", err.message);
        return COMMAND_FAILED;
    }
    arguments.items =
        calloc((size_t)command_count + OPTION_MAX + CARD_MAX, sizeof(*arguments.items));
    if (arguments.items)
        describe(emulation, program, &arguments);
    if (!arguments.items || arguments.is_broken) {
        fprintf(stderr, "brim emulate: out of memory\n");
        return COMMAND_FAILED;
    }
    memcpy(arguments.items + arguments.count, command, (size_t)command_count * sizeof(*command));
    (void)execv(program, arguments.items);
    fprintf(stderr, "brim emulate: %s: %s\n", program, strerror(errno));
    return COMMAND_FAILED;
}

/* Of the emulator that we run in. */
static int ask_emulator(const char *option, const char *order)
{
    char program[PATHS_BYTES];
    struct error err = { 0 };

    if (paths_program("brim-emulator", program, &err) == 0) {
        (void)execl(program, program, option, order, (char *)NULL);
        (void)error_set(&err, -errno, "%s: %s", program, strerror(errno));
    }
    fprintf(stderr, "brim emulate: %s\n", err.message);
    return COMMAND_FAILED;
}

static int run_emulation(const struct emulation *emulation, char **command, int command_count)
{
    if (emulation->card_count == 0) {
        fprintf(stderr, "brim emulate: no gpu; write it like: brim emulate --gpu rtx4070ti -- "
                        "COMMAND (`brim emulate --list` shows the known cards)\n");
        return COMMAND_USAGE;
    }
    if (command_count <= 0) {
        fprintf(stderr,
                "brim emulate: no command; write it after --, like: brim emulate --gpu %s "
                "-- brim ps\n",
                emulation->cards[0].profile.name);
        return COMMAND_USAGE;
    }
    const int status = check_leaves(emulation);
    return status != 0 ? status : become_emulator(emulation, command, command_count);
}

int cmd_emulate(int argc, char **argv)
{
    static const struct option known[] = {
        { "gpu", required_argument, NULL, 'g' },
        { "leave", required_argument, NULL, 'l' },
        { "free-lag", required_argument, NULL, 'f' },
        { "async", required_argument, NULL, 'a' },
        { "state", required_argument, NULL, 's' },
        { "keep", no_argument, NULL, 'k' },
        { "stats-file", required_argument, NULL, 't' },
        { "list", no_argument, NULL, 'L' },
        { "stats", no_argument, NULL, 'S' },
        { "control", required_argument, NULL, 'C' },
        { "fail", required_argument, NULL, 'F' },
        { "at", required_argument, NULL, 'A' },
        { "bandwidth", required_argument, NULL, 'B' },
        { "driver", required_argument, NULL, 'D' },
        { "wsl", no_argument, NULL, 'W' },
        { "unified", no_argument, NULL, 'U' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    static struct emulation emulation = { .async = "late" };
    int option = 0;

    while ((option = getopt_long(argc, argv, "+h", known, NULL)) != -1) {
        if (option == 'h') {
            print_help();
            return COMMAND_OK;
        }
        if (option == 'L') {
            print_list();
            return COMMAND_OK;
        }
        if (option == 'S')
            return ask_emulator("--stats", NULL);
        if (option == 'C')
            return ask_emulator("--control", optarg);
        const int status = apply_option(&emulation, option, optarg);
        if (status != 0)
            return status;
    }
    return run_emulation(&emulation, argv + optind, argc - optind);
}
