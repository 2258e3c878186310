/* SPDX-License-Identifier: Apache-2.0 */

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

const char *log_escape(const char *text, char out[LOG_ESCAPED_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    size_t used = 0;

    for (; *text && used < LOG_ESCAPED_BYTES - 5; text++) {
        const unsigned char byte = (unsigned char)*text;
        if (byte >= 0x20 && byte != 0x7f && byte != '"' && byte != '\\') {
            out[used++] = (char)byte;
            continue;
        }
        out[used++] = '\\';
        out[used++] = 'x';
        out[used++] = hex[byte >> 4];
        out[used++] = hex[byte & 15];
    }
    out[used] = '\0';
    return out;
}
