/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who touches what: the faults of asynchronous programs that a real card punishes only now and
 * then. Each is told to the server, which counts and prints it.
 */

#include <inttypes.h>
#include <stdio.h>

#include "stream.h"

/* Rows of bytes, a pitch apart, on a gpu or (NULL) the host. */
struct region {
    const struct gpu *gpu;
    uint64_t start, row_bytes, rows, pitch;
};

static struct region region_of(const struct end *end, uint64_t row_bytes, uint64_t rows,
                               uint64_t pitch)
{
    return (struct region){ end->gpu, end->gpu ? end->offset : (uint64_t)(uintptr_t)end->host,
                            row_bytes, rows > 1 ? rows : 1, pitch };
}

static struct region region_to(const struct work *work)
{
    return region_of(&work->to, work->bytes, work->rows, work->to_pitch);
}

static struct region region_from(const struct work *work)
{
    return region_of(&work->from, work->bytes, work->rows, work->from_pitch);
}

static uint64_t region_end(const struct region *region)
{
    return region->start + (region->rows - 1) * region->pitch + region->row_bytes;
}

/* Whether a row of the region touches these bytes: the first that ends behind their start does, or
 * none. */
static bool has_row_at(const struct region *region, uint64_t start, uint64_t end)
{
    const uint64_t before = start >= region->start + region->row_bytes && region->pitch > 0
                                ? (start - region->start - region->row_bytes) / region->pitch + 1
                                : 0;

    return before < region->rows && region->start + before * region->pitch < end &&
           start < region->start + before * region->pitch + region->row_bytes;
}

static bool regions_overlap(const struct region *a, const struct region *b)
{
    if (a->gpu != b->gpu || a->start >= region_end(b) || b->start >= region_end(a))
        return false;
    const struct region *const few = a->rows < b->rows ? a : b, *const many = few == a ? b : a;
    for (uint64_t row = 0; row < few->rows; row++) {
        const uint64_t start = few->start + row * few->pitch;
        if (has_row_at(many, start, start + few->row_bytes))
            return true;
    }
    return false;
}

static bool has_to(const struct work *work)
{
    return work->kind == WORK_COPY || work->kind == WORK_FILL || work->kind == WORK_FREE;
}

static bool has_from(const struct work *work)
{
    return work->kind == WORK_COPY && !work->staged;
}

/* Both touch the same bytes, and at least one writes them. */
static bool conflict(const struct work *a, const struct work *b)
{
    const struct region a_to = region_to(a), b_to = region_to(b);
    const struct region a_from = region_from(a), b_from = region_from(b);

    if (has_to(a) && has_to(b) && regions_overlap(&a_to, &b_to))
        return true;
    if (has_to(a) && has_from(b) && regions_overlap(&a_to, &b_from))
        return true;
    return has_from(a) && has_to(b) && regions_overlap(&a_from, &b_to);
}

static const struct gpu *gpu_of(const struct work *work, const struct CUctx_st *context)
{
    if (work->to.gpu)
        return work->to.gpu;
    return work->from.gpu ? work->from.gpu : &cuda.gpus[context->gpu];
}

static void report(const struct gpu *gpu, const char *call, const char *what,
                   const struct work *waiting, const struct stream *stream)
{
    struct emu_request request = { .op = EMU_FAULT, .gpu = gpu->server_index };
    struct emu_reply reply = { 0 };

    (void)snprintf(request.text, sizeof(request.text),
                   "%s %s a %s of %zu bytes that waits in stream %" PRIu64
                   "; synchronise or order them by an event",
                   call, what,
                   waiting->kind == WORK_FILL   ? "set"
                   : waiting->kind == WORK_FREE ? "free"
                                                : "copy",
                   waiting->bytes * (waiting->rows > 1 ? waiting->rows : 1), stream->id);
    (void)link_call(&cuda.link, &request, &reply);
}

static uint64_t ordered_after(const struct stream *stream, uint32_t slot)
{
    return slot < stream->after.count ? stream->after.positions[slot] : 0;
}

static void check_stream(const struct stream *stream, const struct work *work,
                         const struct stream *other, const char *call)
{
    const uint64_t ordered = ordered_after(stream, other->slot);

    for (const struct work *waiting = other->first; waiting; waiting = waiting->next) {
        if (waiting->position > ordered && conflict(work, waiting))
            report(gpu_of(work, stream->context), call, "races with", waiting, other);
    }
}

void race_check(const struct stream *stream, const struct work *work, const char *call)
{
    for (uint32_t slot = 0; slot < stream_slot_count(); slot++) {
        const struct stream *const other = stream_at(slot);
        if (other && other != stream)
            check_stream(stream, work, other, call);
    }
}

static bool touches(const struct work *work, const struct end *end, uint64_t bytes)
{
    const struct region freed = region_of(end, bytes, 1, 0);
    const struct region to = region_to(work), from = region_from(work);

    return (has_to(work) && regions_overlap(&to, &freed)) ||
           (has_from(work) && regions_overlap(&from, &freed));
}

static void check_free(const struct stream *stream, const struct end *end, uint64_t bytes,
                       const char *call)
{
    const struct work *work = stream->first;

    while (work) {
        if (!touches(work, end, bytes)) {
            work = work->next;
            continue;
        }
        report(gpu_of(work, stream->context), call, "takes the bytes from", work, stream);
        stream_run(stream->slot, work->position);
        work = stream->first;
    }
}

void race_check_free(const struct end *end, uint64_t bytes, const char *call)
{
    for (uint32_t slot = 0; slot < stream_slot_count(); slot++) {
        const struct stream *const stream = stream_at(slot);
        if (stream)
            check_free(stream, end, bytes, call);
    }
}
