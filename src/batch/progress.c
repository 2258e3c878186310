/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define BAR_MIN_COLUMNS 10
#define BAR_MAX_COLUMNS 40
#define RATE_BYTES      32

/* Segments a second, or a minute or an hour where that is below one. "" before there is a rate. */
static const char *rate_text(const struct progress_facts *facts, char text[RATE_BYTES])
{
    double rate = 0;

    text[0] = '\0';
    if (facts->done_now == 0 || facts->elapsed_ms == 0)
        return text;
    rate = (double)facts->done_now * 1000.0 / (double)facts->elapsed_ms;
    if (rate >= 1)
        (void)snprintf(text, RATE_BYTES, "%.1f/s", rate);
    else if (rate * 60 >= 1)
        (void)snprintf(text, RATE_BYTES, "%.1f/min", rate * 60);
    else
        (void)snprintf(text, RATE_BYTES, "%.1f/h", rate * 3600);
    return text;
}

/* Returns 0 while nothing can be said. */
static uint64_t left_ms(const struct progress_facts *facts)
{
    const uint64_t left = facts->total - facts->done - facts->failed;

    if (facts->done_now == 0)
        return 0;
    return (uint64_t)((double)left * (double)facts->elapsed_ms / (double)facts->done_now);
}

const char *progress_line(const struct progress_facts *facts, char text[PROGRESS_TEXT_BYTES])
{
    char rate[RATE_BYTES], left[DURATION_TEXT_BYTES], failed[48] = "";
    size_t used = 0;

    if (facts->failed > 0)
        (void)snprintf(failed, sizeof(failed), ", %" PRIu64 " set aside", facts->failed);
    used = (size_t)snprintf(text, PROGRESS_TEXT_BYTES,
                            "%" PRIu64 " of %" PRIu64 " done%s, %u worker%s", facts->done,
                            facts->total, failed, facts->workers, facts->workers == 1 ? "" : "s");
    if (rate_text(facts, rate)[0] != '\0')
        used += (size_t)snprintf(text + used, PROGRESS_TEXT_BYTES - used, ", %s", rate);
    if (left_ms(facts) > 0)
        (void)snprintf(text + used, PROGRESS_TEXT_BYTES - used, ", %s left",
                       duration_format(left_ms(facts), left));
    return text;
}

/* Cut to the width, without tearing a UTF-8 character. */
static void cut(char *text, unsigned width)
{
    size_t at = 0;
    unsigned columns = 0;

    for (; text[at]; at++) {
        if (((unsigned char)text[at] & 0xc0) != 0x80 && columns++ == width)
            break;
    }
    text[at] = '\0';
}

const char *progress_bar(const struct progress_facts *facts, unsigned width,
                         char text[PROGRESS_TEXT_BYTES])
{
    char tail[256], rate[RATE_BYTES], left[DURATION_TEXT_BYTES], marks[BAR_MAX_COLUMNS + 1];
    size_t used = 0;

    used = (size_t)snprintf(tail, sizeof(tail), "%" PRIu64 "/%" PRIu64, facts->done, facts->total);
    if (facts->failed > 0)
        used += (size_t)snprintf(tail + used, sizeof(tail) - used, " (%" PRIu64 " set aside)",
                                 facts->failed);
    used += (size_t)snprintf(tail + used, sizeof(tail) - used, "  %u worker%s", facts->workers,
                             facts->workers == 1 ? "" : "s");
    if (rate_text(facts, rate)[0] != '\0')
        used += (size_t)snprintf(tail + used, sizeof(tail) - used, "  %s", rate);
    if (left_ms(facts) > 0)
        used += (size_t)snprintf(tail + used, sizeof(tail) - used, "  ETA %s",
                                 duration_format(left_ms(facts), left));
    if (facts->waits_for && used < sizeof(tail))
        (void)snprintf(tail + used, sizeof(tail) - used, "  %.100s", facts->waits_for);

    const size_t fixed = strlen(facts->name) + 4 + strlen(tail);
    size_t columns = width > fixed + BAR_MIN_COLUMNS ? width - fixed : BAR_MIN_COLUMNS;
    if (columns > BAR_MAX_COLUMNS)
        columns = BAR_MAX_COLUMNS;
    const size_t full = facts->total ? (size_t)(facts->done * columns / facts->total) : 0;
    for (size_t i = 0; i < columns; i++)
        marks[i] = i < full ? '=' : i == full ? '>' : ' ';
    marks[columns] = '\0';
    (void)snprintf(text, PROGRESS_TEXT_BYTES, "%s [%s] %s", facts->name, marks, tail);
    cut(text, width);
    return text;
}
