/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who touches what: the faults of asynchronous programs that a real card punishes only now and
 * then. Each is told to the server, which counts and prints it.
 */

#include <inttypes.h>
#include <stdio.h>

#include "stream.h"

static bool ends_overlap(const struct end *a, uint64_t a_bytes, const struct end *b,
                         uint64_t b_bytes)
{
    if (a->gpu != b->gpu)
        return false;
    const uint64_t a_start = a->gpu ? a->offset : (uint64_t)(uintptr_t)a->host;
    const uint64_t b_start = b->gpu ? b->offset : (uint64_t)(uintptr_t)b->host;
    return a_start < b_start + b_bytes && b_start < a_start + a_bytes;
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
    if (has_to(a) && has_to(b) && ends_overlap(&a->to, a->bytes, &b->to, b->bytes))
        return true;
    if (has_to(a) && has_from(b) && ends_overlap(&a->to, a->bytes, &b->from, b->bytes))
        return true;
    return has_from(a) && has_to(b) && ends_overlap(&a->from, a->bytes, &b->to, b->bytes);
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
                   waiting->bytes, stream->id);
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
    return (has_to(work) && ends_overlap(&work->to, work->bytes, end, bytes)) ||
           (has_from(work) && ends_overlap(&work->from, work->bytes, end, bytes));
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
