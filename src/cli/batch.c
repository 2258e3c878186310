/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/batch.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/suggest.h"
#include "batch/output.h"
#include "cli/batch.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/table.h"

/*
 * brim batch: ls, show and cancel read what the batches' own files say (store/segments.h); they
 * need no daemon. Who runs a batch is believed only where that very process still lives.
 */

static void free_segments(struct segments **segments)
{
    segments_close(*segments);
    *segments = NULL;
}

static int fail(const char *command, const struct error *err)
{
    fprintf(stderr, "brim %s: %s\n", command, err->message);
    return COMMAND_FAILED;
}

static int open_batch(const char *name, struct segments **ret_segments, struct error *err)
{
    char dir[PATHS_BYTES];
    int r = batch_dir(name, dir, err);

    if (r < 0)
        return r;
    r = segments_open_read(dir, ret_segments, err);
    return r == -ENOENT
               ? error_set(err, r, "there is no batch '%s'; brim batch ls lists them", name)
               : r;
}

int batch_find(const char *name, struct segments_info *ret_info, struct error *err)
{
    OWNED(free_segments) struct segments *segments = NULL;
    const int r = open_batch(name, &segments, err);

    return r < 0 ? r : segments_read_info(segments, ret_info, err);
}

static bool is_running(const struct segments_info *info)
{
    return info->runner_pid > 0 && process_is_alive(info->runner_pid, info->runner_start_ticks);
}

int batch_runner(const char *name, const struct segments_info *info, struct error *err)
{
    const int pidfd =
        info->runner_pid > 0 ? process_open(info->runner_pid, info->runner_start_ticks) : -ESRCH;

    if (pidfd == -ESRCH)
        return error_set(err, -ESRCH, "batch '%s' is not running", name);
    return pidfd < 0 ? error_set(err, pidfd, "cannot reach process %d: %s", (int)info->runner_pid,
                                 strerror(-pidfd))
                     : pidfd;
}

static const char *state_text(const struct segments_info *info)
{
    if (is_running(info))
        return "running";
    if (info->total > 0 && info->done == info->total)
        return "done";
    return info->total > 0 && info->done + info->failed == info->total ? "incomplete" : "stopped";
}

static json_t *info_object(const char *name, const struct segments_info *info)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:s, s:I, s:I}", "name", name, "state",
                     state_text(info), "segments_total", (json_int_t)info->total, "segments_done",
                     (json_int_t)info->done, "segments_failed", (json_int_t)info->failed, "pid",
                     is_running(info) ? json_integer(info->runner_pid) : json_null(), "output",
                     info->output, "started_unix_ms", (json_int_t)info->started_unix_ms,
                     "ended_unix_ms", (json_int_t)info->ended_unix_ms);
}

static int fail_for_memory(const char *verb)
{
    struct error err = { 0 };

    (void)error_set(&err, -ENOMEM, "out of memory");
    return fail(verb, &err);
}

/* As a whole or not at all. */
static int print_json(const char *verb, json_t *take_value)
{
    OWNED(freep) char *text = take_value ? json_dumps(take_value, JSON_INDENT(2)) : NULL;

    json_decref(take_value);
    if (!text)
        return fail_for_memory(verb);
    (void)puts(text);
    return COMMAND_OK;
}

/* ---- ls ---- */

static int is_batch(const struct dirent *entry)
{
    return stack_name_check(entry->d_name, NULL) == 0;
}

