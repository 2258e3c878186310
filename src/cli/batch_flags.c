/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/batch_flags.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/command.h"
#include "cli/options.h"
#include "config/config.h"

enum {
    OPTION_FILE,
    OPTION_NAME,
    OPTION_LINES,
    OPTION_JSONL,
    OPTION_FILES,
    OPTION_OUT,
    OPTION_VRAM,
    OPTION_BURST,
    OPTION_LOAD_PEAK,
    OPTION_WORKERS,
    OPTION_RETRIES,
    OPTION_FLUSH_EVERY,
    OPTION_FLUSH_BY,
    OPTION_EACH,
    OPTION_PROTOCOL,
    OPTION_TIMEOUT,
    OPTION_HEARTBEAT,
    OPTION_PRIORITY,
    OPTION_GPU,
    OPTION_ENV,
    OPTION_SUMMARY,
    OPTION_AGAIN,
    OPTION_DETACH,
};

static const struct option_spec specs[] = {
    [OPTION_FILE] = { 'f', "file", "FILE", "where NAME is described; default: brim.yaml" },
    [OPTION_NAME] = { 0, "name", "NAME", "of the batch, where flags describe it" },
    [OPTION_LINES] = { 0, "lines", "FILE", "a segment for each line that is not blank" },
    [OPTION_JSONL] = { 0, "jsonl", "FILE", "a segment for each JSON object, one a line" },
    [OPTION_FILES] = { 0, "files", "PATTERN", "a segment for each file that matches" },
    [OPTION_OUT] = { 0, "out", "PATH", "where results go: 'out/${SEGMENT}.wav'" },
    [OPTION_VRAM] = { 0, "vram", "SIZE", "what a worker holds, CUDA context included: 5.5GB" },
    [OPTION_BURST] = { 0, "burst", "SIZE", "the most it takes beyond that for a segment" },
    [OPTION_LOAD_PEAK] = { 0, "load-peak", "SIZE", "the most it takes while it loads" },
    [OPTION_WORKERS] = { 0, "workers", "N", "auto (as many as fit; default), 2, or 1..3" },
    [OPTION_RETRIES] = { 0, "retries", "N", "tries after the first one; default: 2" },
    [OPTION_FLUSH_EVERY] = { 0, "flush-every", "N", "flush a worker after N segments" },
    [OPTION_FLUSH_BY] = { 0, "flush-by", "HOW", "auto (default), worker or restart" },
    [OPTION_EACH] = { 0, "each", NULL, "a process per segment, which gets ${INPUT} and ${OUT}" },
    [OPTION_PROTOCOL] = { 0, "protocol", "P", "fd (default), stdio or each" },
    [OPTION_TIMEOUT] = { 0, "timeout", "TIME", "for one segment; default: none" },
    [OPTION_HEARTBEAT] = { 0, "heartbeat", "TIME", "for workers that announce one" },
    [OPTION_PRIORITY] = { 0, "priority", "P", "interactive, normal (default) or background" },
    [OPTION_GPU] = { 0, "gpu", "GPU", "index or UUID; default: where it fits" },
    [OPTION_ENV] = { 0, "env", "NAME=VALUE", "in the workers' environment; may be repeated" },
    [OPTION_SUMMARY] = { 0, "summary", "FILE", "write what became of it, as JSON" },
    [OPTION_AGAIN] = { 0, "again", NULL, "start over; old outputs are kept aside" },
    [OPTION_DETACH] = { 'd', "detach", NULL, "in the background; brim logs NAME -f shows it" },
};

/* ---- texts and lists of the spec ---- */

static int out_of_memory(struct error *err)
{
    return error_set(err, -ENOMEM, "out of memory");
}

static int set_text(char **text, const char *value, struct error *err)
{
    char *copy = strdup(value);

    if (!copy)
        return out_of_memory(err);
    free(*text);
    *text = copy;
    return 0;
}

/* Paths on the command line are taken from where the caller is. */
static int set_path(char **path, const char *value, struct error *err)
{
    OWNED(freep) char *dir = getcwd(NULL, 0);
    char *whole = NULL;

    if (!dir)
        return error_set(err, -errno, "the current directory is gone: %s", strerror(errno));
    if (asprintf(&whole, "%s%s%s", value[0] == '/' ? "" : dir, value[0] == '/' ? "" : "/", value) <
        0)
        return out_of_memory(err);
    free(*path);
    *path = whole;
    return 0;
}

static void free_list(char ***list)
{
    for (size_t i = 0; *list && (*list)[i]; i++)
        free((*list)[i]);
    free(*list);
    *list = NULL;
}

