/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sizes and durations that people type, and one line of a trace. What was understood is shown in
 * a form that is understood again.
 */

#include "base/clock.h"
#include "base/size.h"
#include "fuzz.h"
#include "sim/workload.h"

static void check_size(const char *text)
{
    char shown[SIZE_TEXT_BYTES];
    struct error err = { 0 };
    uint64_t bytes = 0, again = 0;

    if (size_parse(text, &bytes, &err) < 0) {
        FUZZ_MUST(err.message[0] != '\0');
        return;
    }
    (void)size_format(bytes, shown);
    if (bytes == 0 || bytes > INT64_MAX)
        return; /* shown as "0", which is not taken without a unit, or rounded beyond what there is
                 */
    char *const gap = strchr(shown, ' ');
    if (gap)
        memmove(gap, gap + 1, strlen(gap)); /* which a person may not type */
    FUZZ_MUST(size_parse(shown, &again, &err) == 0);
    FUZZ_MUST((again > bytes ? again - bytes : bytes - again) <=
              bytes / 2); /* whole MiB below 1 GiB */
}

static void check_duration(const char *text)
{
    char shown[DURATION_TEXT_BYTES];
    struct error err = { 0 };
    uint64_t ms = 0;

    if (duration_parse(text, &ms, &err) < 0) {
        FUZZ_MUST(err.message[0] != '\0');
        return;
    }
    FUZZ_MUST(ms != CLOCK_NEVER_MS);
    FUZZ_MUST(strlen(duration_format(ms, shown)) > 0);
}

static void check_trace(const char *text)
{
    struct sim_item item;
    struct error err = { 0 };

    if (sim_trace_parse(text, &item, &err) <= 0)
        return;
    FUZZ_MUST(item.kind == SIM_ITEM_JOB || item.kind == SIM_ITEM_FOREIGN);
    if (item.kind == SIM_ITEM_JOB)
        FUZZ_MUST(item.job.claim.part_count == 1 && item.job.claim.parts[0].resident_bytes > 0);
    else
        FUZZ_MUST(item.gpu < SIM_GPU_MAX);
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    char *const text = fuzz_text(bytes, byte_count);

    check_size(text);
    check_duration(text);
    check_trace(text);
    free(text);
}