static void free_names(struct dirent **names, int count)
{
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

static int add_row(struct table *table, const char *name, const struct segments_info *info)
{
    char done[48], failed[24], pid[16] = "";

    (void)snprintf(done, sizeof(done), "%" PRIu64 "/%" PRIu64, info->done, info->total);
    (void)snprintf(failed, sizeof(failed), "%" PRIu64, info->failed);
    if (is_running(info))
        (void)snprintf(pid, sizeof(pid), "%d", (int)info->runner_pid);
    const char *const cells[] = { name, state_text(info), done, failed, pid };
    return table_add(table, cells);
}

static int list(struct dirent **names, int count, bool is_json)
{
    static const struct table_column columns[] = { { "BATCH", 'l', 12 },
                                                   { "STATE", 'l', 0 },
                                                   { "DONE", 'r', 0 },
                                                   { "SET ASIDE", 'r', 2 },
                                                   { "PID", 'r', 1 } };
    OWNED(table_freep) struct table *table = NULL;
    json_t *array = json_array();
    struct terminal terminal;
    int r = 0;

    terminal_detect(&terminal);
    if (!array || table_new(&terminal, columns, 5, &table) < 0)
        r = -ENOMEM;
    for (int i = 0; i < count && r == 0; i++) {
        struct segments_info info = { 0 };
        if (batch_find(names[i]->d_name, &info, NULL) < 0)
            continue;
        r = is_json ? json_array_append_new(array, info_object(names[i]->d_name, &info))
                    : add_row(table, names[i]->d_name, &info);
    }
    if (r < 0) {
        json_decref(array);
        return fail_for_memory("batch ls");
    }
    if (is_json)
        return print_json("batch ls", array);
    if (count == 0)
        printf("no batches yet; brim batch run --help tells how to start one\n");
    table_print(table, stdout, 0);
    json_decref(array);
    return COMMAND_OK;
}

static int run_ls(bool is_json)
{
    char root[PATHS_BYTES];
    struct dirent **names = NULL;
    struct error err = { 0 };

    if (batch_root_dir(root, &err) < 0)
        return fail("batch ls", &err);
    const int count = scandir(root, &names, is_batch, alphasort);
    if (count < 0 && errno != ENOENT) {
        (void)error_set(&err, -errno, "cannot read %s: %s", root, strerror(errno));
        return fail("batch ls", &err);
    }
    const int status = list(names, count < 0 ? 0 : count, is_json);
    free_names(names, count);
    return status;
}

/* ---- show ---- */

struct failures {
    json_t *array; /* NULL: print them */
    bool has_head;
};

static int show_failure(const struct segment_row *row, void *user)
{
    struct failures *failures = user;
    char id[OUTPUT_ID_BYTES];

    if (row->state != SEGMENT_FAILED)
        return 0;
    if (failures->array)
        return json_array_append_new(failures->array,
                                     json_pack("{s:I, s:s, s:I, s:s}", "segment",
                                               (json_int_t)row->index, "id",
                                               output_id(row->index, id), "tries",
                                               (json_int_t)row->tries, "reason", row->reason)) < 0
                   ? -ENOMEM
                   : 0;
    if (!failures->has_head)
        printf("set aside:\n");
    failures->has_head = true;
    printf("  %s  after %" PRIu32 " %s: %s\n", output_id(row->index, id), row->tries,
           row->tries == 1 ? "try" : "tries", row->reason);
    return 0;
}

static void show_text(const char *name, const char *dir, const struct segments_info *info)
{
    printf("%s: %s\n", name, state_text(info));
    printf("  segments   %" PRIu64 " of %" PRIu64 " done, %" PRIu64 " set aside\n", info->done,
           info->total, info->failed);
    if (is_running(info))
        printf("  process    %d\n", (int)info->runner_pid);
    printf("  output     %s\n", info->output);
    printf("  files      %s\n", dir);
}

static int run_show(const char *name, bool is_json)
{
    OWNED(free_segments) struct segments *segments = NULL;
    struct segments_info info = { 0 };
    struct error err = { 0 };
    struct failures failures = { 0 };
    char dir[PATHS_BYTES];
    json_t *object = NULL;

    if (batch_dir(name, dir, &err) < 0 || open_batch(name, &segments, &err) < 0 ||
        segments_read_info(segments, &info, &err) < 0)
        return fail("batch show", &err);
    if (is_json) {
        object = info_object(name, &info);
        failures.array = json_array();
        if (!object || json_object_set_new(object, "failures", failures.array) < 0) {
            json_decref(object);
            return fail_for_memory("batch show");
        }
    } else {
        show_text(name, dir, &info);
    }
    const int r = segments_each(segments, show_failure, &failures, &err);
    if (r < 0) {
        json_decref(object);
        return r == -ENOMEM ? fail_for_memory("batch show") : fail("batch show", &err);
    }
    return is_json ? print_json("batch show", object) : COMMAND_OK;
}

/* ---- cancel ---- */

static int run_cancel(const char *name, bool is_now)
{
    OWNED(fd_close) int pidfd = -1;
    struct segments_info info = { 0 };
    struct error err = { 0 };

    if (batch_find(name, &info, &err) < 0)
        return fail("batch cancel", &err);
    pidfd = batch_runner(name, &info, &err);
    if (pidfd < 0)
        return fail("batch cancel", &err);
    /* The second one ends it at once; a signal that is still pending would swallow it. */
    int r = process_signal(pidfd, SIGTERM);
    if (r == 0 && is_now)
        r = process_signal(pidfd, SIGINT);
    if (r < 0) {
        (void)error_set(&err, r, "cannot signal process %d: %s", (int)info.runner_pid,
                        strerror(-r));
        return fail("batch cancel", &err);
    }
    printf(is_now ? "%s (process %d) ends now; what is done stays done\n"
                  : "%s (process %d) ends when the segments in work are finished\n",
           name, (int)info.runner_pid);
    return COMMAND_OK;
}

/* ---- brim batch ---- */

enum {
    OPTION_JSON,
    OPTION_NOW,
};

static const struct option_spec specs[] = {
    [OPTION_JSON] = { 0, "json", NULL, "ls, show: as JSON" },
    [OPTION_NOW] = { 0, "now", NULL, "cancel: without waiting for the segments in work" },
};

static int print_help(const struct options *options)
{
    options_print_help(options, "run NAME | ls | show NAME | cancel NAME",
                       "A batch: identical workers take segments from a durable queue, as many\n"
                       "as the gpu holds right now. `brim batch run --help` tells how to start\n"
                       "one; the same command goes on where it stopped. See also brim flush and\n"
                       "brim logs.");
    return COMMAND_OK;
}

static int call(const struct options *options, const char *verb, const char *name, bool is_json,
                bool is_now)
{
    static const char *const verbs[] = { "run", "ls", "show", "cancel" };
    const char *meant = NULL;

    if (!verb)
        return options_complain(options, "say what to do: run NAME, ls, show NAME or cancel NAME");
    if (strcmp(verb, "ls") == 0)
        return run_ls(is_json);
    if (strcmp(verb, "show") != 0 && strcmp(verb, "cancel") != 0) {
        meant = suggest_nearest(verb, verbs, 4);
        return options_complain(options, "unknown: %s; %s%s?", verb,
                                meant ? "did you mean " : "one of run, ls, show, cancel",
                                meant ? meant : "");
    }
    if (!name)
        return options_complain(options, "%s which batch? brim batch ls lists them", verb);
    return strcmp(verb, "show") == 0 ? run_show(name, is_json) : run_cancel(name, is_now);
}

int cmd_batch(int argc, char **argv)
{
    struct options options = { .command = "batch",
                               .specs = specs,
                               .count = sizeof(specs) / sizeof(specs[0]) };
    const char *words[2] = { NULL, NULL };
    bool is_json = false, is_now = false;
    int found = 0;

    if (argc > 1 && strcmp(argv[1], "run") == 0)
        return batch_run_command(argc - 1, argv + 1);
    options_init(&options, argc, argv);
    while ((found = options_next(&options)) != OPTIONS_END) {
        if (found == OPTIONS_HELP)
            return print_help(&options);
        if (found == OPTIONS_WRONG)
            return COMMAND_USAGE;
        if (found == OPTIONS_OPERAND && words[1])
            return options_complain(&options, "one name at a time");
        if (found == OPTIONS_OPERAND)
            words[words[0] ? 1 : 0] = options.value;
        is_json = is_json || found == OPTION_JSON;
        is_now = is_now || found == OPTION_NOW;
    }
    return call(&options, words[0], words[1], is_json, is_now);
}
