/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command line of brim-emulator. People type `brim emulate`, which looks profiles up and passes
 * plain numbers here:
 *
 *   brim-emulator --card PROFILE:CAPACITY:CONTEXT:MAJOR:MINOR:SMS:LEAVE:PRODUCT…   (bytes; LEAVE or
 * -)
 *                 [--free-lag MS] [--async late|eager] [--state DIR] [--keep]
 *                 [--stats-file FILE] [--at MS:ORDER]… [--wsl]
 *                 [--profile-bandwidth HOST:DEVICE | --bandwidth HOST:DEVICE]   (after its card)
 *                 [--unified] [--driver 570|580|595|610] [--checkpoint-time] -- COMMAND ARG…
 *   brim-emulator --stats
 *   brim-emulator --control ORDER       (orders: script.c)
 *   brim-emulator --hold GPU BYTES      (what --leave starts)
 */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "server.h"

#define USAGE_STATUS 2

static int complain(const char *what, const char *value)
{
    fprintf(stderr, "brim-emulator: %s '%s'\n", what, value);
    return USAGE_STATUS;
}

static int number_parse(const char *text, uint64_t *ret_number)
{
    char *end = NULL;

    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-')
        return -EINVAL;
    *ret_number = number;
    return 0;
}

/* The fields before the product's name, which may hold any character but is the last one. */
static int split_card(char *text, char *fields[8])
{
    for (int i = 0; i < 7; i++) {
        fields[i] = text;
        text = strchr(text, ':');
        if (!text)
            return -EINVAL;
        *text++ = '\0';
    }
    fields[7] = text;
    return 0;
}

static int fill_card(struct card *card, char *fields[8])
{
    uint64_t numbers[5];

    for (int i = 0; i < 5; i++) {
        if (number_parse(fields[i + 1], &numbers[i]) < 0)
            return -EINVAL;
    }
    card->info.capacity_bytes = numbers[0];
    card->info.context_bytes =
        (numbers[1] + BOOKS_UNIT_BYTES - 1) / BOOKS_UNIT_BYTES * BOOKS_UNIT_BYTES;
    card->info.compute_major = (uint32_t)numbers[2];
    card->info.compute_minor = (uint32_t)numbers[3];
    card->info.multiprocessor_count = (uint32_t)numbers[4];
    card->leave_bytes = NO_LEAVE;
    if (strcmp(fields[6], "-") != 0 && number_parse(fields[6], &card->leave_bytes) < 0)
        return -EINVAL;
    if (card->info.capacity_bytes < EMU_PAGE_BYTES || card->info.capacity_bytes >> 44 != 0 ||
        card->info.context_bytes > card->info.capacity_bytes)
        return -EINVAL;
    if (card->leave_bytes != NO_LEAVE &&
        card->leave_bytes > card->info.capacity_bytes - card->info.context_bytes)
        return -EINVAL;
    (void)snprintf(card->profile, sizeof(card->profile), "%s", fields[0]);
    (void)snprintf(card->info.product, sizeof(card->info.product), "%s", fields[7]);
    return 0;
}

static int add_card(struct server *server, char *text)
{
    char *fields[8];

    if (server->card_count == EMU_GPU_MAX)
        return complain("at most 16 gpus, not also", text);
    if (split_card(text, fields) < 0 || fill_card(&server->cards[server->card_count], fields) < 0)
        return complain("not a card:", text);
    server->cards[server->card_count++].memfd = -1;
    return 0;
}

/* MS:ORDER */
static int add_timed(struct options *options, char *text)
{
    char *const colon = strchr(text, ':');
    struct timed *const timed = &options->timed[options->timed_count];
    struct error err = { 0 };

    if (options->timed_count == TIMED_MAX)
        return complain("at most 32 orders, not also", text);
    if (!colon)
        return complain("--at takes MS:ORDER, not", text);
    *colon = '\0';
    if (number_parse(text, &timed->due_ms) < 0)
        return complain("--at takes milliseconds, not", text);
    timed->order = colon + 1;
    if (script_check(timed->order, &err) < 0) {
        fprintf(stderr, "brim emulate: --at %s: %s\n", timed->order, err.message);
        return USAGE_STATUS;
    }
    options->timed_count++;
    return 0;
}

