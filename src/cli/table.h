/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stddef.h>
#include <stdio.h>

#include "cli/terminal.h"

/*
 * A table for people: columns as wide as their widest cell. Where the whole would be wider than the
 * terminal the first column is cut, then others are left out. Cells are copied and cleaned; without
 * a row nothing is printed.
 */

#define TABLE_COLUMN_MAX 10

struct table_column {
    const char *head;
    char side;        /* 'l' or 'r' */
    unsigned columns; /* the first: what it keeps when it is cut; others: 0 = never left out, else
                         the order in which they are (1 goes first) */
};

struct table;

int table_new(const struct terminal *terminal, const struct table_column *columns, size_t count,
              struct table **ret_table);
void table_free(struct table *table);
void table_freep(struct table **slot);

/* One row: as many texts as there are columns; NULL is an empty cell. Returns 0 or -ENOMEM. */
int table_add(struct table *table, const char *const *cells);

void table_print(const struct table *table, FILE *out, unsigned indent);

#endif
