/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/bar.h"

#include <string.h>

#include "base/size.h"

static uint64_t sum_of(const struct bar_part *parts, size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        if (__builtin_add_overflow(sum, parts[i].bytes, &sum))
            return UINT64_MAX;
    }
    return sum;
}

/* One cell more for the part that is most below its share, one less for the one most above it. */
static void adjust(const struct bar_part *parts, size_t count, const double *shares,
                   unsigned *cells, int step)
{
    size_t chosen = count;
    double most = 0;

    for (size_t i = 0; i < count; i++) {
        if (parts[i].bytes == 0 || (step < 0 && cells[i] <= 1))
            continue;
        const double missing = (shares[i] - cells[i]) * step;
        if (chosen == count || missing > most) {
            chosen = i;
            most = missing;
        }
    }
    if (chosen < count)
        cells[chosen] = (unsigned)((int)cells[chosen] + step);
}

void bar_share(const struct bar_part *parts, size_t count, unsigned width, unsigned *ret_cells)
{
    const uint64_t total = sum_of(parts, count);
    double shares[BAR_PART_MAX] = { 0 };
    unsigned used = 0;

    for (size_t i = 0; i < count; i++) {
        shares[i] = total > 0 ? (double)parts[i].bytes / (double)total * width : 0;
        ret_cells[i] = (unsigned)shares[i];
        if (ret_cells[i] == 0 && parts[i].bytes > 0)
            ret_cells[i] = 1;
        used += ret_cells[i];
    }
    for (; total > 0 && used < width; used++)
        adjust(parts, count, shares, ret_cells, 1);
    for (; used > width; used--)
        adjust(parts, count, shares, ret_cells, -1);
}

static const char *glyph_of(const struct terminal *terminal, const struct bar_part *part)
{
    return terminal->is_utf8 ? part->glyph : part->ascii;
}

void bar_print(const struct terminal *terminal, FILE *out, const struct bar_part *parts,
               size_t count, unsigned width)
{
    unsigned cells[BAR_PART_MAX] = { 0 };
    char run[4 * 512 + 1];

    bar_share(parts, count, width, cells);
    fputc('[', out);
    for (size_t i = 0; i < count; i++) {
        const char *const glyph = glyph_of(terminal, &parts[i]);
        const size_t length = strlen(glyph);
        size_t used = 0;
        for (unsigned cell = 0; cell < cells[i] && used + length < sizeof(run); cell++) {
            memcpy(run + used, glyph, length);
            used += length;
        }
        run[used] = '\0';
        if (used > 0)
            terminal_paint(terminal, out, parts[i].colour, run);
    }
    fputs("]\n", out);
}

void bar_print_legend(const struct terminal *terminal, FILE *out, const struct bar_part *parts,
                      size_t count, unsigned indent)
{
    char size[SIZE_TEXT_BYTES], text[64];
    size_t columns = 0;

    for (size_t i = 0; i < count; i++) {
        if (parts[i].bytes == 0)
            continue;
        (void)snprintf(text, sizeof(text), " %s %s", parts[i].label,
                       size_format(parts[i].bytes, size));
        const size_t width = 1 + terminal_width(text);
        if (columns > 0 && columns + 2 + width > terminal->columns) {
            fputc('\n', out);
            columns = 0;
        }
        fprintf(out, "%*s", columns > 0 ? 2 : (int)indent, "");
        columns += (columns > 0 ? 2 : indent) + width;
        terminal_paint(terminal, out, parts[i].colour, glyph_of(terminal, &parts[i]));
        fputs(text, out);
    }
    if (columns > 0)
        fputc('\n', out);
}