/* HOST:DEVICE of the card before, in 10^9 bytes a second. */
static int set_bandwidth(struct server *server, char *text)
{
    char *const colon = strchr(text, ':');
    uint64_t host_gbps = 0, device_gbps = 0;

    if (!colon || server->card_count == 0)
        return complain("--bandwidth takes HOST:DEVICE after a card, not", text);
    *colon = '\0';
    if (number_parse(text, &host_gbps) < 0 || number_parse(colon + 1, &device_gbps) < 0 ||
        host_gbps > 100000 || device_gbps > 100000)
        return complain("--bandwidth takes two numbers, not", text);
    server->cards[server->card_count - 1].host_gbps = (uint32_t)host_gbps;
    server->cards[server->card_count - 1].device_gbps = (uint32_t)device_gbps;
    return 0;
}

static int set_driver(struct options *options, const char *text)
{
    uint64_t branch = 0;

    if (number_parse(text, &branch) < 0 || branch > INT32_MAX || !driver_find((int)branch))
        return complain("--driver takes 570, 580, 595 or 610, not", text);
    options->driver = (int)branch;
    return 0;
}

static int apply_option(struct server *server, int option, char *value)
{
    struct options *const options = &server->options;

    switch (option) {
    case 'g':
        return add_card(server, value);
    case 'l':
        return number_parse(value, &options->free_lag_ms) < 0
                   ? complain("--free-lag takes milliseconds, not", value)
                   : 0;
    case 'a':
        options->is_async_late = strcmp(value, "late") == 0;
        return options->is_async_late || strcmp(value, "eager") == 0
                   ? 0
                   : complain("--async takes late or eager, not", value);
    case 's':
        options->state_dir = value;
        return 0;
    case 'k':
        options->is_keep = true;
        return 0;
    case 't':
        return add_timed(options, value);
    case 'b':
        options->is_slow = true;
        return set_bandwidth(server, value);
    case 'B':
        return set_bandwidth(server, value);
    case 'd':
        return set_driver(options, value);
    case 'c':
        options->is_checkpoint_timed = true;
        return 0;
    case 'w':
        options->modes |= EMU_MODE_WSL;
        return 0;
    case 'u':
        options->modes |= EMU_MODE_UNIFIED;
        return 0;
    case 'f':
        options->stats_file = value;
        return 0;
    default:
        return USAGE_STATUS; /* getopt has said why */
    }
}

int options_read(struct server *server, int argc, char **argv)
{
    static const struct option known[] = {
        { "card", required_argument, NULL, 'g' },
        { "free-lag", required_argument, NULL, 'l' },
        { "async", required_argument, NULL, 'a' },
        { "state", required_argument, NULL, 's' },
        { "keep", no_argument, NULL, 'k' },
        { "at", required_argument, NULL, 't' },
        { "bandwidth", required_argument, NULL, 'b' },
        { "profile-bandwidth", required_argument, NULL, 'B' },
        { "driver", required_argument, NULL, 'd' },
        { "checkpoint-time", no_argument, NULL, 'c' },
        { "wsl", no_argument, NULL, 'w' },
        { "unified", no_argument, NULL, 'u' },
        { "stats-file", required_argument, NULL, 'f' },
        { NULL, 0, NULL, 0 },
    };
    int option = 0;

    server->options.is_async_late = true;
    server->options.driver = EMU_DRIVER_DEFAULT;
    while ((option = getopt_long(argc, argv, "+", known, NULL)) != -1) {
        const int status = apply_option(server, option, optarg);
        if (status != 0)
            return status;
    }
    server->options.command = argv + optind;
    if (server->card_count == 0 || !server->options.command[0]) {
        fprintf(stderr, "brim-emulator: needs a card and a command; `brim emulate --help` tells "
                        "how\n");
        return USAGE_STATUS;
    }
    return 0;
}