static int add_variable(struct stack_batch *spec, const char *value, struct error *err)
{
    size_t count = 0;

    if (value[0] == '=' || !strchr(value, '='))
        return error_set(err, -EINVAL, "--env: '%s' is not NAME=VALUE", value);
    while (spec->env && spec->env[count])
        count++;
    char **grown = reallocarray(spec->env, count + 2, sizeof(*grown));
    if (!grown)
        return out_of_memory(err);
    spec->env = grown;
    grown[count + 1] = NULL;
    grown[count] = strdup(value);
    return grown[count] ? 0 : out_of_memory(err);
}

static int set_command(struct stack_batch *spec, char **words, struct error *err)
{
    OWNED(free_list) char **list = NULL;
    size_t count = 0;

    while (words[count])
        count++;
    list = calloc(count + 1, sizeof(*list));
    for (size_t i = 0; list && i < count; i++) {
        list[i] = strdup(words[i]);
        if (!list[i])
            return out_of_memory(err);
    }
    if (!list)
        return out_of_memory(err);
    free_list(&spec->command);
    spec->command = TAKE(list);
    free(spec->dir);
    spec->dir = getcwd(NULL, 0);
    return spec->dir ? 0
                     : error_set(err, -errno, "the current directory is gone: %s", strerror(errno));
}

static int set_input(struct stack_batch *spec, enum stack_input input, const char *value,
                     struct error *err)
{
    spec->input = input;
    return set_path(&spec->input_path, value, err);
}

/* ---- options ---- */

static int read_sizes(struct stack_batch *spec, int found, const char *value, struct error *err)
{
    switch (found) {
    case OPTION_VRAM:
        return size_parse(value, &spec->resident_bytes, err) < 0 ? error_wrap(err, "--vram") : 0;
    case OPTION_BURST:
        return size_parse(value, &spec->burst_bytes, err) < 0 ? error_wrap(err, "--burst") : 0;
    case OPTION_LOAD_PEAK:
        return size_parse(value, &spec->load_peak_bytes, err) < 0 ? error_wrap(err, "--load-peak")
                                                                  : 0;
    case OPTION_TIMEOUT:
        return duration_parse(value, &spec->timeout_ms, err) < 0 ? error_wrap(err, "--timeout") : 0;
    default: /* OPTION_HEARTBEAT */
        return duration_parse(value, &spec->heartbeat_ms, err) < 0 ? error_wrap(err, "--heartbeat")
                                                                   : 0;
    }
}

static int read_words(struct stack_batch *spec, int found, const char *value, struct error *err)
{
    switch (found) {
    case OPTION_WORKERS:
        return stack_workers_parse(value, &spec->workers_min, &spec->workers_max, err);
    case OPTION_RETRIES:
        return stack_count_parse(value, STACK_RETRY_MAX, &spec->retries, err) < 0
                   ? error_wrap(err, "--retries")
                   : 0;
    case OPTION_FLUSH_EVERY:
        return stack_count_parse(value, UINT32_MAX, &spec->flush_every, err) < 0
                   ? error_wrap(err, "--flush-every")
                   : 0;
    case OPTION_FLUSH_BY:
        return stack_flush_parse(value, &spec->flush_by, err);
    case OPTION_PROTOCOL:
        return stack_protocol_parse(value, &spec->protocol, err);
    default: /* OPTION_PRIORITY */
        return stack_priority_parse(value, &spec->priority, err);
    }
}

static int read_option(struct batch_flags *flags, int found, const char *value, struct error *err)
{
    struct stack_batch *spec = &flags->spec;

    switch (found) {
    case OPTION_NAME:
        return set_text(&spec->name, value, err);
    case OPTION_LINES:
        return set_input(spec, STACK_INPUT_LINES, value, err);
    case OPTION_JSONL:
        return set_input(spec, STACK_INPUT_JSONL, value, err);
    case OPTION_FILES:
        return set_input(spec, STACK_INPUT_FILES, value, err);
    case OPTION_OUT:
        return set_path(&spec->output, value, err);
    case OPTION_GPU:
        return set_text(&spec->gpu, value, err);
    case OPTION_ENV:
        return add_variable(spec, value, err);
    case OPTION_EACH:
        spec->protocol = STACK_PROTOCOL_EACH;
        return 0;
    case OPTION_SUMMARY:
        flags->summary = value;
        return 0;
    case OPTION_AGAIN:
        flags->starts_over = true;
        return 0;
    case OPTION_DETACH:
        flags->is_detached = true;
        return 0;
    case OPTION_FILE:
        flags->file = value;
        return 0;
    case OPTION_VRAM:
    case OPTION_BURST:
    case OPTION_LOAD_PEAK:
    case OPTION_TIMEOUT:
    case OPTION_HEARTBEAT:
        return read_sizes(spec, found, value, err);
    default:
        return read_words(spec, found, value, err);
    }
}

