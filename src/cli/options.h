/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A command's options, read in the order in which they were written, with operands among them:
 *
 *     static const struct option_spec specs[] = {
 *         { 'f', "follow", NULL, "go on with what happens next" },
 *         { 0, "since", "N", "only events after number N" },
 *     };
 *     struct options options = { .command = "events", .specs = specs, .count = 2 };
 *     options_init(&options, argc, argv);
 *     while ((found = options_next(&options)) != OPTIONS_END) switch (found) ...
 *
 * "--name value", "--name=value", "-fvalue", "-f value" and "-fq" are read; "--" ends the options.
 */

struct option_spec {
    char letter;          /* 0: none */
    const char *name;     /* without the dashes */
    const char *argument; /* what the help calls it; NULL: takes none */
    const char *help;
};

struct options {
    const char *command;
    const struct option_spec *specs; /* borrowed; --help, -h is known besides them */
    size_t count;
    const char *value; /* of the option or operand that was just found */
    int argc;
    char **argv;
    int at;              /* in argv */
    const char *cluster; /* what is left of "-fq" */
    bool is_ended;       /* by "--" */
};

enum {
    OPTIONS_END = -1,
    OPTIONS_OPERAND = -2,
    OPTIONS_HELP = -3,
    OPTIONS_WRONG = -4, /* said on stderr already: return COMMAND_USAGE */
};

void options_init(struct options *options, int argc, char **argv);
/* The option's place in specs, or one of the above. */
int options_next(struct options *options);

/* "usage: brim COMMAND …", the text, then the options. */
void options_print_help(const struct options *options, const char *usage, const char *text);

/* "brim COMMAND: …" on stderr. Returns COMMAND_USAGE. */
int options_complain(const struct options *options, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
