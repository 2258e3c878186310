/* SPDX-License-Identifier: Apache-2.0 */

#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"

#define NS_PER_MS UINT64_C(1000000)
#define MS_PER_S  UINT64_C(1000)

static uint64_t read_ns(clockid_t clock)
{
    struct timespec now = { 0 };

    /* Both clocks exist on every Linux that can run us; there is no failure to report. */
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * MS_PER_S * NS_PER_MS + (uint64_t)now.tv_nsec;
}

uint64_t clock_now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_now_ms(void)
{
    return read_ns(CLOCK_MONOTONIC) / NS_PER_MS;
}

uint64_t clock_wall_ms(void)
{
    return read_ns(CLOCK_REALTIME) / NS_PER_MS;
}

uint64_t clock_after_ms(uint64_t now_ms, uint64_t delay_ms)
{
    return delay_ms > CLOCK_NEVER_MS - now_ms ? CLOCK_NEVER_MS : now_ms + delay_ms;
}

static uint64_t unit_ms(const char *suffix)
{
    static const struct {
        const char *suffix;
        uint64_t ms;
    } units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(suffix, units[i].suffix) == 0)
            return units[i].ms;
    }
    return 0;
}

int duration_parse(const char *text, uint64_t *ret_ms, struct error *err)
{
    const char *rest = text;
    unsigned __int128 number = 0, scale = 1;

    if (strcmp(text, "0") == 0) {
        *ret_ms = 0;
        return 0;
    }
    for (; isdigit((unsigned char)*rest) && number <= UINT64_MAX; rest++)
        number = number * 10 + (unsigned)(*rest - '0');
    if (rest == text)
        return error_set(err, -EINVAL, "'%s' is not a duration (write it like 30s or 10m)", text);
    if (*rest == '.') {
        for (rest++; isdigit((unsigned char)*rest) && scale < 1000000; rest++, scale *= 10)
            number = number * 10 + (unsigned)(*rest - '0');
    }
    if (*rest == '\0')
        return error_set(err, -EINVAL, "%s what? write %ss or %sm", text, text, text);
    const uint64_t unit = unit_ms(rest);
    if (unit == 0)
        return error_set(err, -EINVAL, "'%s' has no known unit (ms, s, m, h, d)", text);
    if (number > UINT64_MAX || number * unit / scale >= CLOCK_NEVER_MS)
        return error_set(err, -ERANGE, "'%s' is too long", text);
    *ret_ms = (uint64_t)(number * unit / scale);
    return 0;
}

const char *duration_format(uint64_t duration_ms, char text[DURATION_TEXT_BYTES])
{
    const uint64_t seconds = duration_ms / MS_PER_S;

    if (duration_ms < MS_PER_S)
        (void)snprintf(text, DURATION_TEXT_BYTES, "%" PRIu64 " ms", duration_ms);
    else if (seconds < 60)
        (void)snprintf(text, DURATION_TEXT_BYTES, "%.1f s", (double)duration_ms / 1000.0);
    else if (seconds < 3600)
        (void)snprintf(text, DURATION_TEXT_BYTES, "%" PRIu64 " m %02" PRIu64 " s", seconds / 60,
                       seconds % 60);
    else
        (void)snprintf(text, DURATION_TEXT_BYTES, "%" PRIu64 " h %02" PRIu64 " m", seconds / 3600,
                       seconds / 60 % 60);
    return text;
}
