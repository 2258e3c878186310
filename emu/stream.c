/* SPDX-License-Identifier: Apache-2.0 */

#include "stream.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pool.h"

#define SLOT_MAX 65536

/* By slot: the stream that has it now, and the positions its predecessors have reached, so that
 * clocks that remember those stay right. */
static struct slot {
    struct stream *stream; /* borrowed; NULL: free, and all of it done */
    uint64_t reached;
} * slots;
static uint32_t slot_count;

/* Goals of stream_run, innermost last: a stream stands in it at most once, because what it waits
 * for was there before its own work. */
static struct goal {
    uint32_t slot;
    uint64_t position;
} * goals;

struct stream *stream_at(uint32_t slot)
{
    return slots[slot].stream;
}

uint32_t stream_slot_count(void)
{
    return slot_count;
}

static int clock_set(struct clock *clock, uint32_t slot, uint64_t position)
{
    if (slot >= clock->count) {
        uint64_t *const more = realloc(clock->positions, (slot + 1) * sizeof(*more));
        if (!more)
            return -ENOMEM;
        memset(more + clock->count, 0, (slot + 1 - clock->count) * sizeof(*more));
        clock->positions = more;
        clock->count = slot + 1;
    }
    if (position > clock->positions[slot])
        clock->positions[slot] = position;
    return 0;
}

static int clock_join(struct clock *clock, const struct clock *other)
{
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < other->count; i++)
        r = other->positions[i] > 0 ? clock_set(clock, i, other->positions[i]) : 0;
    return r;
}

static int take_slot(struct stream *stream)
{
    uint32_t slot = 0;

    while (slot < slot_count && slots[slot].stream)
        slot++;
    if (slot == slot_count) {
        struct slot *const more =
            slot < SLOT_MAX ? realloc(slots, (slot + 1) * sizeof(*more)) : NULL;
        if (!more)
            return -ENOMEM;
        slots = more;
        struct goal *const more_goals = realloc(goals, (slot + 2) * sizeof(*more_goals));
        if (!more_goals)
            return -ENOMEM;
        goals = more_goals;
        slots[slot_count++] = (struct slot){ 0 };
    }
    stream->slot = slot;
    stream->enqueued = stream->done = slots[slot].reached;
    slots[slot].stream = stream;
    return 0;
}

CUresult stream_new(struct CUctx_st *context, unsigned flags, int priority,
                    struct stream **ret_stream)
{
    struct stream *const stream = calloc(1, sizeof(*stream));

    if (!stream || take_slot(stream) < 0) {
        free(stream);
        return cuda_count_oom(&cuda.gpus[context->gpu]);
    }
    stream->last = &stream->first;
    stream->context = context;
    stream->flags = flags;
    stream->priority = priority;
    stream->id = ++cuda.next_id;
    stream->handle = handle_new(&cuda.streams, stream);
    stream->next = context->streams;
    if (stream->next)
        stream->next->previous = stream;
    context->streams = stream;
    if (!stream->handle) {
        stream_free(stream);
        return cuda_count_oom(&cuda.gpus[context->gpu]);
    }
    *ret_stream = stream;
    return CUDA_SUCCESS;
}

void stream_free(struct stream *stream)
{
    stream_run(stream->slot, stream->enqueued);
    slots[stream->slot] = (struct slot){ .reached = stream->enqueued };
    if (stream->previous)
        stream->previous->next = stream->next;
    else
        stream->context->streams = stream->next;
    if (stream->next)
        stream->next->previous = stream->previous;
    if (stream->context->legacy == stream)
        stream->context->legacy = NULL;
    handle_free(&cuda.streams, stream->handle);
    free(stream->after.positions);
    free(stream);
}

void stream_free_all(struct CUctx_st *context)
{
    while (context->streams)
        stream_free(context->streams);
}

/* A thread's own stream of each context that it uses; the oldest gives way, its work being done. */
#define OWN_MAX 8
static __thread struct {
    CUcontext context;
    CUstream stream;
} own_streams[OWN_MAX];
static __thread unsigned own_next;

