/* SPDX-License-Identifier: Apache-2.0 */

/*
 * brim: the command. This file finds the command that was meant and calls it; everything else is in
 * that command's own file. Without arguments it shows what `brim ps` shows, and what to do next.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/suggest.h"
#include "cli/command.h"
#include "cli/ps.h"

struct command {
    const char *group; /* commands of one group stand together, in the order of the help */
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
    { "look", "ps", "who holds what on each gpu, and what is free", cmd_ps },
    { "look", "why", "why it was refused or waits; would it fit", cmd_why },
    { "look", "events", "what happened, and what happens (-f)", cmd_events },
    { "look", "logs", "what a batch and its workers wrote (-f); or the daemon", cmd_logs },
    { "run", "run", "a program under a lease: waits for room, then becomes it", cmd_run },
    { "run", "batch", "a batch: as many workers as fit; run, ls, show, cancel", cmd_batch },
    { "stack", "plan", "a workload played through the policy, on any cards; needs no gpu",
      cmd_plan },
    { "memory", "flush", "make a batch's workers give their memory back whole", cmd_flush },
    { "memory", "trim", "ask a holder to give back what it does not use", cmd_trim },
    { "memory", "stop", "ask a holder to end", cmd_stop },
    { "machine", "daemon", "start, stop or look at brimd", cmd_daemon },
    { "machine", "emulate", "run a command on emulated gpus", cmd_emulate },
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static void print_help(void)
{
    const char *group = "";

    printf("usage: brim [COMMAND [OPTION]...]\n\n"
           "Brim shares a gpu's memory among programs: to the brim, and never over it.\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(group, commands[i].group) != 0)
            printf("\n%s\n", commands[i].group);
        group = commands[i].group;
        printf("  %-9s %s\n", commands[i].name, commands[i].summary);
    }
    printf("\n`brim COMMAND --help` tells more; `brim` alone is `brim ps` and what to do next.\n");
}

static int print_unknown(const char *name)
{
    const char *names[COMMAND_COUNT];

    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i].name;
    const char *const meant = suggest_nearest(name, names, COMMAND_COUNT);
    const char *const kind = name[0] == '-' ? "option" : "command";
    if (meant)
        fprintf(stderr, "brim: unknown %s %s; did you mean `brim %s`?\n", kind, name, meant);
    else
        fprintf(stderr, "brim: unknown %s %s; `brim --help` lists all\n", kind, name);
    return COMMAND_USAGE;
}

static int print_command_help(const char *name)
{
    static char help[] = "--help";
    const struct command *const command = find_command(name);

    if (!command)
        return print_unknown(name);
    char copy[32];
    (void)snprintf(copy, sizeof(copy), "%s", command->name);
    char *arguments[] = { copy, help, NULL };
    return command->run(2, arguments);
}

static int run_main(int argc, char **argv)
{
    if (argc < 2)
        return ps_and_next();
    const struct command *const command = find_command(argv[1]);
    if (command)
        return command->run(argc - 1, argv + 1);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("brim %s\n", BRIM_VERSION);
        return COMMAND_OK;
    }
    if (strcmp(argv[1], "help") == 0 && argc > 2)
        return print_command_help(argv[2]);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help();
        return COMMAND_OK;
    }
    return print_unknown(argv[1]);
}

/* A descriptor 0, 1 or 2 that the caller closed would be handed to the next socket we open. */
static void open_standard_descriptors(void)
{
    int fd = 0;

    do
        fd = open("/dev/null", O_RDWR); /* NOLINT(android-cloexec-open): meant to be inherited */
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

int main(int argc, char **argv)
{
    open_standard_descriptors();
    const int status = run_main(argc, argv);

    /* A reader that went away (brim ps | head -1) is no failure to speak of. */
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (errno != EPIPE && errno != 0)
        fprintf(stderr, "brim: writing the output: %s\n", strerror(errno));
    return status == COMMAND_OK ? COMMAND_FAILED : status;
}
