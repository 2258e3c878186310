/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Events: a position in a stream, and what that position is ordered after.
 */

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuda/context.h"
#include "stream.h"

struct event {
    struct event *previous, *next;
    CUevent handle;
    const struct CUctx_st *context; /* borrowed */
    unsigned flags;
    bool is_recorded;
    uint64_t serial; /* of the last record: an older mark in a queue means nothing any more */
    uint32_t slot;
    uint64_t position;
    struct clock after; /* owned */
    uint64_t passed_ns;
};

static struct event *events; /* owned */

static uint64_t now_ns(void)
{
    struct timespec now = { 0 };

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

void event_pass(CUevent event, uint64_t serial)
{
    struct event *const found = handle_get(&cuda.events, event);

    if (found && found->serial == serial)
        found->passed_ns = now_ns();
}

CUresult event_new(const struct CUctx_st *context, unsigned flags, CUevent *ret_event)
{
    struct event *const made = calloc(1, sizeof(*made));

    if (made)
        made->handle = handle_new(&cuda.events, made);
    if (!made || !made->handle) {
        free(made);
        return cuda_count_oom(&cuda.gpus[context->gpu]);
    }
    made->context = context;
    made->flags = flags;
    made->next = events;
    if (made->next)
        made->next->previous = made;
    events = made;
    *ret_event = made->handle;
    return CUDA_SUCCESS;
}

bool event_is_interprocess(CUevent event, bool *ret_is_event)
{
    const struct event *const found = handle_get(&cuda.events, event);

    *ret_is_event = found != NULL;
    return found && (found->flags & CU_EVENT_INTERPROCESS) != 0;
}

CUresult cuEventCreate(CUevent *event, unsigned int flags)
{
    struct CUctx_st *context = NULL;
    const CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!event || flags > 7 ||
        ((flags & CU_EVENT_INTERPROCESS) != 0 && (flags & CU_EVENT_DISABLE_TIMING) == 0))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    return cuda_leave(event_new(context, flags, event));
}

static void event_free(struct event *event)
{
    if (event->previous)
        event->previous->next = event->next;
    else
        events = event->next;
    if (event->next)
        event->next->previous = event->previous;
    handle_free(&cuda.events, event->handle);
    free(event->after.positions);
    free(event);
}

void event_free_all(const struct CUctx_st *context)
{
    struct event *next = NULL;

    for (struct event *event = events; event; event = next) {
        next = event->next;
        if (event->context == context)
            event_free(event);
    }
}

/* Takes the lock and finds the event; on failure NULL, *ret_status to answer, and no lock. */
static struct event *enter_event_call(const char *call, CUevent handle, CUresult *ret_status)
{
    struct event *found = NULL;

    *ret_status = cuda_enter_call(call);
    if (*ret_status != CUDA_SUCCESS)
        return NULL;
    found = handle_get(&cuda.events, handle);
    if (!found)
        *ret_status = cuda_leave(CUDA_ERROR_INVALID_HANDLE);
    return found;
}
#define enter_event(...) enter_event_call(__func__, __VA_ARGS__)

