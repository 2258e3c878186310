/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Contexts: each process's first one on a gpu costs the context's overhead there, its last one's
 * end gives it back. A primary context is one a gpu, counted by its retains; its handle stays the
 * same when it is activated again. What a thread has current is a stack of handles, which may go
 * stale: a destroyed context is told from a living one by its handle.
 */

#include <stdlib.h>

#include "array.h"
#include "cuda/context.h"
#include "restore.h"
#include "stream.h"

#define STACK_MAX 256

static __thread struct {
    CUcontext items[STACK_MAX];
    int count;
} stack;

CUresult context_current(struct CUctx_st **ret_context)
{
    const CUcontext handle = stack.count > 0 ? stack.items[stack.count - 1] : NULL;

    if (!handle)
        return CUDA_ERROR_INVALID_CONTEXT;
    *ret_context = handle_get(&cuda.contexts, handle);
    return *ret_context ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult context_check_flags(unsigned int flags)
{
    return (flags & ~CU_CTX_FLAGS_MASK) != 0 || (flags & CU_CTX_SCHED_MASK) == 3 ||
                   (flags & CU_CTX_SCHED_MASK) > 4
               ? CUDA_ERROR_INVALID_VALUE
               : CUDA_SUCCESS;
}

CUresult context_named(CUcontext handle, struct CUctx_st **ret_context)
{
    if (!handle)
        return context_current(ret_context);
    *ret_context = handle_get(&cuda.contexts, handle);
    return *ret_context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

static CUresult context_new(uint32_t gpu, uint32_t flags, struct CUctx_st **ret_context)
{
    struct emu_reply reply = { 0 };

    if (cuda_is_lost(&cuda.gpus[gpu]))
        return CUDA_ERROR_UNKNOWN;
    struct CUctx_st *const context = calloc(1, sizeof(*context));
    if (!context)
        return cuda_count_oom(&cuda.gpus[gpu]);
    const CUresult status = cuda_ask(EMU_CONTEXT_ADD, &cuda.gpus[gpu], 0, &reply);
    if (status != CUDA_SUCCESS) {
        free(context);
        return status;
    }
    context->gpu = gpu;
    context->flags = flags;
    context->api_version = 3020;
    context->use_count = 1;
    context->id = ++cuda.next_id;
    context_set_defaults(context);
    *ret_context = context;
    return CUDA_SUCCESS;
}

static void context_free(struct CUctx_st *context)
{
    struct emu_reply reply = { 0 };

    stream_free_all(context);
    event_free_all(context);
    host_free_all(context);
    array_free_all(context);
    space_free_context(context);
    (void)cuda_ask(EMU_CONTEXT_REMOVE, &cuda.gpus[context->gpu], 0, &reply);
    if (context->is_primary) /* whose handle is there for its next life */
        handle_hide(&cuda.contexts, context->handle);
    else
        handle_free(&cuda.contexts, context->handle);
    free(context);
}

static CUresult activate_primary(struct gpu *gpu)
{
    struct CUctx_st *context = NULL;
    const CUresult status = context_new((uint32_t)(gpu - cuda.gpus), gpu->primary_flags, &context);

    if (status != CUDA_SUCCESS)
        return status;
    context->is_primary = true;
    if (gpu->primary_handle)
        handle_show(&cuda.contexts, gpu->primary_handle, context);
    else
        gpu->primary_handle = handle_new(&cuda.contexts, context);
    context->handle = gpu->primary_handle;
    if (!context->handle) {
        context_free(context);
        return cuda_count_oom(gpu);
    }
    gpu->primary = context;
    return CUDA_SUCCESS;
}

/* Whoever has retained it is still to release it. */
static void deactivate_primary(struct gpu *gpu)
{
    if (gpu->primary)
        context_free(gpu->primary);
    gpu->primary = NULL;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct gpu *const gpu = device_get(device);
    if (!gpu)
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    if (!context)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (!gpu->primary)
        status = activate_primary(gpu);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    gpu->primary_count++;
    *context = gpu->primary->handle;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct gpu *const gpu = device_get(device);
    if (!gpu)
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    if (gpu->primary_count == 0)
        return cuda_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (--gpu->primary_count == 0)
        deactivate_primary(gpu);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct gpu *const gpu = device_get(device);
    if (!gpu)
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    deactivate_primary(gpu);
    return cuda_leave(CUDA_SUCCESS);
}

static CUresult set_primary_flags(const char *call, CUdevice device, unsigned int flags,
                                  bool is_active_right)
{
    CUresult status = cuda_enter_call(call);

    if (status != CUDA_SUCCESS)
        return status;
    struct gpu *const gpu = device_get(device);
    if (!gpu)
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    status = context_check_flags(flags);
    if (status == CUDA_SUCCESS && gpu->primary && !is_active_right)
        status = CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE;
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    gpu->primary_flags = flags;
    if (gpu->primary)
        gpu->primary->flags = flags;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags)
{
    return set_primary_flags(__func__, device, flags, true);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    const struct gpu *const gpu = device_get(device);
    if (!gpu)
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    if (!flags || !active)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *flags = gpu->primary_flags;
    *active = gpu->primary != NULL;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    return cuDevicePrimaryCtxRelease_v2(device);
}

CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
    return cuDevicePrimaryCtxReset_v2(device);
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags)
{
    return set_primary_flags(__func__, device, flags, false); /* as before CUDA 11 */
}

/* api_version: 0 where something is asked for that there is not. */
static CUresult create(const char *call, CUcontext *context, unsigned int flags, CUdevice device,
                       uint32_t api_version)
{
    struct CUctx_st *made = NULL;
    CUresult status = cuda_enter_call(call);

    if (status != CUDA_SUCCESS)
        return status;
    if (api_version == 0)
        return cuda_leave(CUDA_ERROR_NOT_SUPPORTED);
    struct gpu *const gpu = device_get(device);
    if (!gpu)
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    status = context_check_flags(flags);
    if (status == CUDA_SUCCESS && (!context || stack.count == STACK_MAX))
        status = CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        status = context_new((uint32_t)device, flags, &made);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    made->handle = handle_new(&cuda.contexts, made);
    if (!made->handle) {
        context_free(made);
        return cuda_leave(cuda_count_oom(gpu));
    }
    made->api_version = api_version;
    stack.items[stack.count++] = made->handle;
    *context = made->handle;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxCreate(CUcontext *context, unsigned int flags, CUdevice device)
{
    return create(__func__, context, flags, device, 3010);
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
    return create(__func__, context, flags, device, 3020);
}

CUresult cuCtxCreate_v3(CUcontext *context, void *affinity, int affinity_count, unsigned int flags,
                        CUdevice device)
{
    const bool needs_mps = affinity || affinity_count != 0;

    return create(__func__, context, flags, device, needs_mps ? 0 : 3020);
}

CUresult cuCtxCreate_v4(CUcontext *context, void *params, unsigned int flags, CUdevice device)
{
    return create(__func__, context, flags, device, params ? 0 : 3020); /* affinity, or CIG */
}

/* Popped here if it is on top; other threads keep a stale handle, as with the driver. */
static void destroy(struct CUctx_st *context)
{
    if (stack.count > 0 && stack.items[stack.count - 1] == context->handle)
        stack.count--;
    context_free(context);
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct CUctx_st *const found = handle_get(&cuda.contexts, context);
    if (!found || found->is_primary)
        return cuda_leave(CUDA_ERROR_INVALID_CONTEXT);
    destroy(found);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxAttach(CUcontext *context, unsigned int flags)
{
    struct CUctx_st *current = NULL;
    const CUresult status = cuda_enter_context(&current);

    if (status != CUDA_SUCCESS)
        return status;
    if (!context || flags != 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    current->use_count++;
    *context = current->handle;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxDetach(CUcontext context)
{
    struct CUctx_st *current = NULL;
    const CUresult status = cuda_enter_context(&current);

    if (status != CUDA_SUCCESS)
        return status;
    if (current->handle != context || (current->is_primary && current->use_count == 1))
        return cuda_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (--current->use_count == 0)
        destroy(current);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxDestroy(CUcontext context)
{
    return cuCtxDestroy_v2(context);
}

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!handle_get(&cuda.contexts, context))
        return cuda_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (stack.count == STACK_MAX)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    stack.items[stack.count++] = context;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxPushCurrent(CUcontext context)
{
    return cuCtxPushCurrent_v2(context);
}

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (stack.count == 0)
        return cuda_leave(CUDA_ERROR_INVALID_CONTEXT);
    stack.count--;
    if (context)
        *context = stack.items[stack.count];
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxPopCurrent(CUcontext *context)
{
    return cuCtxPopCurrent_v2(context);
}

/* Replaces the top; NULL takes it away. */
CUresult cuCtxSetCurrent(CUcontext context)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (context && !handle_get(&cuda.contexts, context))
        return cuda_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (stack.count > 0)
        stack.count--;
    if (context)
        stack.items[stack.count++] = context;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!context)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *context = stack.count > 0 ? stack.items[stack.count - 1] : NULL;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    struct CUctx_st *context = NULL;
    const CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!device)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *device = (CUdevice)context->gpu;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetFlags(unsigned int *flags)
{
    struct CUctx_st *context = NULL;
    const CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!flags)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *flags = context->flags;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned int *version)
{
    CUresult status = cuda_enter();
    struct CUctx_st *found = NULL;

    if (status != CUDA_SUCCESS)
        return status;
    if (!version)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = context_named(context, &found);
    if (status == CUDA_SUCCESS)
        *version = found->api_version;
    return cuda_leave(status);
}

static CUresult synchronize(const char *call, CUcontext handle)
{
    struct CUctx_st *context = NULL;

    if (restore_passes_sync(call))
        return CUDA_SUCCESS;
    CUresult status = cuda_enter_call(call);
    if (status != CUDA_SUCCESS)
        return status;
    status = context_named(handle, &context);
    if (status == CUDA_SUCCESS)
        status = context_check(context);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    stream_run_context(context);
    pool_release_all();
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxSynchronize(void)
{
    return synchronize(__func__, NULL);
}

CUresult cuCtxSynchronize_v2(CUcontext context)
{
    return synchronize(__func__, context);
}
