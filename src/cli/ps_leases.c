/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/ps_view.h"
#include "cli/table.h"

/* The leases of `brim ps`: who holds, who waits and for what, and what to do next. */

#define INDENT     2
#define NAME_LEAST 12 /* columns that a name keeps on a narrow terminal */

/* The texts of one row. */
struct row {
    char gpu[24], holds[SIZE_TEXT_BYTES], burst[SIZE_TEXT_BYTES], pid[24],
        since[DURATION_TEXT_BYTES];
};

static const char *size_or_dash(uint64_t bytes, char text[SIZE_TEXT_BYTES])
{
    if (bytes > 0)
        return size_format(bytes, text);
    (void)snprintf(text, SIZE_TEXT_BYTES, "-");
    return text;
}

static void fill_row(const struct ps_view *view, const json_t *lease, uint64_t bytes,
                     struct row *row)
{
    const uint64_t since = ps_number(lease, "since_unix_ms");
    const json_t *const gpus = json_object_get(lease, "gpus");

    (void)snprintf(row->gpu, sizeof(row->gpu), "%" PRIu64,
                   (uint64_t)json_integer_value(json_array_get(gpus, 0)));
    (void)size_or_dash(bytes, row->holds);
    (void)size_or_dash(ps_number(lease, "burst_bytes"), row->burst);
    (void)snprintf(row->pid, sizeof(row->pid), "%" PRIu64, ps_number(lease, "pid"));
    (void)duration_format(view->now_unix_ms > since ? view->now_unix_ms - since : 0, row->since);
}

/* On each of its gpus a lease holds the same. */
static uint64_t bytes_on_one(const json_t *lease)
{
    const size_t count = json_array_size(json_object_get(lease, "gpus"));

    return ps_number(lease, "charge_bytes") / (count > 0 ? count : 1);
}

static bool is_shown(const json_t *lease, const json_t *gpu)
{
    return strcmp(ps_text(lease, "state"), "queued") != 0 &&
           (!gpu || ps_is_on(lease, ps_number(gpu, "index")));
}

static void print_overdrafts(const struct ps_view *view, const json_t *gpu)
{
    size_t i = 0;
    json_t *lease = NULL;
    char name[TERMINAL_TEXT_BYTES], size[SIZE_TEXT_BYTES];

    json_array_foreach(json_object_get(view->status, "leases"), i, lease)
    {
        if (!is_shown(lease, gpu) || ps_number(lease, "overdraft_bytes") == 0)
            continue;
        fprintf(view->out, "%*s", INDENT, "");
        terminal_paint(view->terminal, view->out, TERMINAL_RED, "! ");
        fprintf(view->out, "%s holds %s more than its claim\n",
                terminal_clean(view->terminal, ps_text(lease, "name"), 0, name),
                size_format(ps_number(lease, "overdraft_bytes"), size));
    }
}

int ps_view_print_leases(const struct ps_view *view, const json_t *gpu)
{
    static const struct table_column columns[] = {
        { "NAME", 'l', NAME_LEAST }, { "STATE", 'l', 0 }, { "HOLDS", 'r', 0 }, { "BURST", 'r', 0 },
        { "PRIORITY", 'l', 2 },      { "PID", 'r', 3 },   { "SINCE", 'r', 1 }, { "GPU", 'r', 0 },
    };
    OWNED(table_freep) struct table *table = NULL;
    size_t i = 0, shown = 0;
    json_t *lease = NULL;
    struct row row;

    if (table_new(view->terminal, columns, gpu ? 7 : 8, &table) < 0)
        return -ENOMEM;
    json_array_foreach(json_object_get(view->status, "leases"), i, lease)
    {
        if (!is_shown(lease, gpu))
            continue;
        fill_row(view, lease, bytes_on_one(lease), &row);
        const char *const cells[] = { ps_text(lease, "name"),
                                      ps_text(lease, "state"),
                                      row.holds,
                                      row.burst,
                                      ps_text(lease, "priority"),
                                      row.pid,
                                      row.since,
                                      row.gpu };
        if (table_add(table, cells) < 0)
            return -ENOMEM;
        shown++;
    }
    if (gpu)
        fputc('\n', view->out);
    if (shown == 0)
        fprintf(view->out, "%*snobody holds a lease%s\n", INDENT, "", gpu ? " here" : "");
    table_print(table, view->out, INDENT);
    print_overdrafts(view, gpu);
    return 0;
}

static int add_waiter(const struct ps_view *view, const json_t *lease, struct table *table)
{
    const bool is_queued = strcmp(ps_text(lease, "state"), "queued") == 0;
    struct row row;

    /* A holder that waits has its residence already: what it asks for is the burst. */
    fill_row(view, lease, is_queued ? ps_number(lease, "resident_bytes") : 0, &row);
    const char *const cells[] = { ps_text(lease, "name"),     row.holds, row.burst,
                                  ps_text(lease, "priority"), row.pid,   row.since };
    return table_add(table, cells);
}

