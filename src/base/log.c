/* SPDX-License-Identifier: Apache-2.0 */

#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"

static enum log_level log_limit = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    log_limit = level;
}

/* Journald stamps its lines itself and reads <N>; a person reading a file wants a time instead. */
static int write_prefix(char *line, size_t line_bytes, enum log_level level)
{
    struct timespec now = { 0 };
    struct tm utc = { 0 };

    if (getenv(
            "JOURNAL_STREAM")) /* NOLINT(concurrency-mt-unsafe): set before main, never changed */
        return snprintf(line, line_bytes, "<%d>", (int)level);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    return snprintf(line, line_bytes, "<%d>%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ ", (int)level,
                    utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                    utc.tm_sec, now.tv_nsec / 1000000);
}

void log_write(enum log_level level, const char *area, const char *format, ...)
{
    char line[1024];
    va_list args;
    size_t used = 0;

    if (level > log_limit)
        return;
    used = (size_t)write_prefix(line, sizeof(line), level);
    used += (size_t)snprintf(line + used, sizeof(line) - used, "area=%s ", area);
    va_start(args, format);
    const int more = vsnprintf(line + used, sizeof(line) - used, format, args);
    va_end(args);
    used += more > 0 ? (size_t)more : 0;
    if (used > sizeof(line) - 2)
        used = sizeof(line) - 2;
    line[used] = '\n';
    /* A log that cannot be written has nowhere to complain to. */
    (void)fd_write_all(2, line, used + 1);
}

/* Characters that a terminal acts on, or that turn the direction of a line. */
static bool is_harmful(uint32_t point)
{
    return point < 0xa0 || (point >= 0x200b && point <= 0x200f) ||
           (point >= 0x2028 && point <= 0x202e) || (point >= 0x2060 && point <= 0x206f) ||
           point == 0xfeff;
}

/* The bytes that may stand as they are from here: one of ASCII, or a character of UTF-8; 0: escape
 * one. */
static size_t plain_bytes(const unsigned char *at)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const size_t count = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : at[0] >= 0xc2 ? 2 : 1;
    uint32_t point = at[0] & (0xffU >> (count + 1));

    if (at[0] < 0x80)
        return at[0] >= 0x20 && at[0] != 0x7f && at[0] != '"' && at[0] != '\\';
    for (size_t i = 1; i < count; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        point = point << 6 | (at[i] & 0x3fU);
    }
    return count == 1 || at[0] > 0xf4 || point < least[count] || point > 0x10ffff ||
                   is_harmful(point)
               ? 0
               : count;
}

const char *log_escape(const char *text, char out[LOG_ESCAPED_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    size_t used = 0;

    while (*text && used < LOG_ESCAPED_BYTES - 5) {
        const unsigned char byte = (unsigned char)*text;
        const size_t count = plain_bytes((const unsigned char *)text);
        if (count > 0) {
            memcpy(out + used, text, count);
            used += count;
            text += count;
            continue;
        }
        text++;
        out[used++] = '\\';
        out[used++] = 'x';
        out[used++] = hex[byte >> 4];
        out[used++] = hex[byte & 15];
    }
    out[used] = '\0';
    return out;
}
