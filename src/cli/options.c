/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/suggest.h"
#include "cli/command.h"

#define OPTION_MAX 32

void options_init(struct options *options, int argc, char **argv)
{
    options->argc = argc;
    options->argv = argv;
    options->at = 1;
    options->value = NULL;
    options->cluster = NULL;
    options->is_ended = false;
}

int options_complain(const struct options *options, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "brim %s: ", options->command);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return COMMAND_USAGE;
}

static int complain_unknown(const struct options *options, const char *name, size_t length)
{
    const char *names[OPTION_MAX] = { "help" };
    size_t count = 1;
    char word[64];

    for (size_t i = 0; i < options->count && count < OPTION_MAX; i++)
        names[count++] = options->specs[i].name;
    (void)snprintf(word, sizeof(word), "%.*s", (int)length, name);
    const char *const meant = suggest_nearest(word, names, count);
    if (meant)
        (void)options_complain(options, "unknown option --%s; did you mean --%s?", word, meant);
    else
        (void)options_complain(options, "unknown option --%s; `brim %s --help` lists all", word,
                               options->command);
    return OPTIONS_WRONG;
}

/* The value of an option that takes one: what is written with it, else the next word. */
static int take_value(struct options *options, int found, const char *attached)
{
    const struct option_spec *const spec = &options->specs[found];

    if (!spec->argument && !attached)
        return found;
    if (!spec->argument) {
        (void)options_complain(options, "--%s takes no value", spec->name);
        return OPTIONS_WRONG;
    }
    if (!attached && options->at < options->argc)
        attached = options->argv[options->at++];
    if (!attached) {
        (void)options_complain(options, "--%s needs a value: --%s %s", spec->name, spec->name,
                               spec->argument);
        return OPTIONS_WRONG;
    }
    options->value = attached;
    return found;
}

static int read_long(struct options *options, const char *name)
{
    const size_t length = strcspn(name, "=");
    const char *const attached = name[length] == '=' ? name + length + 1 : NULL;

    for (size_t i = 0; i < options->count; i++) {
        if (strlen(options->specs[i].name) == length &&
            memcmp(options->specs[i].name, name, length) == 0)
            return take_value(options, (int)i, attached);
    }
    if (length == 4 && memcmp(name, "help", 4) == 0)
        return OPTIONS_HELP;
    return complain_unknown(options, name, length);
}

static int read_letter(struct options *options)
{
    const char letter = *options->cluster++;
    const char *const rest = *options->cluster ? options->cluster : NULL;

    if (!rest)
        options->cluster = NULL;
    for (size_t i = 0; i < options->count; i++) {
        if (options->specs[i].letter != letter)
            continue;
        if (!options->specs[i].argument)
            return (int)i;
        options->cluster = NULL;
        return take_value(options, (int)i, rest);
    }
    if (letter == 'h')
        return OPTIONS_HELP;
    (void)options_complain(options, "unknown option -%c; `brim %s --help` lists all", letter,
                           options->command);
    return OPTIONS_WRONG;
}

int options_next(struct options *options)
{
    options->value = NULL;
    if (options->cluster)
        return read_letter(options);
    if (options->at >= options->argc)
        return OPTIONS_END;
    if (!options->is_ended && strcmp(options->argv[options->at], "--") == 0) {
        options->is_ended = true;
        if (++options->at >= options->argc)
            return OPTIONS_END;
    }
    const char *const word = options->argv[options->at++];
    if (!options->is_ended && word[0] == '-' && word[1] == '-')
        return read_long(options, word + 2);
    if (!options->is_ended && word[0] == '-' && word[1] != '\0') {
        options->cluster = word + 1;
        return read_letter(options);
    }
    options->value = word;
    return OPTIONS_OPERAND;
}

void options_print_help(const struct options *options, const char *usage, const char *text)
{
    printf("usage: brim %s %s\n\n%s\n\n", options->command, usage, text);
    for (size_t i = 0; i < options->count; i++) {
        const struct option_spec *const spec = &options->specs[i];
        char left[40], letter[8] = "    ";
        if (spec->letter)
            (void)snprintf(letter, sizeof(letter), "-%c, ", spec->letter);
        (void)snprintf(left, sizeof(left), "%s--%s%s%s", letter, spec->name,
                       spec->argument ? " " : "", spec->argument ? spec->argument : "");
        printf("  %-22s %s\n", left, spec->help);
    }
    printf("  %-22s %s\n", "-h, --help", "this text");
}