static CUresult find_own(struct CUctx_st *context, struct stream **ret_stream)
{
    for (unsigned i = 0; i < OWN_MAX; i++) {
        struct stream *const known = handle_get(&cuda.streams, own_streams[i].stream);
        if (known && own_streams[i].context == context->handle) {
            *ret_stream = known;
            return CUDA_SUCCESS;
        }
    }
    const CUresult status = stream_new(context, CU_STREAM_DEFAULT, 0, ret_stream);
    if (status != CUDA_SUCCESS)
        return status;
    struct stream *const oldest = handle_get(&cuda.streams, own_streams[own_next].stream);
    if (oldest)
        stream_free(oldest);
    own_streams[own_next].context = context->handle;
    own_streams[own_next].stream = (*ret_stream)->handle;
    own_next = (own_next + 1) % OWN_MAX;
    return CUDA_SUCCESS;
}

CUresult stream_find(struct CUctx_st *context, CUstream handle, struct stream **ret_stream)
{
    if (handle == CU_STREAM_PER_THREAD)
        return find_own(context, ret_stream);
    if (handle && handle != CU_STREAM_LEGACY) {
        *ret_stream = handle_get(&cuda.streams, handle);
        return *ret_stream ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    }
    if (!context->legacy) {
        const CUresult status = stream_new(context, CU_STREAM_DEFAULT, 0, &context->legacy);
        if (status != CUDA_SUCCESS)
            return status;
        context->legacy->is_legacy = true;
    }
    *ret_stream = context->legacy;
    return CUDA_SUCCESS;
}

static bool is_blocking(const struct stream *stream)
{
    return (stream->flags & CU_STREAM_NON_BLOCKING) == 0;
}

static CUresult append(struct stream *stream, const struct work *work)
{
    struct work *const copy = malloc(sizeof(*copy));

    if (!copy)
        return cuda_count_oom(&cuda.gpus[stream->context->gpu]);
    *copy = *work;
    copy->next = NULL;
    copy->position = ++stream->enqueued;
    *stream->last = copy;
    stream->last = &copy->next;
    return CUDA_SUCCESS;
}

CUresult stream_wait(struct stream *stream, uint32_t slot, uint64_t position,
                     const struct clock *clock)
{
    const struct work wait = { .kind = WORK_WAIT, .wait_slot = slot, .wait_position = position };

    if (clock_join(&stream->after, clock) < 0 || clock_set(&stream->after, slot, position) < 0)
        return cuda_count_oom(&cuda.gpus[stream->context->gpu]);
    return stream_done(slot) >= position ? CUDA_SUCCESS : append(stream, &wait);
}

/* The legacy stream comes after all blocking streams of its context, and they after it. */
static CUresult order_by_legacy(struct stream *stream)
{
    struct CUctx_st *const context = stream->context;
    CUresult status = CUDA_SUCCESS;

    if (!is_blocking(stream))
        return CUDA_SUCCESS;
    if (!stream->is_legacy)
        return context->legacy ? stream_wait(stream, context->legacy->slot,
                                             context->legacy->enqueued, &context->legacy->after)
                               : CUDA_SUCCESS;
    for (struct stream *it = context->streams; it && status == CUDA_SUCCESS; it = it->next) {
        if (it != stream && is_blocking(it))
            status = stream_wait(stream, it->slot, it->enqueued, &it->after);
    }
    return status;
}

CUresult stream_enqueue(struct stream *stream, const struct work *work)
{
    const CUresult status = order_by_legacy(stream);

    return status == CUDA_SUCCESS ? append(stream, work) : status;
}

uint64_t stream_done(uint32_t slot)
{
    return slots[slot].stream ? slots[slot].stream->done : slots[slot].reached;
}

static struct end move_end(const struct end *end, uint64_t bytes)
{
    return (struct end){ end->gpu, end->gpu ? end->host : end->host + bytes, end->offset + bytes };
}

static void copy_row(const struct end *to, const struct end *from, size_t bytes)
{
    if (to->gpu && from->gpu)
        bytes_copy(to->gpu, to->offset, from->gpu, from->offset, bytes);
    else if (to->gpu)
        bytes_write(to->gpu, to->offset, from->host, bytes);
    else if (from->gpu)
        bytes_read(from->gpu, from->offset, to->host, bytes);
    else
        memmove(to->host, from->host, bytes);
}

static void fill_row(const struct end *to, const struct work *work)
{
    const size_t count = work->bytes / work->value_bytes;

    if (to->gpu)
        bytes_fill(to->gpu, to->offset, work->value, work->value_bytes, count);
    else
        bytes_fill_host(to->host, work->value, work->value_bytes, count);
}

