/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/terminal.h"

#include <langinfo.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#define COLUMNS_LEAST   40
#define COLUMNS_DEFAULT 80
#define COLUMNS_MOST    500

static unsigned detect_columns(void)
{
    const char *const wanted = getenv("COLUMNS");
    struct winsize size = { 0 };
    unsigned long columns = wanted ? strtoul(wanted, NULL, 10) : 0;

    if (columns == 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        columns = size.ws_col;
    if (columns == 0)
        columns = COLUMNS_DEFAULT;
    if (columns < COLUMNS_LEAST)
        columns = COLUMNS_LEAST;
    return columns > COLUMNS_MOST ? COLUMNS_MOST : (unsigned)columns;
}

void terminal_detect(struct terminal *ret_terminal)
{
    const char *const no_colour = getenv("NO_COLOR");
    const char *const kind = getenv("TERM");

    (void)setlocale(LC_CTYPE, "");
    ret_terminal->columns = detect_columns();
    ret_terminal->is_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    ret_terminal->has_colour =
        isatty(STDOUT_FILENO) && !(no_colour && *no_colour) && !(kind && strcmp(kind, "dumb") == 0);
}

void terminal_paint(const struct terminal *terminal, FILE *out, enum terminal_colour colour,
                    const char *text)
{
    static const char *const codes[] = { "", "1", "2", "31", "32", "33", "34", "35" };

    if (terminal->has_colour && colour != TERMINAL_PLAIN)
        fprintf(out, "\033[%sm%s\033[0m", codes[colour], text);
    else
        fputs(text, out);
}

/* One UTF-8 character: its bytes, and its number in *ret_point; 0 where none starts here. */
static size_t read_character(const char *text, uint32_t *ret_point)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } forms[] = {
        { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 }
    };
    const unsigned char *const bytes = (const unsigned char *)text;

    for (size_t length = 1; length <= 4; length++) {
        if ((bytes[0] & forms[length - 1].mask) != forms[length - 1].lead)
            continue;
        uint32_t point = bytes[0] & (unsigned char)~forms[length - 1].mask;
        for (size_t i = 1; i < length; i++) {
            if ((bytes[i] & 0xc0) != 0x80)
                return 0;
            point = point << 6 | (bytes[i] & 0x3f);
        }
        if (point < forms[length - 1].least || point > 0x10ffff ||
            (point >= 0xd800 && point < 0xe000))
            return 0;
        *ret_point = point;
        return length;
    }
    return 0;
}

static bool is_harmful(uint32_t point)
{
    return point < 0x20 || (point >= 0x7f && point < 0xa0) || /* C0, DEL, C1 */
           (point >= 0x200b && point <= 0x200f) ||            /* zero width, marks of direction */
           (point >= 0x2028 && point <= 0x202e) ||            /* separators, overrides */
           (point >= 0x2060 && point <= 0x206f) || point == 0xfeff ||
           (point >= 0xe0000 && point <= 0xe0fff);
}

static size_t width_of(uint32_t point)
{
    const int width = wcwidth((wchar_t)point);

    return width < 0 ? 1 : (size_t)width;
}

static void put_escaped(char *out, size_t *used, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";

    out[(*used)++] = '\\';
    out[(*used)++] = 'x';
    out[(*used)++] = hex[byte >> 4];
    out[(*used)++] = hex[byte & 15];
}

/* Clean the next character into piece; returns the bytes of text that it was. */
static size_t clean_character(const struct terminal *terminal, const char *text, char piece[20],
                              size_t *ret_columns)
{
    uint32_t point = 0;
    size_t used = 0;
    const size_t length = read_character(text, &point);
    const size_t taken = length > 0 ? length : 1;

    if (length > 0 && !is_harmful(point) && (point < 0x80 || terminal->is_utf8)) {
        memcpy(piece, text, length);
        piece[length] = '\0';
        *ret_columns = width_of(point);
        return taken;
    }
    if (length > 1 && !is_harmful(point))
        piece[used++] = '?';
    else
        for (size_t i = 0; i < taken; i++)
            put_escaped(piece, &used, (unsigned char)text[i]);
    piece[used] = '\0';
    *ret_columns = used;
    return taken;
}

const char *terminal_clean(const struct terminal *terminal, const char *text, size_t max_columns,
                           char out[TERMINAL_TEXT_BYTES])
{
    const char *const ellipsis = terminal->is_utf8 ? "…" : ".";
    const size_t limit = max_columns > 0 ? max_columns : SIZE_MAX;
    size_t used = 0, columns = 0, fits_used = 0; /* fits_used: where an ellipsis still fits */

    while (*text) {
        char piece[20];
        size_t width = 0;
        const size_t taken = clean_character(terminal, text, piece, &width);
        const size_t length = strlen(piece);
        if (columns + width > limit || used + length + 4 > TERMINAL_TEXT_BYTES) {
            (void)snprintf(out + fits_used, TERMINAL_TEXT_BYTES - fits_used, "%s", ellipsis);
            return out;
        }
        memcpy(out + used, piece, length);
        used += length;
        columns += width;
        if (columns < limit)
            fits_used = used;
        text += taken;
    }
    out[used] = '\0';
    return out;
}

size_t terminal_width(const char *text)
{
    size_t columns = 0;

    while (*text) {
        uint32_t point = 0;
        const size_t length = read_character(text, &point);
        columns += length > 0 ? width_of(point) : 1;
        text += length > 0 ? length : 1;
    }
    return columns;
}

/* One line of the text, which has no line break. */
static void wrap_line(const struct terminal *terminal, FILE *out, unsigned indent, const char *line,
                      size_t line_bytes)
{
    const size_t room = terminal->columns > indent + 20 ? terminal->columns - indent : 20;
    char word[TERMINAL_TEXT_BYTES], clean[TERMINAL_TEXT_BYTES];
    const char *const end = line + line_bytes;
    size_t columns = 0;

    while (line < end) {
        size_t length = strcspn(line, " \n");
        if (length > (size_t)(end - line))
            length = (size_t)(end - line);
        (void)snprintf(word, sizeof(word), "%.*s", (int)(length < 1024 ? length : 1024), line);
        (void)terminal_clean(terminal, word, 0, clean);
        const size_t width = terminal_width(clean);
        if (columns > 0 && columns + 1 + width > room) {
            fputc('\n', out);
            columns = 0;
        }
        if (columns == 0)
            fprintf(out, "%*s%s", (int)indent, "", clean);
        else
            fprintf(out, " %s", clean);
        columns += width + (columns > 0);
        line += length + strspn(line + length, " ");
    }
    fputc('\n', out);
}

void terminal_wrap(const struct terminal *terminal, FILE *out, unsigned indent, const char *text)
{
    while (*text) {
        const size_t spaces = strspn(text, " ");
        const size_t length = strcspn(text, "\n");
        wrap_line(terminal, out, indent + (unsigned)(spaces < 20 ? spaces : 20), text + spaces,
                  length - spaces);
        text += length;
        text += *text == '\n';
    }
}