CUresult cuEventDestroy_v2(CUevent event)
{
    CUresult status = CUDA_SUCCESS;
    struct event *const found = enter_event(event, &status);

    if (!found)
        return status;
    event_free(found);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuEventDestroy(CUevent event)
{
    return cuEventDestroy_v2(event);
}

static int copy_clock(struct clock *to, const struct clock *from)
{
    uint64_t *const positions = malloc((from->count + 1) * sizeof(*positions));

    if (!positions)
        return -1;
    memcpy(positions, from->positions ? from->positions : positions,
           from->count * sizeof(*positions));
    free(to->positions);
    *to = (struct clock){ positions, from->count };
    return 0;
}

static CUresult record(struct event *event, struct stream *stream)
{
    struct work mark = { .kind = WORK_MARK, .event = event->handle };

    mark.event_serial = ++event->serial;
    const CUresult status = stream_enqueue(stream, &mark);
    if (status != CUDA_SUCCESS)
        return status;
    if (copy_clock(&event->after, &stream->after) < 0)
        return cuda_count_oom(&cuda.gpus[stream->context->gpu]);
    event->is_recorded = true;
    event->slot = stream->slot;
    event->position = stream->enqueued;
    if (!cuda.is_late)
        stream_run_all(stream);
    /* Another process that waits for it cannot do our work: it is done now, as a card may. */
    if ((event->flags & CU_EVENT_INTERPROCESS) != 0)
        stream_run(stream->slot, stream->enqueued);
    return CUDA_SUCCESS;
}

static CUresult record_call(const char *call, CUevent event, CUstream stream, unsigned int flags)
{
    struct CUctx_st *context = NULL;
    struct stream *found_stream = NULL;
    CUresult status = cuda_enter_context_call(call, &context);

    if (status != CUDA_SUCCESS)
        return status;
    if (flags > 1)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    struct event *const found = handle_get(&cuda.events, event);
    if (!found)
        return cuda_leave(CUDA_ERROR_INVALID_HANDLE);
    status = stream_find(context, stream, &found_stream);
    if (status == CUDA_SUCCESS && found_stream->context != found->context)
        status = CUDA_ERROR_INVALID_HANDLE;
    return cuda_leave(status == CUDA_SUCCESS ? record(found, found_stream) : status);
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
    return record_call(__func__, event, stream, 0);
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags)
{
    return record_call(__func__, event, stream, flags);
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags)
{
    struct CUctx_st *context = NULL;
    struct stream *found_stream = NULL;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    struct event *const found = handle_get(&cuda.events, event);
    if (!found)
        return cuda_leave(CUDA_ERROR_INVALID_HANDLE);
    if (flags > 1)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = stream_find(context, stream, &found_stream);
    if (status == CUDA_SUCCESS && found->is_recorded)
        status = stream_wait(found_stream, found->slot, found->position, &found->after);
    return cuda_leave(status);
}

CUresult cuEventSynchronize(CUevent event)
{
    CUresult status = CUDA_SUCCESS;
    struct event *const found = enter_event(event, &status);

    if (!found)
        return status;
    if (found->is_recorded)
        stream_run(found->slot, found->position);
    pool_release_all();
    return cuda_leave(CUDA_SUCCESS);
}

/* Who polls makes progress, as with cuStreamQuery. */
CUresult cuEventQuery(CUevent event)
{
    CUresult status = CUDA_SUCCESS;
    struct event *const found = enter_event(event, &status);

    if (!found)
        return status;
    return cuda_leave(found->is_recorded && stream_step(found->slot, found->position)
                          ? CUDA_ERROR_NOT_READY
                          : CUDA_SUCCESS);
}

static bool has_passed(const struct event *event)
{
    return stream_done(event->slot) >= event->position;
}

CUresult cuEventElapsedTime_v2(float *ms, CUevent start, CUevent end)
{
    CUresult status = CUDA_SUCCESS;
    struct event *const from = enter_event(start, &status);

    if (!from)
        return status;
    const struct event *const to = handle_get(&cuda.events, end);
    if (!to || !from->is_recorded || !to->is_recorded ||
        ((from->flags | to->flags) & CU_EVENT_DISABLE_TIMING) != 0)
        return cuda_leave(CUDA_ERROR_INVALID_HANDLE);
    if (!ms)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (!has_passed(from) || !has_passed(to))
        return cuda_leave(CUDA_ERROR_NOT_READY);
    *ms = (float)((double)((int64_t)(to->passed_ns - from->passed_ns)) / 1e6);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end)
{
    return cuEventElapsedTime_v2(ms, start, end);
}

/* Forms whose stream 0 is the thread's own. */

static CUstream own(CUstream stream)
{
    return stream ? stream : CU_STREAM_PER_THREAD;
}

CUresult cuEventRecord_ptsz(CUevent event, CUstream stream)
{
    return cuEventRecord(event, own(stream));
}

CUresult cuEventRecordWithFlags_ptsz(CUevent event, CUstream stream, unsigned int flags)
{
    return cuEventRecordWithFlags(event, own(stream), flags);
}

CUresult cuStreamWaitEvent_ptsz(CUstream stream, CUevent event, unsigned int flags)
{
    return cuStreamWaitEvent(own(stream), event, flags);
}
