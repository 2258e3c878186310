/* SPDX-License-Identifier: Apache-2.0 */

#include "sim/trace_write.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/size.h"

#define WORD_BYTES 32

static const char *time_text(uint64_t ms, char text[WORD_BYTES])
{
    if (ms == CLOCK_NEVER_MS)
        (void)snprintf(text, WORD_BYTES, "never");
    else if (ms % 1000 == 0)
        (void)snprintf(text, WORD_BYTES, "%" PRIu64 "s", ms / 1000);
    else
        (void)snprintf(text, WORD_BYTES, "%" PRIu64 ".%03us", ms / 1000, (unsigned)(ms % 1000));
    return text;
}

/* Words in buffers that live to the end of the full expression. */
#define BYTES(bytes) ((bytes) > 0 ? size_format_exact((bytes), (char[SIZE_TEXT_BYTES]){ 0 }) : "0")
#define TIME(ms)     time_text((ms), (char[WORD_BYTES]){ 0 })

struct text {
    char *at;
    size_t left_bytes; /* with the NUL */
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(text->at, text->left_bytes, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= text->left_bytes)
        length = (int)text->left_bytes - 1; /* cut off: no name and no number is so long */
    text->at += length;
    text->left_bytes -= (size_t)length;
}

static void add_claim(struct text *text, const struct claim *claim)
{
    static const char *const priorities[] = { "background", "normal", "interactive" };
    const struct claim_part *part = &claim->parts[0];

    add(text, " resident=%s", BYTES(part->resident_bytes));
    if (part->burst_bytes > 0)
        add(text, " burst=%s", BYTES(part->burst_bytes));
    if (part->load_peak_bytes > part->resident_bytes)
        add(text, " load_peak=%s", BYTES(part->load_peak_bytes));
    if (part->gpu != CLAIM_GPU_ANY)
        add(text, " gpu=%" PRIu32, part->gpu);
    if (claim->priority != CLAIM_PRIORITY_NORMAL)
        add(text, " priority=%s", priorities[claim->priority]);
    add(text, "%s%s%s", claim->is_pinned ? " pin" : "", claim->is_load_alone ? " alone" : "",
        claim->is_always_busy ? " always-busy" : "");
}

const char *sim_trace_write_job(const struct sim_item *item, bool has_run, const char *remark,
                                char line[SIM_TRACE_LINE_BYTES])
{
    const struct sim_job *job = &item->job;
    struct text text = { line, SIM_TRACE_LINE_BYTES };

    add(&text, "%-8s job %s", TIME(item->at_ms), job->claim.name);
    add_claim(&text, &job->claim);
    add(&text, " wait=%s", TIME(job->wait_ms));
    if (has_run)
        add(&text, " load=%s", TIME(job->load_ms));
    if (has_run && job->burst_count == 0)
        add(&text, " run=%s", TIME(job->run_ms));
    if (has_run && job->burst_count == 0 && job->busy_ms > 0)
        add(&text, " busy=%s idle=%s", TIME(job->busy_ms), TIME(job->idle_ms));
    if (*remark)
        add(&text, "  # %s", remark);
    return line;
}

const char *sim_trace_write_burst(const struct sim_burst *burst, char line[SIM_TRACE_LINE_BYTES])
{
    struct text text = { line, SIM_TRACE_LINE_BYTES };

    add(&text, "         burst after=%s for=%s", TIME(burst->after_ms), TIME(burst->for_ms));
    if (burst->bytes > 0)
        add(&text, " bytes=%s", BYTES(burst->bytes));
    if (burst->wait_ms != CLOCK_NEVER_MS)
        add(&text, " wait=%s", TIME(burst->wait_ms));
    return line;
}

const char *sim_trace_write_end(uint64_t after_ms, char line[SIM_TRACE_LINE_BYTES])
{
    struct text text = { line, SIM_TRACE_LINE_BYTES };

    add(&text, "         end after=%s", TIME(after_ms));
    return line;
}

const char *sim_trace_write_line(const struct sim_item *item, char line[SIM_TRACE_LINE_BYTES])
{
    struct text text = { line, SIM_TRACE_LINE_BYTES };

    add(&text, "%-8s ", TIME(item->at_ms));
    if (item->kind == SIM_ITEM_GPU)
        add(&text, "gpu %" PRIu32 " %s reserve=%s", item->gpu, BYTES(item->capacity_bytes),
            BYTES(item->reserve_bytes));
    else
        add(&text, "foreign gpu=%" PRIu32 " %s", item->gpu, BYTES(item->foreign_bytes));
    return line;
}
