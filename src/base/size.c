/* SPDX-License-Identifier: Apache-2.0 */

#include "base/size.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *suffix;
    uint64_t bytes;
} units[] = {
    { "B", 1 },        { "KiB", KIB },       { "MiB", MIB },
    { "GiB", GIB },    { "TiB", KIB *GIB },  { "kB", 1000 },
    { "MB", 1000000 }, { "GB", 1000000000 }, { "TB", 1000000000000 },
    { "k", KIB },      { "m", MIB },         { "g", GIB }, /* as in Docker */
};

#define DECIMALS_MAX 9

static uint64_t unit_bytes(const char *suffix)
{
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(suffix, units[i].suffix) == 0)
            return units[i].bytes;
    }
    return 0;
}

/* Reads digits into *number, which saturates above any size. Returns how many there were. */
static int take_digits(const char **text, unsigned __int128 *number)
{
    int count = 0;

    for (; isdigit((unsigned char)**text); (*text)++, count++) {
        if (*number <= UINT64_MAX)
            *number = *number * 10 + (unsigned)(**text - '0');
    }
    return count;
}

int size_parse(const char *text, uint64_t *ret_bytes, struct error *err)
{
    const char *rest = text;
    unsigned __int128 number = 0, scale = 1;
    int decimals = 0;

    if (take_digits(&rest, &number) == 0)
        return error_set(err, -EINVAL, "'%s' is not a size (write it like 5.2GiB or 800MiB)", text);
    if (*rest == '.') {
        rest++;
        decimals = take_digits(&rest, &number);
    }
    if (number > UINT64_MAX || decimals > DECIMALS_MAX)
        return error_set(err, -ERANGE, "'%s' has too many digits", text);
    for (; decimals > 0; decimals--)
        scale *= 10;

    const uint64_t unit = unit_bytes(rest);
    if (*rest == '\0')
        return error_set(err, -EINVAL, "%s what? write %sGiB or %sGB", text, text, text);
    if (unit == 0)
        return error_set(err, -EINVAL, "'%s' has no known unit (GiB, MiB, GB, MB)", text);
    if (number * unit / scale > UINT64_MAX)
        return error_set(err, -ERANGE, "'%s' is too large", text);

    *ret_bytes = (uint64_t)(number * unit / scale);
    return 0;
}

const char *size_format(uint64_t bytes, char text[SIZE_TEXT_BYTES])
{
    if (bytes == 0)
        (void)snprintf(text, SIZE_TEXT_BYTES, "0");
    else if (bytes < KIB)
        (void)snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 " B", bytes);
    else if (bytes < MIB)
        (void)snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 " KiB", (bytes + KIB / 2) / KIB);
    else if (bytes < GIB)
        (void)snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 " MiB", (bytes + MIB / 2) / MIB);
    else
        (void)snprintf(text, SIZE_TEXT_BYTES, "%.2f GiB", (double)bytes / (double)GIB);
    return text;
}

const char *size_format_exact(uint64_t bytes, char text[SIZE_TEXT_BYTES])
{
    if (bytes == 0 || bytes % KIB != 0)
        (void)snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 "B", bytes);
    else if (bytes % MIB != 0)
        (void)snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 "KiB", bytes / KIB);
    else if (bytes % GIB != 0)
        (void)snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 "MiB", bytes / MIB);
    else
        (void)snprintf(text, SIZE_TEXT_BYTES, "%" PRIu64 "GiB", bytes / GIB);
    return text;
}
