/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/ps_view.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/bar.h"
#include "cli/table.h"

#define OLD_FACTS_MS 3000 /* older figures of the driver are said to be old */
#define FOREIGN_MAX  8    /* programs shown by name */
#define INDENT       2

uint64_t ps_number(const json_t *object, const char *name)
{
    const json_int_t number = json_integer_value(json_object_get(object, name));

    return number > 0 ? (uint64_t)number : 0;
}

const char *ps_text(const json_t *object, const char *name)
{
    const char *const text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

bool ps_is_waiting(const json_t *lease)
{
    return strcmp(ps_text(lease, "state"), "queued") == 0 || *ps_text(lease, "waiting_for");
}

bool ps_is_on(const json_t *lease, uint64_t gpu_index)
{
    const json_t *const gpus = json_object_get(lease, "gpus");
    size_t i = 0;
    json_t *index = NULL;

    json_array_foreach(gpus, i, index)
    {
        if (json_integer_value(index) >= 0 && (uint64_t)json_integer_value(index) == gpu_index)
            return true;
    }
    return false;
}

/* ---- one gpu ---- */

static uint64_t minus(uint64_t from, uint64_t bytes)
{
    return from > bytes ? from - bytes : 0;
}

/* What is neither held nor reserved, less what the daemon would give away, is kept for bursts. */
static uint64_t kept_bytes(const json_t *gpu, uint64_t taken_bytes)
{
    const uint64_t rest = minus(ps_number(gpu, "capacity_bytes"), taken_bytes);

    return minus(rest, ps_number(gpu, "free_bytes"));
}

static void print_bar(const struct ps_view *view, const json_t *gpu)
{
    const bool has_bytes = !json_is_false(json_object_get(gpu, "has_process_bytes"));
    struct bar_part parts[] = {
        { "held", "█", "#", TERMINAL_BLUE, ps_number(gpu, "charged_bytes") },
        { "draining", "▒", "~", TERMINAL_MAGENTA, ps_number(gpu, "draining_bytes") },
        { has_bytes ? "foreign" : "foreign (estimated)", "▚", "x", TERMINAL_YELLOW,
          ps_number(gpu, "foreign_bytes") },
        { "reserve", "░", "=", TERMINAL_DIM, ps_number(gpu, "reserve_bytes") },
        { "kept for bursts", "▓", "+", TERMINAL_BLUE, 0 },
        { "free", "·", ".", TERMINAL_GREEN, 0 },
    };
    const size_t count = sizeof(parts) / sizeof(parts[0]);
    uint64_t taken = 0;

    for (size_t i = 0; i < 4; i++)
        taken += parts[i].bytes;
    parts[4].bytes = kept_bytes(gpu, taken);
    parts[5].bytes = minus(ps_number(gpu, "capacity_bytes"), taken + parts[4].bytes);
    fprintf(view->out, "%*s", INDENT, "");
    bar_print(view->terminal, view->out, parts, count, view->terminal->columns - 2 * INDENT - 2);
    bar_print_legend(view->terminal, view->out, parts, count, INDENT);
}

static void print_warning(const struct ps_view *view, const char *text)
{
    char clean[TERMINAL_TEXT_BYTES];

    fprintf(view->out, "%*s", INDENT, "");
    terminal_paint(view->terminal, view->out, TERMINAL_RED, "! ");
    fprintf(view->out, "%s\n", terminal_clean(view->terminal, text, 0, clean));
}

static void print_warnings(const struct ps_view *view, const json_t *gpu)
{
    const uint64_t held = ps_number(gpu, "charged_bytes") + ps_number(gpu, "draining_bytes") +
                          ps_number(gpu, "foreign_bytes") + ps_number(gpu, "reserve_bytes");
    const uint64_t over = minus(held, ps_number(gpu, "capacity_bytes"));
    char size[SIZE_TEXT_BYTES], age[DURATION_TEXT_BYTES], text[512];

    if (over > 0) {
        (void)snprintf(text, sizeof(text),
                       "over by %s, the reserve included: nothing new is granted until it holds",
                       size_format(over, size));
        print_warning(view, text);
    }
    if (ps_number(gpu, "facts_age_ms") > OLD_FACTS_MS) {
        (void)snprintf(text, sizeof(text), "the driver's figures are %s old",
                       duration_format(ps_number(gpu, "facts_age_ms"), age));
        print_warning(view, text);
    }
    if (json_is_true(json_object_get(gpu, "lost")))
        print_warning(view, "the driver does not show this gpu any more");
    if (json_is_false(json_object_get(gpu, "managed_by_us"))) {
        (void)snprintf(text, sizeof(text), "%s%s",
                       "not managed here: another arbiter has this gpu ",
                       ps_text(gpu, "managed_by"));
        print_warning(view, text);
    }
}

/* The largest programs without a lease, and how much the others hold. */
static int print_foreign(const struct ps_view *view, const json_t *gpu)
{
    static const struct table_column columns[] = { { "FOREIGN", 'l', 12 },
                                                   { "PID", 'r', 0 },
                                                   { "HOLDS", 'r', 0 } };
    const json_t *const programs = json_object_get(gpu, "foreign");
    const bool has_bytes = !json_is_false(json_object_get(gpu, "has_process_bytes"));
    OWNED(table_freep) struct table *table = NULL;
    uint64_t left_bytes = 0;
    size_t i = 0;
    json_t *program = NULL;
    char pid[24], size[SIZE_TEXT_BYTES];

    if (json_array_size(programs) == 0)
        return 0;
    if (table_new(view->terminal, columns, 3, &table) < 0)
        return -ENOMEM;
    json_array_foreach(programs, i, program)
    {
        if (i >= FOREIGN_MAX) {
            left_bytes += ps_number(program, "bytes");
            continue;
        }
        (void)snprintf(pid, sizeof(pid), "%" PRIu64, ps_number(program, "pid"));
        (void)size_format(ps_number(program, "bytes"), size);
        const char *const cells[] = { ps_text(program, "name"), pid,
                                      has_bytes ? size : "not told" };
        if (table_add(table, cells) < 0)
            return -ENOMEM;
    }
    fputc('\n', view->out);
    table_print(table, view->out, INDENT);
    if (i > FOREIGN_MAX)
        fprintf(view->out, "%*sand %zu more with %s\n", INDENT, "", i - FOREIGN_MAX,
                size_format(left_bytes, size));
    return 0;
}

int ps_view_print_gpu(const struct ps_view *view, const json_t *gpu)
{
    char name[TERMINAL_TEXT_BYTES], size[SIZE_TEXT_BYTES], text[64];

    (void)snprintf(text, sizeof(text), "gpu %" PRIu64, ps_number(gpu, "index"));
    terminal_paint(view->terminal, view->out, TERMINAL_BOLD, text);
    fprintf(view->out, "  %s  %s\n", terminal_clean(view->terminal, ps_text(gpu, "name"), 48, name),
            size_format(ps_number(gpu, "capacity_bytes"), size));
    print_bar(view, gpu);
    print_warnings(view, gpu);
    if (view->has_leases && ps_view_print_leases(view, gpu) < 0)
        return -ENOMEM;
    return print_foreign(view, gpu);
}

/* ---- the whole ---- */

static void print_head(const struct ps_view *view)
{
    char clean[TERMINAL_TEXT_BYTES];
    const char *const problem = ps_text(view->status, "problem");

    if (view->is_emulated) {
        terminal_paint(view->terminal, view->out, TERMINAL_MAGENTA, "EMULATED");
        fprintf(view->out, "  %s\n",
                terminal_clean(view->terminal,
                               view->emulated && *view->emulated ? view->emulated
                                                                 : "no real gpu is involved",
                               view->terminal->columns - 12, clean));
    }
    if (!view->has_daemon)
        fprintf(view->out, "no daemon runs: all programs are foreign; `brim run` starts one\n");
    if (*problem) {
        terminal_paint(view->terminal, view->out, TERMINAL_RED, "! ");
        fprintf(view->out, "%s\n", terminal_clean(view->terminal, problem, 0, clean));
    }
}

int ps_view_print(const struct ps_view *view)
{
    const json_t *const gpus = json_object_get(view->status, "gpus");
    size_t i = 0;
    json_t *gpu = NULL;

    print_head(view);
    if (!view->has_gpus && ps_view_print_leases(view, NULL) < 0)
        return -ENOMEM;
    json_array_foreach(gpus, i, gpu)
    {
        if (!view->has_gpus)
            break;
        if (i > 0)
            fputc('\n', view->out);
        if (ps_view_print_gpu(view, gpu) < 0)
            return -ENOMEM;
    }
    if (view->has_leases && (ps_view_print_waiting(view) < 0 || ps_view_print_batches(view) < 0))
        return -ENOMEM;
    ps_view_print_next(view);
    return 0;
}
