/* SPDX-License-Identifier: Apache-2.0 */

/* The one place that makes sentences of refusals. A head line says what failed, on what and by how
 * much; indented lines follow: who holds the gpu, its figures, what to do. */

#include "budget/refusal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/size.h"
#include "budget/budget.h"

struct text {
    char *at;
    size_t left_bytes; /* with the NUL */
};

__attribute__((format(printf, 2, 3))) static void text_add(struct text *text, const char *format,
                                                           ...)
{
    va_list args;
    int length;

    if (text->left_bytes == 0)
        return;
    va_start(args, format);
    length = vsnprintf(text->at, text->left_bytes, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= text->left_bytes)
        length = (int)text->left_bytes - 1; /* cut off */
    text->at += length;
    text->left_bytes -= (size_t)length;
}

/* A size in a buffer that lives to the end of the full expression. */
#define SIZE(bytes) size_format((bytes), (char[SIZE_TEXT_BYTES]){ 0 })

static void head_gpu(const struct refusal *refusal, const char *gpu_name, struct text *text)
{
    if (refusal->gpu == CLAIM_GPU_ANY)
        text_add(text, "any gpu");
    else if (gpu_name)
        text_add(text, "%s", gpu_name);
    else
        text_add(text, "gpu %" PRIu32, refusal->gpu);
}

static void head_room(const struct refusal *refusal, const char *gpu_name, struct text *text)
{
    text_add(text, "no room for \"%s\" on ", refusal->name);
    head_gpu(refusal, gpu_name, text);
    text_add(text, ": asked %s, free %s", SIZE(refusal->asked_bytes), SIZE(refusal->free_bytes));
}

static void head_never(const struct refusal *refusal, const char *gpu_name, struct text *text)
{
    text_add(text, "\"%s\" can never fit on ", refusal->name);
    head_gpu(refusal, gpu_name, text);
    text_add(text, ": asked %s, at most %s can be given, %s too much", SIZE(refusal->asked_bytes),
             SIZE(refusal->most_bytes), SIZE(refusal->short_bytes));
}

static void head_progress(const struct refusal *refusal, const char *gpu_name, struct text *text)
{
    text_add(text, "no room for \"%s\" on ", refusal->name);
    head_gpu(refusal, gpu_name, text);
    text_add(text, ": the burst of \"%s\" (%s) could never be served beside it, %s short",
             refusal->blocked.name, SIZE(refusal->blocked.burst_bytes), SIZE(refusal->short_bytes));
}

static void head_plain(const struct refusal *refusal, const char *gpu_name, const char *why,
                       struct text *text)
{
    text_add(text, "\"%s\" gets nothing on ", refusal->name);
    head_gpu(refusal, gpu_name, text);
    text_add(text, " now: %s", why);
}

static void head_behind(const struct refusal *refusal, const char *gpu_name, struct text *text)
{
    head_plain(refusal, gpu_name, "", text);
    if (refusal->waiting_before == 0)
        text_add(text, "another waits first");
    else
        text_add(text, "%" PRIu32 " wait%s before it", refusal->waiting_before,
                 refusal->waiting_before == 1 ? "s" : "");
}

static void head_write(const struct refusal *refusal, const char *gpu_name, struct text *text)
{
    switch (refusal->kind) {
    case REFUSAL_NONE:
        text_add(text, "nothing stands in the way of \"%s\"", refusal->name);
        return;
    case REFUSAL_NEVER_FITS:
        head_never(refusal, gpu_name, text);
        return;
    case REFUSAL_NO_ROOM:
        head_room(refusal, gpu_name, text);
        return;
    case REFUSAL_NO_PROGRESS:
        head_progress(refusal, gpu_name, text);
        return;
    case REFUSAL_BEHIND:
        head_behind(refusal, gpu_name, text);
        return;
    case REFUSAL_LOAD_WINDOW:
        head_plain(refusal, gpu_name, "one lease must have the gpu to itself while it loads", text);
        return;
    case REFUSAL_STALE_FACTS:
        head_plain(refusal, gpu_name, "the driver has not said yet how much is used", text);
        return;
    case REFUSAL_OVERCOMMITTED:
        head_plain(refusal, gpu_name, "more is used there than was granted", text);
        text_add(text, ", %s too much", SIZE(refusal->short_bytes));
        return;
    case REFUSAL_NO_GPU:
        text_add(text, "no gpu for \"%s\": ", refusal->name);
        if (refusal->gpu == CLAIM_GPU_ANY) {
            text_add(text, "there is none here");
            return;
        }
        head_gpu(refusal, gpu_name, text);
        text_add(text, " is not there, or not managed here");
        return;
    case REFUSAL_BAD_CLAIM:
        text_add(text, "the claim of \"%s\" makes no sense", refusal->name);
        return;
    case REFUSAL_BAD_STATE:
        text_add(text, "\"%s\" cannot do that in its state", refusal->name);
        return;
    case REFUSAL_QUEUE_FULL:
        head_plain(refusal, gpu_name, "too many leases already", text);
        return;
    case REFUSAL_CANCELLED:
        text_add(text, "the wait of \"%s\" was cancelled", refusal->name);
        return;
    }
}

