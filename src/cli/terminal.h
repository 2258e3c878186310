/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/*
 * What the output can show: how wide it is, whether it takes UTF-8, whether colours. Text of others
 * (process names, lease names) is made harmless on its way: what would move the cursor, change
 * colours or turn the writing direction is shown as \xNN.
 */

struct terminal {
    unsigned columns;
    bool is_utf8;
    bool has_colour; /* a terminal, and neither NO_COLOR nor TERM=dumb */
};

/* stdout as it is: $COLUMNS, else the terminal's own width, else 80; at least 40. Sets the locale's
 * character type. */
void terminal_detect(struct terminal *ret_terminal);

enum terminal_colour {
    TERMINAL_PLAIN,
    TERMINAL_BOLD,
    TERMINAL_DIM,
    TERMINAL_RED,
    TERMINAL_GREEN,
    TERMINAL_YELLOW,
    TERMINAL_BLUE,
    TERMINAL_MAGENTA,
};

/* Text in a colour, where there are colours. */
void terminal_paint(const struct terminal *terminal, FILE *out, enum terminal_colour colour,
                    const char *text);

/* Make text of others fit to print: escaped, ASCII where the terminal takes no UTF-8, cut with an
 * ellipsis to at most max_columns (0: as long as it is). Returns out. */
#define TERMINAL_TEXT_BYTES 1536
const char *terminal_clean(const struct terminal *terminal, const char *text, size_t max_columns,
                           char out[TERMINAL_TEXT_BYTES]);

/* Columns that clean text takes. */
size_t terminal_width(const char *text);

/* Print text in lines of at most the terminal's width, broken at spaces. Its own line breaks stay,
 * and so does the indentation of its lines, beyond that which is asked for. */
void terminal_wrap(const struct terminal *terminal, FILE *out, unsigned indent, const char *text);

#endif
