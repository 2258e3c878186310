/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a context can be set to: limits, preferences, flags, peers. Nothing of it changes anything
 * on a card that runs no kernels; it is kept and told again, with the driver's checks. No card
 * reaches another one's memory.
 */

#include "cuda/context.h"
#include "stream.h"

/* The defaults of the CUDA programming guide; the sizes of L2 are hints. */
static const size_t default_limits[] = {
    [CU_LIMIT_STACK_SIZE] = 1024,
    [CU_LIMIT_PRINTF_FIFO_SIZE] = (size_t)1 << 20,
    [CU_LIMIT_MALLOC_HEAP_SIZE] = (size_t)8 << 20,
    [CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2,
    [CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048,
    [CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 128,
    [CU_LIMIT_PERSISTING_L2_CACHE_SIZE] = 0,
};
_Static_assert(sizeof(default_limits) == sizeof(((struct CUctx_st *)NULL)->limits), "");

#define SYNC_DEPTH_MAX 24

void context_set_defaults(struct CUctx_st *context)
{
    for (size_t i = 0; i < sizeof(default_limits) / sizeof(default_limits[0]); i++)
        context->limits[i] = default_limits[i];
}

static CUresult check_limit(const struct CUctx_st *context, CUlimit limit)
{
    if ((unsigned)limit >= sizeof(default_limits) / sizeof(default_limits[0]))
        return CUDA_ERROR_UNSUPPORTED_LIMIT;
    return limit == CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH &&
                   cuda.gpus[context->gpu].info.compute_major >= 9
               ? CUDA_ERROR_UNSUPPORTED_LIMIT
               : CUDA_SUCCESS;
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    status = check_limit(context, limit);
    if (status == CUDA_SUCCESS &&
        ((limit == CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH && value > SYNC_DEPTH_MAX) ||
         (limit == CU_LIMIT_MAX_L2_FETCH_GRANULARITY && value > 128)))
        status = CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        context->limits[limit] = value;
    return cuda_leave(status);
}

CUresult cuCtxGetLimit(size_t *value, CUlimit limit)
{
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    status = value ? check_limit(context, limit) : CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        *value = context->limits[limit];
    return cuda_leave(status);
}

/* On success the lock is held. */
static CUresult enter_preference(const char *call, bool is_right, struct CUctx_st **ret_context)
{
    const CUresult status = cuda_enter_context_call(call, ret_context);

    return status != CUDA_SUCCESS || is_right ? status : cuda_leave(CUDA_ERROR_INVALID_VALUE);
}

CUresult cuCtxGetCacheConfig(unsigned int *config)
{
    struct CUctx_st *context = NULL;
    const CUresult status = enter_preference(__func__, config != NULL, &context);

    if (status != CUDA_SUCCESS)
        return status;
    *config = context->cache_config;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxSetCacheConfig(unsigned int config)
{
    struct CUctx_st *context = NULL;
    const CUresult status = enter_preference(__func__, config <= CU_FUNC_CACHE_MAX, &context);

    if (status != CUDA_SUCCESS)
        return status;
    context->cache_config = config;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetSharedMemConfig(unsigned int *config)
{
    struct CUctx_st *context = NULL;
    const CUresult status = enter_preference(__func__, config != NULL, &context);

    if (status != CUDA_SUCCESS)
        return status;
    *config = context->shared_config;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxSetSharedMemConfig(unsigned int config)
{
    struct CUctx_st *context = NULL;
    const CUresult status =
        enter_preference(__func__, config <= CU_SHARED_MEM_CONFIG_MAX, &context);

    if (status != CUDA_SUCCESS)
        return status;
    context->shared_config = config;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuCtxResetPersistingL2Cache(void)
{
    struct CUctx_st *context = NULL;
    const CUresult status = cuda_enter_context(&context);

    return status == CUDA_SUCCESS ? cuda_leave(status) : status;
}

CUresult cuCtxSetFlags(unsigned int flags)
{
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    status = context_check_flags(flags);
    if (status == CUDA_SUCCESS) {
        context->flags = flags;
        if (context->is_primary)
            cuda.gpus[context->gpu].primary_flags = flags;
    }
    return cuda_leave(status);
}

CUresult cuCtxGetId(CUcontext context, unsigned long long *id)
{
    struct CUctx_st *found = NULL;
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    status = id ? context_named(context, &found) : CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        *id = found->id;
    return cuda_leave(status);
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext context)
{
    struct CUctx_st *found = NULL;
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    status = device ? context_named(context, &found) : CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        *device = (CUdevice)found->gpu;
    return cuda_leave(status);
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags)
{
    struct CUctx_st *context = NULL;
    const CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    const struct CUctx_st *const found = handle_get(&cuda.contexts, peer);
    if (!found || found == context)
        return cuda_leave(CUDA_ERROR_INVALID_CONTEXT);
    return cuda_leave(flags == 0 ? CUDA_ERROR_PEER_ACCESS_UNSUPPORTED : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuCtxDisablePeerAccess(CUcontext peer)
{
    struct CUctx_st *context = NULL;
    const CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    return cuda_leave(handle_get(&cuda.contexts, peer) ? CUDA_ERROR_PEER_ACCESS_NOT_ENABLED
                                                       : CUDA_ERROR_INVALID_CONTEXT);
}

CUresult cuDeviceGetP2PAttribute(int *value, int attribute, CUdevice from, CUdevice to)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!device_get(from) || !device_get(to) || from == to)
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    if (!value || attribute < CU_DEVICE_P2P_ATTRIBUTE_FIRST ||
        attribute > CU_DEVICE_P2P_ATTRIBUTE_LAST)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *value = 0;
    return cuda_leave(CUDA_SUCCESS);
}
