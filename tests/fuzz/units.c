/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sizes and durations that people type, and traces. What was understood is shown in
 * a form that is understood again.
 */

#include "base/clock.h"
#include "base/size.h"
#include "fuzz.h"
#include "sim/trace.h"

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

struct lines {
    char *rest;
};

static int next_line(void *context, const char **ret_line, struct error *err)
{
    struct lines *lines = context;
    char *end;

    (void)err;
    if (!lines->rest || *lines->rest == '\0')
        return 0;
    *ret_line = lines->rest;
    end = strchr(lines->rest, '\n');
    if (end)
        *end++ = '\0';
    lines->rest = end;
    return 1;
}

static void check_job(const struct sim_job *job, uint32_t gpu_count)
{
    const struct claim_part *part = &job->claim.parts[0];

    FUZZ_MUST(job->claim.part_count == 1 && part->resident_bytes > 0);
    FUZZ_MUST(part->gpu == CLAIM_GPU_ANY || part->gpu < gpu_count);
    FUZZ_MUST(part->resident_bytes + part->burst_bytes >= part->resident_bytes);
    FUZZ_MUST((job->burst_count > 0) == (job->bursts != NULL));
    for (uint32_t i = 0; i < job->burst_count; i++)
        FUZZ_MUST(job->bursts[i].bytes <= part->burst_bytes &&
                  job->bursts[i].after_ms != CLOCK_NEVER_MS);
}

static void check_trace(const char *text)
{
    char *const copy = fuzz_text((const uint8_t *)text, strlen(text));
    struct lines lines = { .rest = copy };
    struct sim_trace trace = {
        .path = "trace", .line = next_line, .context = &lines, .gpu_count = 2
    };
    const struct sim_source source = sim_trace_source(&trace);
    struct error err = { 0 };
    struct sim_item item;
    uint64_t last_ms = 0;
    int r;

    while ((r = source.next(source.context, &item, &err)) > 0) {
        FUZZ_MUST(item.at_ms >= last_ms);
        last_ms = item.at_ms;
        if (item.kind == SIM_ITEM_JOB)
            check_job(&item.job, 2);
        else
            FUZZ_MUST(item.kind == SIM_ITEM_FOREIGN && item.gpu < 2);
        if (item.kind == SIM_ITEM_JOB)
            free(item.job.bursts);
    }
    FUZZ_MUST(r == 0 || strncmp(err.message, "trace:", 6) == 0);
    free(copy);
}

/* The gpus alone, as brim plan reads them first. */
static void check_gpus(const char *text)
{
    char *const copy = fuzz_text((const uint8_t *)text, strlen(text));
    struct lines lines = { .rest = copy };
    struct sim_trace trace = { .path = "trace", .line = next_line, .context = &lines };
    struct sim_gpu gpus[SIM_GPU_MAX];
    struct error err = { 0 };
    uint32_t count = 0;

    if (sim_trace_gpus(&trace, gpus, &count, &err) == 0)
        FUZZ_MUST(count <= SIM_GPU_MAX);
    for (uint32_t i = 0; i < count; i++)
        FUZZ_MUST(gpus[i].reserve_bytes < gpus[i].capacity_bytes);
    free(copy);
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    char *const text = fuzz_text(bytes, byte_count);

    check_size(text);
    check_duration(text);
    check_trace(text);
    check_gpus(text);
    free(text);
}