int ps_view_print_waiting(const struct ps_view *view)
{
    static const struct table_column columns[] = {
        { "WAITS", 'l', NAME_LEAST }, { "ASKS", 'r', 0 }, { "BURST", 'r', 0 },
        { "PRIORITY", 'l', 2 },       { "PID", 'r', 3 },  { "SINCE", 'r', 1 },
    };
    const json_t *const leases = json_object_get(view->status, "leases");
    OWNED(table_freep) struct table *table = NULL;
    size_t i = 0, count = 0;
    json_t *lease = NULL;

    if (table_new(view->terminal, columns, 6, &table) < 0)
        return -ENOMEM;
    json_array_foreach(leases, i, lease)
    {
        if (!ps_is_waiting(lease))
            continue;
        if (add_waiter(view, lease, table) < 0)
            return -ENOMEM;
        count++;
    }
    if (count == 0)
        return 0;
    fputc('\n', view->out);
    table_print(table, view->out, INDENT);
    json_array_foreach(leases, i, lease)
    {
        if (ps_is_waiting(lease) && *ps_text(lease, "waiting_for"))
            terminal_wrap(view->terminal, view->out, 2 * INDENT, ps_text(lease, "waiting_for"));
    }
    return 0;
}

int ps_view_print_batches(const struct ps_view *view)
{
    static const struct table_column columns[] = {
        { "BATCH", 'l', NAME_LEAST }, { "DONE", 'r', 0 }, { "OF", 'r', 0 },
        { "SET ASIDE", 'r', 2 },      { "PID", 'r', 1 },
    };
    OWNED(table_freep) struct table *table = NULL;
    size_t i = 0;
    json_t *batch = NULL;
    char done[24], total[24], failed[24], pid[24];

    if (json_array_size(view->batches) == 0)
        return 0;
    if (table_new(view->terminal, columns, 5, &table) < 0)
        return -ENOMEM;
    json_array_foreach(view->batches, i, batch)
    {
        (void)snprintf(done, sizeof(done), "%" PRIu64, ps_number(batch, "segments_done"));
        (void)snprintf(total, sizeof(total), "%" PRIu64, ps_number(batch, "segments_total"));
        (void)snprintf(failed, sizeof(failed), "%" PRIu64, ps_number(batch, "segments_failed"));
        (void)snprintf(pid, sizeof(pid), "%" PRIu64, ps_number(batch, "pid"));
        const char *const cells[] = { ps_text(batch, "name"), done, total, failed, pid };
        if (table_add(table, cells) < 0)
            return -ENOMEM;
    }
    fputc('\n', view->out);
    table_print(table, view->out, INDENT);
    return 0;
}

void ps_view_print_names(const struct ps_view *view)
{
    char clean[TERMINAL_TEXT_BYTES];
    size_t i = 0;
    json_t *lease = NULL;

    json_array_foreach(json_object_get(view->status, "leases"), i, lease) fprintf(
        view->out, "%s\n", terminal_clean(view->terminal, ps_text(lease, "name"), 0, clean));
}

/* ---- what to do next ---- */

static const json_t *find_waiter(const struct ps_view *view)
{
    size_t i = 0;
    json_t *lease = NULL;

    json_array_foreach(json_object_get(view->status, "leases"), i, lease)
    {
        if (ps_is_waiting(lease))
            return lease;
    }
    return NULL;
}

static uint64_t most_free(const struct ps_view *view)
{
    uint64_t most = 0;
    size_t i = 0;
    json_t *gpu = NULL;

    json_array_foreach(json_object_get(view->status, "gpus"), i, gpu)
    {
        if (ps_number(gpu, "free_bytes") > most)
            most = ps_number(gpu, "free_bytes");
    }
    return most;
}

/* A size to type that is surely not larger: "5.5GiB", "300MiB". */
static void format_typed(uint64_t bytes, char text[SIZE_TEXT_BYTES])
{
    if (bytes >= GIB)
        (void)snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 ".%" PRIu64 "GiB", bytes / GIB,
                       bytes % GIB * 10 / GIB);
    else
        (void)snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 "MiB", bytes / MIB);
}

static void print_line(const struct ps_view *view, unsigned *left, const char *command,
                       const char *what)
{
    if (*left == 0)
        return;
    fputs(*left == view->next_count ? "\nnext: " : "      ", view->out);
    fprintf(view->out, "%-36s %s\n", command, what);
    (*left)--;
}

void ps_view_print_next(const struct ps_view *view)
{
    const json_t *const waiter = find_waiter(view);
    const uint64_t free_bytes = most_free(view);
    unsigned left = view->next_count;
    char clean[TERMINAL_TEXT_BYTES], command[128], size[SIZE_TEXT_BYTES];

    if (waiter) {
        (void)snprintf(command, sizeof(command), "brim why %.60s",
                       terminal_clean(view->terminal, ps_text(waiter, "name"), 0, clean));
        print_line(view, &left, command, "what it waits for, and what to do");
    }
    if (free_bytes >= MIB) {
        format_typed(free_bytes, size);
        (void)snprintf(command, sizeof(command), "brim run --vram %s -- COMMAND", size);
        print_line(view, &left, command, "put a program under a lease");
    }
    print_line(view, &left, "brim batch run --help", "as many workers as the card holds");
    print_line(view, &left, "brim events -f", "watch what happens");
    print_line(view, &left, "brim --help", "everything else");
}
