/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/habits.h"

#include <inttypes.h>
#include <stdio.h>

static uint64_t since(uint64_t then_ms, uint64_t now_ms)
{
    return now_ms > then_ms ? now_ms - then_ms : 0;
}

void habits_granted(struct habits *habits, uint64_t now_ms)
{
    habits->granted_ms = now_ms;
}

void habits_ready(struct habits *habits, uint64_t now_ms)
{
    if (habits->ready_ms != 0)
        return;
    habits->ready_ms = now_ms;
    habits->since_ms = now_ms;
}

void habits_burst(struct habits *habits, uint64_t now_ms)
{
    habits_ready(habits, now_ms);
    if (habits->is_busy)
        return;
    habits->idle_ms += since(habits->since_ms, now_ms);
    habits->since_ms = now_ms;
    habits->is_busy = true;
}

void habits_burst_end(struct habits *habits, uint64_t now_ms)
{
    if (!habits->is_busy)
        return;
    habits->busy_ms += since(habits->since_ms, now_ms);
    habits->burst_count++;
    habits->since_ms = now_ms;
    habits->is_busy = false;
}

const char *habits_text(const struct habits *habits, char text[HABITS_TEXT_BYTES])
{
    const uint64_t load_ms = habits->ready_ms > 0 ? since(habits->granted_ms, habits->ready_ms) : 0;
    size_t used = (size_t)snprintf(text, HABITS_TEXT_BYTES, "load=%" PRIu64 "ms", load_ms);

    if (habits->burst_count > 0)
        (void)snprintf(
            text + used, HABITS_TEXT_BYTES - used, " busy=%" PRIu64 "ms idle=%" PRIu64 "ms",
            habits->busy_ms / habits->burst_count, habits->idle_ms / habits->burst_count);
    return text;
}