static void do_rows(const struct work *work)
{
    for (size_t row = 0; row < (work->rows > 1 ? work->rows : 1); row++) {
        const struct end to = move_end(&work->to, row * work->to_pitch);
        const struct end from = move_end(&work->from, row * work->from_pitch);
        if (work->kind == WORK_COPY)
            copy_row(&to, &from, work->bytes);
        else
            fill_row(&to, work);
    }
}

static void work_do_at_once(struct work *work)
{
    switch (work->kind) {
    case WORK_COPY:
    case WORK_FILL:
        do_rows(work);
        break;
    case WORK_CALL:
        cuda_is_in_callback = true; /* calls of the driver from there are refused, as documented */
        work->function(work->data);
        cuda_is_in_callback = false;
        break;
    case WORK_MARK:
        event_pass(work->event, work->event_serial);
        break;
    case WORK_FREE:
        pool_give(work->data);
        break;
    case WORK_WAIT:
        break;
    }
    free(work->staged);
    work->staged = NULL;
}

/* 10^9 bytes a second; 0: any number of them at once. */
static uint32_t bandwidth_gbps(const struct work *work)
{
    const struct gpu *const gpu = work->to.gpu ? work->to.gpu : work->from.gpu;

    if (!gpu || !cuda.link.orders || (work->kind != WORK_COPY && work->kind != WORK_FILL))
        return 0;
    const bool is_inside = work->kind == WORK_FILL || (work->to.gpu && work->from.gpu);
    return atomic_load(is_inside ? &cuda.link.orders->device_gbps[gpu->server_index]
                                 : &cuda.link.orders->host_gbps[gpu->server_index]);
}

/* As long as the card would take for it, from start on. */
static void wait_for_card(const struct work *work, uint32_t gbps, struct timespec start)
{
    const uint64_t bytes = work->bytes * (uint64_t)(work->rows > 1 ? work->rows : 1);
    const uint64_t ns = bytes / gbps + (uint64_t)start.tv_nsec;
    const struct timespec end = { start.tv_sec + (time_t)(ns / 1000000000),
                                  (long)(ns % 1000000000) };

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
        continue;
}

void work_do(struct work *work)
{
    const uint32_t gbps = bandwidth_gbps(work);
    struct timespec start = { 0 };

    if (gbps > 0)
        (void)clock_gettime(CLOCK_MONOTONIC, &start);
    work_do_at_once(work);
    if (gbps > 0)
        wait_for_card(work, gbps, start);
}

static void do_first(struct stream *stream)
{
    struct work *const work = stream->first;

    stream->first = work->next;
    if (!stream->first)
        stream->last = &stream->first;
    stream->done = work->position;
    work_do(work);
    free(work);
}

/* One piece towards the innermost goal. */
static void advance(uint32_t *depth)
{
    const struct goal goal = goals[*depth - 1];
    struct stream *const stream = slots[goal.slot].stream;

    if (!stream || stream->done >= goal.position || !stream->first) {
        --*depth;
        return;
    }
    const struct work *const work = stream->first;
    if (work->kind == WORK_WAIT && stream_done(work->wait_slot) < work->wait_position &&
        *depth <= slot_count) {
        goals[(*depth)++] = (struct goal){ work->wait_slot, work->wait_position };
        return;
    }
    do_first(stream);
}

void stream_run(uint32_t slot, uint64_t position)
{
    uint32_t depth = 0;

    if (stream_done(slot) >= position)
        return;
    goals[depth++] = (struct goal){ slot, position };
    while (depth > 0)
        advance(&depth);
}

bool stream_step(uint32_t slot, uint64_t position)
{
    uint32_t depth = 0;

    if (stream_done(slot) >= position)
        return false;
    goals[depth++] = (struct goal){ slot, position };
    /* Down to the first piece that waits for nothing else, and that one done. */
    for (;;) {
        const uint32_t before = depth;
        advance(&depth);
        if (depth <= before)
            return true;
    }
}

void stream_run_all(struct stream *stream)
{
    stream_run(stream->slot, stream->enqueued);
    for (struct stream *it = stream->context->streams; stream->is_legacy && it; it = it->next) {
        if (is_blocking(it))
            stream_run(it->slot, it->enqueued);
    }
}

CUresult stream_settle(struct stream *stream)
{
    const CUresult status = order_by_legacy(stream);

    if (status == CUDA_SUCCESS)
        stream_run_all(stream);
    return status;
}

void stream_run_context(struct CUctx_st *context)
{
    for (struct stream *it = context->streams; it; it = it->next)
        stream_run(it->slot, it->enqueued);
}
