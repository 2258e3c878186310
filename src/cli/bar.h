/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_BAR_H
#define CLI_BAR_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/terminal.h"

/*
 * A bar of parts, each as wide as its share: "[█████▓▓░░░·······]". Every part that is not zero has
 * at least one cell, and the cells add up to the width (largest remainders first).
 */

#define BAR_PART_MAX 8

struct bar_part {
    const char *label; /* "held" */
    const char *glyph; /* of a UTF-8 terminal */
    const char *ascii;
    enum terminal_colour colour;
    uint64_t bytes;
};

/* Cells of each part; all zero where the parts are. */
void bar_share(const struct bar_part *parts, size_t count, unsigned width, unsigned *ret_cells);

void bar_print(const struct terminal *terminal, FILE *out, const struct bar_part *parts,
               size_t count, unsigned width);

/* "█ held 5.5 GiB  ░ reserve 800 MiB", without the parts that are zero, in lines of at most the
 * terminal's width. */
void bar_print_legend(const struct terminal *terminal, FILE *out, const struct bar_part *parts,
                      size_t count, unsigned indent);

#endif