static int print_help(const struct options *options)
{
    options_print_help(
        options,
        "NAME [-f FILE] [OPTION]...\n   or: brim batch run --name NAME --lines FILE --out "
        "'out/${SEGMENT}.wav'\n       --vram SIZE [OPTION]... -- COMMAND [ARGUMENT]...",
        "Starts as many workers as the gpu holds right now, gives them one segment after\n"
        "the other, and keeps what is done. The same command goes on where it stopped,\n"
        "after whatever interruption. Ctrl-C ends it when the segments in work are\n"
        "finished, twice at once. Status: 0 all done, 1 failed or some segments set\n"
        "aside, 2 usage or configuration, 3 a worker can never fit, 130 or 143 when it\n"
        "was interrupted.");
    return COMMAND_OK;
}

/* ---- where the batch comes from ---- */

static int take_from_file(const char *file, const char *name, struct stack_batch *spec,
                          struct error *err)
{
    struct stack stack = { 0 };
    int r = config_load(file, &stack, err);

    if (r < 0)
        return r;
    struct stack_batch *found = NULL;
    for (size_t i = 0; i < stack.batch_count; i++) {
        if (strcmp(stack.batches[i].name, name) == 0)
            found = &stack.batches[i];
    }
    if (found) {
        *spec = *found;
        *found = (struct stack_batch){ 0 };
    } else {
        r = error_set(err, -ENOENT, "%s has no batch '%s'; it has '%s'%s", file, name,
                      stack.batches[0].name, stack.batch_count > 1 ? " and others" : "");
    }
    stack_deinit(&stack);
    return r;
}

/* Twice over the words: first for what decides where the batch comes from, then for all of them, so
 * that flags win over the file wherever they stand. */
struct words {
    const char *name;
    char **command; /* behind --; NULL: none */
    const char *file;
};

/* -1, or the status to end with. */
static int look(struct options *options, struct words *words)
{
    int found = 0;

    while ((found = options_next(options)) != OPTIONS_END) {
        if (found == OPTIONS_HELP)
            return print_help(options);
        if (found == OPTIONS_WRONG)
            return COMMAND_USAGE;
        if (found == OPTIONS_OPERAND && options->is_ended) {
            words->command = options->argv + options->at - 1;
            return -1;
        }
        if (found == OPTIONS_OPERAND && words->name)
            return options_complain(options, "one batch at a time; a command stands behind --");
        if (found == OPTIONS_OPERAND)
            words->name = options->value;
        if (found == OPTION_FILE)
            words->file = options->value;
    }
    return -1;
}

static int apply(struct options *options, struct batch_flags *flags, struct error *err)
{
    int found = 0, r = 0;

    while (r == 0 && (found = options_next(options)) != OPTIONS_END) {
        if (found == OPTIONS_OPERAND && options->is_ended)
            return set_command(&flags->spec, options->argv + options->at - 1, err);
        if (found >= 0)
            r = read_option(flags, found, options->value, err);
    }
    return r;
}

int batch_flags_read(struct batch_flags *flags, int argc, char **argv)
{
    struct options options = { .command = "batch run",
                               .specs = specs,
                               .count = sizeof(specs) / sizeof(specs[0]) };
    struct words words = { 0 };
    struct error err = { 0 };
    int r = 0;

    *flags = (struct batch_flags){ 0 };
    stack_batch_init(&flags->spec);
    options_init(&options, argc, argv);
    const int status = look(&options, &words);
    if (status >= 0)
        return status;
    if (!words.command && !words.name)
        return options_complain(&options,
                                "which batch? write its name (brim.yaml describes it), or "
                                "flags and a command: brim batch run --help");
    if (words.file || !words.command)
        r = words.name ? take_from_file(words.file ? words.file : CONFIG_FILE_DEFAULT, words.name,
                                        &flags->spec, &err)
                       : error_set(&err, -EINVAL, "which batch of %s?", words.file);
    else if (words.name)
        r = set_text(&flags->spec.name, words.name, &err);
    options_init(&options, argc, argv);
    if (r == 0)
        r = apply(&options, flags, &err);
    if (r == 0)
        return -1;
    fprintf(stderr, "brim batch run: %s\n", err.message);
    return COMMAND_USAGE;
}
