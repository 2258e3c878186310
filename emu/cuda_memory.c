/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Device memory: cuMemAlloc and cuMemFree, what is left, and what an address is.
 */

#include "graph.h"
#include "pool.h"

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    struct CUctx_st *context = NULL;
    uint64_t used_bytes = 0;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    const struct gpu *const gpu = &cuda.gpus[context->gpu];
    status = cuda_used(gpu, &used_bytes);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    if (free_bytes)
        *free_bytes = gpu->info.capacity_bytes - used_bytes;
    if (total_bytes)
        *total_bytes = gpu->info.capacity_bytes;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    status = address && bytes > 0 ? space_alloc(context, bytes, address) : CUDA_ERROR_INVALID_VALUE;
    return cuda_leave(status);
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
    struct CUctx_st *context = NULL;
    struct place place;
    const CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (address == 0)
        return cuda_leave(CUDA_SUCCESS);
    if (!space_find(address, &place) || place.base != address || place.mapping)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    struct end end = { .gpu = place.gpu, .offset = place.offset };
    if (place.host)
        end = (struct end){ .host = place.host };
    race_check_free(&end, place.bytes, "cuMemFree");
    struct graph_memory *const of_graph = graph_memory_find(address);
    if (of_graph && of_graph->is_freed_by_owner)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (of_graph) {
        graph_memory_free(of_graph, NULL, "cuMemFree");
        return cuda_leave(CUDA_SUCCESS);
    }
    if (pool_piece(address)) { /* with the pool's thresholds, as at any synchronisation */
        pool_give(pool_piece(address));
        pool_release_all();
        return cuda_leave(CUDA_SUCCESS);
    }
    return cuda_leave(space_free(address));
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address)
{
    struct CUctx_st *context = NULL;
    struct place place;
    const CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!space_find(address, &place))
        return cuda_leave(CUDA_ERROR_NOT_FOUND);
    if (base)
        *base = place.base;
    if (bytes)
        *bytes = place.bytes;
    return cuda_leave(CUDA_SUCCESS);
}
