/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GAP          2
#define CELL_COLUMNS 60 /* no cell is wider */

struct table {
    const struct terminal *terminal;      /* borrowed */
    const struct table_column *columns;   /* borrowed */
    size_t column_count, row_count, room; /* room: rows allocated */
    char **cells;                         /* owned: row after row */
};

int table_new(const struct terminal *terminal, const struct table_column *columns, size_t count,
              struct table **ret_table)
{
    struct table *const table = calloc(1, sizeof(*table));

    if (!table)
        return -ENOMEM;
    table->terminal = terminal;
    table->columns = columns;
    table->column_count = count;
    *ret_table = table;
    return 0;
}

void table_free(struct table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->row_count * table->column_count; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table);
}

void table_freep(struct table **slot)
{
    table_free(*slot);
}

static int make_room(struct table *table)
{
    if (table->row_count < table->room)
        return 0;
    const size_t room = table->room > 0 ? table->room * 2 : 16;
    char **const cells =
        reallocarray(table->cells, room * table->column_count, sizeof(*table->cells));
    if (!cells)
        return -ENOMEM;
    table->cells = cells;
    table->room = room;
    return 0;
}

int table_add(struct table *table, const char *const *cells)
{
    char clean[TERMINAL_TEXT_BYTES];

    if (make_room(table) < 0)
        return -ENOMEM;
    char **const row = table->cells + table->row_count * table->column_count;
    for (size_t i = 0; i < table->column_count; i++) {
        const char *const cell = cells[i] ? cells[i] : "";
        row[i] = strdup(terminal_clean(table->terminal, cell, CELL_COLUMNS, clean));
        if (!row[i]) {
            while (i-- > 0)
                free(row[i]);
            return -ENOMEM;
        }
    }
    table->row_count++;
    return 0;
}

static size_t column_width(const struct table *table, size_t column)
{
    size_t widest = strlen(table->columns[column].head);

    for (size_t row = 0; row < table->row_count; row++) {
        const size_t width = terminal_width(table->cells[row * table->column_count + column]);
        if (width > widest)
            widest = width;
    }
    return widest;
}

static size_t sum_of(const struct table *table, unsigned indent, const size_t *widths)
{
    size_t sum = indent;

    for (size_t i = 0; i < table->column_count; i++)
        sum += widths[i] > 0 ? widths[i] + (i > 0 ? GAP : 0) : 0;
    return sum;
}

/* A width of 0: the column is left out. */
static void fit_widths(const struct table *table, unsigned indent, size_t *widths)
{
    const size_t room = table->terminal->columns;
    const size_t least = table->columns[0].columns;

    for (size_t i = 0; i < table->column_count; i++)
        widths[i] = column_width(table, i);
    for (unsigned order = 1; order <= TABLE_COLUMN_MAX; order++) {
        const size_t sum = sum_of(table, indent, widths);
        const size_t can_cut = widths[0] > least ? widths[0] - least : 0;
        if (sum <= room + can_cut) {
            widths[0] -= sum > room ? sum - room : 0;
            return;
        }
        for (size_t i = 1; i < table->column_count; i++)
            widths[i] = table->columns[i].columns == order ? 0 : widths[i];
    }
}

static void print_cell(FILE *out, const char *text, size_t width, char side, bool is_last)
{
    const size_t used = terminal_width(text);
    const int padding = used < width ? (int)(width - used) : 0;

    if (side == 'r')
        fprintf(out, "%*s%s", padding, "", text);
    else
        fprintf(out, "%s%*s", text, is_last ? 0 : padding, "");
}

/* One line of the table; cells NULL: the heads. */
static void print_line(const struct table *table, FILE *out, char *const *cells,
                       const size_t *widths)
{
    char cut[TERMINAL_TEXT_BYTES];
    size_t last = 0;

    for (size_t i = 0; i < table->column_count; i++)
        last = widths[i] > 0 ? i : last;
    for (size_t i = 0; i <= last; i++) {
        const char *cell = cells ? cells[i] : table->columns[i].head;
        if (widths[i] == 0)
            continue;
        if (i == 0)
            cell = terminal_clean(table->terminal, cell, widths[0], cut);
        fprintf(out, "%*s", i > 0 ? GAP : 0, "");
        print_cell(out, cell, widths[i], table->columns[i].side, i == last);
    }
    fputc('\n', out);
}

void table_print(const struct table *table, FILE *out, unsigned indent)
{
    size_t widths[TABLE_COLUMN_MAX] = { 0 };

    if (table->row_count == 0)
        return;
    fit_widths(table, indent, widths);
    fprintf(out, "%*s", (int)indent, "");
    print_line(table, out, NULL, widths);
    for (size_t row = 0; row < table->row_count; row++) {
        fprintf(out, "%*s", (int)indent, "");
        print_line(table, out, table->cells + row * table->column_count, widths);
    }
}
