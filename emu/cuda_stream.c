/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Entry points of streams; what a stream is, is in stream.h.
 */

#include <stdlib.h>

#include "cuda/context.h"
#include "restore.h"
#include "stream.h"

static CUresult create(const char *call, CUstream *stream, unsigned int flags, int priority)
{
    struct CUctx_st *context = NULL;
    struct stream *made = NULL;
    CUresult status = cuda_enter_context_call(call, &context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!stream || (flags & ~CU_STREAM_NON_BLOCKING) != 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = stream_new(context, flags, priority > 0 ? 0 : priority < -5 ? -5 : priority, &made);
    if (status == CUDA_SUCCESS)
        *stream = made->handle;
    return cuda_leave(status);
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority)
{
    return create(__func__, stream, flags, priority);
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
    return create(__func__, stream, flags, 0);
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    struct CUctx_st *context = NULL;
    const CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return cuda_leave(CUDA_SUCCESS);
}

/* What waits in it is done now: one of the schedules that the driver may choose. */
CUresult cuStreamDestroy_v2(CUstream stream)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct stream *const found = handle_get(&cuda.streams, stream);
    if (!found || found->is_legacy)
        return cuda_leave(CUDA_ERROR_INVALID_HANDLE);
    stream_free(found);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuStreamDestroy(CUstream stream)
{
    return cuStreamDestroy_v2(stream);
}

/* On success the lock is held. */
static CUresult enter_stream_call(const char *call, CUstream handle, struct stream **ret_stream)
{
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context_call(call, &context);

    if (status != CUDA_SUCCESS)
        return status;
    status = stream_find(context, handle, ret_stream);
    return status == CUDA_SUCCESS ? status : cuda_leave(status);
}
#define enter_stream(...) enter_stream_call(__func__, __VA_ARGS__)

CUresult cuStreamGetPriority(CUstream stream, int *priority)
{
    struct stream *found = NULL;
    const CUresult status = enter_stream(stream, &found);

    if (status != CUDA_SUCCESS)
        return status;
    if (!priority)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *priority = found->priority;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuStreamGetFlags(CUstream stream, unsigned int *flags)
{
    struct stream *found = NULL;
    const CUresult status = enter_stream(stream, &found);

    if (status != CUDA_SUCCESS)
        return status;
    if (!flags)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *flags = found->flags;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuStreamGetId(CUstream stream, unsigned long long *id)
{
    struct stream *found = NULL;
    const CUresult status = enter_stream(stream, &found);

    if (status != CUDA_SUCCESS)
        return status;
    if (!id)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *id = found->id;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext *context)
{
    struct stream *found = NULL;
    const CUresult status = enter_stream(stream, &found);

    if (status != CUDA_SUCCESS)
        return status;
    if (!context)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *context = found->context->handle;
    return cuda_leave(CUDA_SUCCESS);
}

/* No stream of a green context: there are none. */
CUresult cuStreamGetCtx_v2(CUstream stream, CUcontext *context, void **green)
{
    const CUresult status = cuStreamGetCtx(stream, context);

    if (status == CUDA_SUCCESS && green)
        *green = NULL;
    return status == CUDA_SUCCESS && !green ? CUDA_ERROR_INVALID_VALUE : status;
}

CUresult cuStreamGetDevice(CUstream stream, CUdevice *device)
{
    struct stream *found = NULL;
    const CUresult status = enter_stream(stream, &found);

    if (status != CUDA_SUCCESS)
        return status;
    if (!device)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *device = (CUdevice)found->context->gpu;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuStreamSynchronize(CUstream stream)
{
    struct stream *found = NULL;

    if (restore_passes_sync(__func__))
        return CUDA_SUCCESS;
    const CUresult status = enter_stream(stream, &found);
    if (status != CUDA_SUCCESS)
        return status;
    stream_run_all(found);
    pool_release_all();
    return cuda_leave(CUDA_SUCCESS);
}

/* Who polls makes progress: each query lets one piece of work be done. */
CUresult cuStreamQuery(CUstream stream)
{
    struct stream *found = NULL;
    const CUresult status = enter_stream(stream, &found);

    if (status != CUDA_SUCCESS)
        return status;
    return cuda_leave(stream_step(found->slot, found->enqueued) ? CUDA_ERROR_NOT_READY
                                                                : CUDA_SUCCESS);
}

/* Takes the work over, whose stream was found, and gives the lock back. */
static CUresult call_later(struct stream *stream, struct work *work)
{
    if (cuda.is_late)
        return cuda_leave(stream_enqueue(stream, work));
    restore_begin_work();
    (void)cuda_leave(CUDA_SUCCESS);
    work_do(work);
    restore_end_work();
    return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream stream, void (*function)(void *), void *data)
{
    struct stream *found = NULL;
    struct work work = { .kind = WORK_CALL, .function = function, .data = data };
    const CUresult status = enter_stream(stream, &found);

    if (status != CUDA_SUCCESS)
        return status;
    return function ? call_later(found, &work) : cuda_leave(CUDA_ERROR_INVALID_VALUE);
}

struct callback {
    void (*function)(CUstream stream, CUresult status, void *data);
    CUstream stream;
    void *data;
};

static void run_callback(void *data)
{
    const struct callback callback = *(struct callback *)data;

    free(data);
    callback.function(callback.stream, CUDA_SUCCESS, callback.data);
}

CUresult cuStreamAddCallback(CUstream stream, void (*function)(CUstream, CUresult, void *),
                             void *data, unsigned int flags)
{
    struct stream *found = NULL;
    const CUresult status = enter_stream(stream, &found);

    if (status != CUDA_SUCCESS)
        return status;
    if (!function || flags != 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    struct callback *const callback = malloc(sizeof(*callback));
    if (!callback)
        return cuda_leave(cuda_count_oom(&cuda.gpus[found->context->gpu]));
    *callback = (struct callback){ function, stream, data };
    struct work work = { .kind = WORK_CALL, .function = run_callback, .data = callback };
    const CUresult added = call_later(found, &work);
    if (added != CUDA_SUCCESS)
        free(callback);
    return added;
}

/* Forms whose stream 0 is the thread's own. */

static CUstream own(CUstream stream)
{
    return stream ? stream : CU_STREAM_PER_THREAD;
}

CUresult cuStreamGetPriority_ptsz(CUstream stream, int *priority)
{
    return cuStreamGetPriority(own(stream), priority);
}

CUresult cuStreamGetFlags_ptsz(CUstream stream, unsigned int *flags)
{
    return cuStreamGetFlags(own(stream), flags);
}

CUresult cuStreamGetId_ptsz(CUstream stream, unsigned long long *id)
{
    return cuStreamGetId(own(stream), id);
}

CUresult cuStreamGetCtx_ptsz(CUstream stream, CUcontext *context)
{
    return cuStreamGetCtx(own(stream), context);
}

CUresult cuStreamGetCtx_v2_ptsz(CUstream stream, CUcontext *context, void **green)
{
    return cuStreamGetCtx_v2(own(stream), context, green);
}

CUresult cuStreamGetDevice_ptsz(CUstream stream, CUdevice *device)
{
    return cuStreamGetDevice(own(stream), device);
}

CUresult cuStreamAddCallback_ptsz(CUstream stream, void (*function)(CUstream, CUresult, void *),
                                  void *data, unsigned int flags)
{
    return cuStreamAddCallback(own(stream), function, data, flags);
}

CUresult cuStreamSynchronize_ptsz(CUstream stream)
{
    return cuStreamSynchronize(own(stream));
}

CUresult cuStreamQuery_ptsz(CUstream stream)
{
    return cuStreamQuery(own(stream));
}

CUresult cuLaunchHostFunc_ptsz(CUstream stream, void (*function)(void *), void *data)
{
    return cuLaunchHostFunc(own(stream), function, data);
}