static void write_holders(const struct refusal *refusal, struct text *text)
{
    uint32_t shown =
        refusal->holder_count < REFUSAL_HOLDER_MAX ? refusal->holder_count : REFUSAL_HOLDER_MAX;

    if (shown == 0)
        return;
    text_add(text, "\n  held:");
    for (uint32_t i = 0; i < shown; i++) {
        const struct refusal_holder *holder = &refusal->holders[i];

        text_add(text, "%s %s %s", i > 0 ? "," : "", holder->name, SIZE(holder->charge_bytes));
        if (holder->burst_bytes > 0)
            text_add(text, " + burst %s", SIZE(holder->burst_bytes));
        text_add(text, " (%s)", lease_state_name((enum lease_state)holder->state));
    }
    if (refusal->holder_count > shown)
        text_add(text, " and %" PRIu32 " more", refusal->holder_count - shown);
}

static void write_figures(const struct refusal *refusal, struct text *text)
{
    text_add(text, "\n  reserve %s, foreign %s", SIZE(refusal->reserve_bytes),
             SIZE(refusal->foreign_bytes));
    if (refusal->draining_bytes > 0)
        text_add(text, ", draining %s", SIZE(refusal->draining_bytes));
    text_add(text, ", capacity %s", SIZE(refusal->capacity_bytes));
}

static void write_advice(const struct refusal *refusal, struct text *text)
{
    switch (refusal->kind) {
    case REFUSAL_NEVER_FITS:
        text_add(text, "\n  ask for at most %s with the burst, or take a larger gpu",
                 SIZE(refusal->most_bytes));
        return;
    case REFUSAL_NO_ROOM:
    case REFUSAL_NO_PROGRESS:
        text_add(text, "\n  wait with --max-wait 10m");
        if (refusal->free_bytes > 0)
            text_add(text, ", or ask for at most %s%s", SIZE(refusal->free_bytes),
                     refusal->kind == REFUSAL_NO_PROGRESS ? " and a smaller burst" : "");
        return;
    case REFUSAL_OVERCOMMITTED:
        text_add(text, "\n  end a program that `brim ps` shows as foreign or over its claim, or "
                       "wait with --max-wait 10m");
        return;
    case REFUSAL_BEHIND:
    case REFUSAL_LOAD_WINDOW:
    case REFUSAL_STALE_FACTS:
        text_add(text, "\n  wait with --max-wait 10m");
        return;
    case REFUSAL_NO_GPU:
        if (refusal->gpu != CLAIM_GPU_ANY)
            text_add(text, "\n  `brim ps` shows the gpus, and who manages them");
        return;
    case REFUSAL_BAD_CLAIM:
        text_add(text, "\n  name each gpu once, with more than 0 bytes and at most its capacity");
        return;
    case REFUSAL_QUEUE_FULL:
        text_add(text, "\n  end some of them, or try again later");
        return;
    case REFUSAL_NONE:
    case REFUSAL_BAD_STATE:
    case REFUSAL_CANCELLED:
        return;
    }
}

/* NOLINTNEXTLINE(readability-non-const-parameter): written through struct text */
const char *refusal_text(const struct refusal *refusal, const char *gpu_name, char *text,
                         size_t text_bytes)
{
    struct text out = { .at = text, .left_bytes = text_bytes };

    head_write(refusal, gpu_name, &out);
    if (refusal->capacity_bytes > 0) {
        if (refusal->kind != REFUSAL_NEVER_FITS)
            write_holders(refusal, &out);
        write_figures(refusal, &out);
    }
    write_advice(refusal, &out);
    return text;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): written through struct text */
const char *refusal_line(const struct refusal *refusal, char *text, size_t text_bytes)
{
    struct text out = { .at = text, .left_bytes = text_bytes };

    head_write(refusal, NULL, &out);
    return text;
}
