/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Entry points of the stream-ordered allocator. With --async=late a free waits in its stream like
 * any other work; an allocation never has to, because what it gets nobody uses any more.
 */

#include <string.h>

#include "graph.h"
#include "pool.h"

#define HANDLE_TYPES_MASK 0xfU

static struct pool *find_pool(CUmemoryPool handle)
{
    return handle_get(&cuda.pools, handle);
}

/* One that gives out memory: not another process's. */
static struct pool *find_own_pool(CUmemoryPool handle)
{
    struct pool *const pool = find_pool(handle);

    return pool && !pool->is_imported ? pool : NULL;
}

/* The device's own, which is there from its first use on. NULL: no host memory. */
static struct pool *default_pool(uint32_t gpu)
{
    struct pool *pool = cuda.first_pool;

    while (pool && (pool->gpu != gpu || !pool->is_default))
        pool = pool->next;
    if (pool)
        return pool;
    pool = pool_new(gpu);
    if (pool)
        pool->is_default = true;
    return pool;
}

static struct pool *current_pool(uint32_t gpu)
{
    struct pool *const chosen = find_pool(cuda.gpus[gpu].pool);

    return chosen ? chosen : default_pool(gpu);
}

/* Without a pool: the current one of the stream's gpu. */
static CUresult alloc(const char *call, CUdeviceptr *address, size_t bytes, CUmemoryPool handle,
                      CUstream stream)
{
    struct CUctx_st *context = NULL;
    struct stream *found = NULL;
    CUresult status = cuda_enter_context_call(call, &context);

    if (status != CUDA_SUCCESS)
        return status;
    status = stream_find(context, stream, &found);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    struct pool *const pool = handle ? find_own_pool(handle) : current_pool(found->context->gpu);
    if (!address || bytes == 0 || !pool)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = pool_alloc(pool, bytes, found, address);
    return cuda_leave(status);
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream)
{
    return alloc(__func__, address, bytes, NULL, stream);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *address, size_t bytes, CUstream stream)
{
    return cuMemAllocAsync(address, bytes, stream ? stream : CU_STREAM_PER_THREAD);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, CUmemoryPool pool,
                                 CUstream stream)
{
    return pool ? alloc(__func__, address, bytes, pool, stream) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *address, size_t bytes, CUmemoryPool pool,
                                      CUstream stream)
{
    return cuMemAllocFromPoolAsync(address, bytes, pool, stream ? stream : CU_STREAM_PER_THREAD);
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream)
{
    struct CUctx_st *context = NULL;
    struct stream *found = NULL;
    struct place place;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    status = stream_find(context, stream, &found);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    struct graph_memory *const of_graph = graph_memory_find(address);
    if (of_graph && !of_graph->is_freed_by_owner) {
        graph_memory_free(of_graph, found, "cuMemFreeAsync");
        return cuda_leave(CUDA_SUCCESS);
    }
    struct piece *const piece = pool_piece(address);
    if (!piece || !space_find(address, &place))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    struct work work = { .kind = WORK_FREE,
                         .to = { .gpu = place.gpu, .offset = place.offset },
                         .bytes = place.bytes,
                         .data = piece };
    if (!cuda.is_late) {
        pool_give(piece);
        return cuda_leave(CUDA_SUCCESS);
    }
    status = stream_enqueue(found, &work);
    if (status == CUDA_SUCCESS) {
        race_check(found, &work, "cuMemFreeAsync");
        piece->is_freed = true;
    }
    return cuda_leave(status);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream)
{
    return cuMemFreeAsync(address, stream ? stream : CU_STREAM_PER_THREAD);
}

static CUresult check_properties(const CUmemPoolProps *properties)
{
    const unsigned types = (unsigned)properties->handleTypes;

    if (properties->allocType != CU_MEM_ALLOCATION_TYPE_PINNED || types > HANDLE_TYPES_MASK ||
        properties->win32SecurityAttributes)
        return CUDA_ERROR_INVALID_VALUE;
    if (properties->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT ||
        (properties->location.type == CU_MEM_LOCATION_TYPE_HOST && types != 0))
        return CUDA_ERROR_INVALID_VALUE;
    if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE || properties->usage != 0 ||
        (types & ~(unsigned)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0)
        return CUDA_ERROR_NOT_SUPPORTED;
    return device_get(properties->location.id) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *properties)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    status = pool && properties ? check_properties(properties) : CUDA_ERROR_INVALID_VALUE;
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    struct pool *const made = pool_new((uint32_t)properties->location.id);
    if (!made)
        return cuda_leave(cuda_count_oom(&cuda.gpus[properties->location.id]));
    made->is_shareable = properties->handleTypes != CU_MEM_HANDLE_TYPE_NONE;
    made->max_bytes = properties->maxSize;
    *pool = made->handle;
    return cuda_leave(CUDA_SUCCESS);
}

/* What was taken from it stays; the pool ends with the last of it. */
CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct pool *const found = find_pool(pool);
    if (!found || found->is_default)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    handle_free(&cuda.pools, pool);
    found->is_destroyed = true;
    pool_settle(found);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t bytes_to_keep)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct pool *const found = find_pool(pool);
    if (!found)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    pool_trim(found, bytes_to_keep);
    return cuda_leave(CUDA_SUCCESS);
}

static uint64_t *find_bytes(struct pool *pool, CUmemPool_attribute attribute)
{
    switch (attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        return &pool->threshold_bytes;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
        return &pool->reserved_bytes;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        return &pool->reserved_high_bytes;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        return &pool->used_bytes;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        return &pool->used_high_bytes;
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
    default:
        return NULL;
    }
}

static bool is_reuse(CUmemPool_attribute attribute)
{
    return attribute >= CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES &&
           attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct pool *const found = find_pool(pool);
    const uint64_t *const bytes = found ? find_bytes(found, attribute) : NULL;
    if (!found || !value || (!bytes && !is_reuse(attribute)))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (bytes)
        memcpy(value, bytes, sizeof(*bytes));
    else
        memcpy(value, &found->reuse[attribute - 1], sizeof(int));
    return cuda_leave(CUDA_SUCCESS);
}

/* High marks can be set to 0 alone, and are then what there is now; current figures can not. */
static CUresult set_bytes(struct pool *pool, CUmemPool_attribute attribute, uint64_t value)
{
    if (attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD)
        pool->threshold_bytes = value;
    else if (attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH && value == 0)
        pool->reserved_high_bytes = pool->reserved_bytes;
    else if (attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH && value == 0)
        pool->used_high_bytes = pool->used_bytes;
    else
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct pool *const found = find_pool(pool);
    const uint64_t *const bytes = found ? find_bytes(found, attribute) : NULL;
    if (!found || !value || (!bytes && !is_reuse(attribute)))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (bytes) {
        uint64_t wanted = 0;
        memcpy(&wanted, value, sizeof(wanted));
        status = set_bytes(found, attribute, wanted);
    } else {
        memcpy(&found->reuse[attribute - 1], value, sizeof(int));
    }
    return cuda_leave(status);
}

/* On success the lock is held. */
static CUresult enter_device_call(const char *call, CUdevice device, const void *out)
{
    const CUresult status = cuda_enter_call(call);

    if (status != CUDA_SUCCESS)
        return status;
    if (!device_get(device))
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    return out ? CUDA_SUCCESS : cuda_leave(CUDA_ERROR_INVALID_VALUE);
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device)
{
    const CUresult status = enter_device_call(__func__, device, pool);

    if (status != CUDA_SUCCESS)
        return status;
    struct pool *const found = default_pool((uint32_t)device);
    if (!found)
        return cuda_leave(cuda_count_oom(&cuda.gpus[device]));
    *pool = found->handle;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device)
{
    const CUresult status = enter_device_call(__func__, device, pool);

    if (status != CUDA_SUCCESS)
        return status;
    struct pool *const found = current_pool((uint32_t)device);
    if (!found)
        return cuda_leave(cuda_count_oom(&cuda.gpus[device]));
    *pool = found->handle;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool)
{
    const CUresult status = enter_device_call(__func__, device, pool);

    if (status != CUDA_SUCCESS)
        return status;
    const struct pool *const found = find_own_pool(pool);
    if (!found || found->gpu != (uint32_t)device)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    cuda.gpus[device].pool = pool;
    return cuda_leave(CUDA_SUCCESS);
}

/* The same by location, as CUDA 13 has it; there are pools of pinned memory of a card alone. */
static CUresult check_place(const char *call, const CUmemLocation *location,
                            CUmemAllocationType type)
{
    const CUresult status = cuda_enter_call(call);

    if (status != CUDA_SUCCESS)
        return status;
    (void)cuda_leave(CUDA_SUCCESS);
    if (!location ||
        (type != CU_MEM_ALLOCATION_TYPE_PINNED && type != CU_MEM_ALLOCATION_TYPE_MANAGED))
        return CUDA_ERROR_INVALID_VALUE;
    if (location->type == CU_MEM_LOCATION_TYPE_DEVICE)
        return type == CU_MEM_ALLOCATION_TYPE_PINNED ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
    return location->type == CU_MEM_LOCATION_TYPE_HOST ||
                   location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA
               ? CUDA_ERROR_NOT_SUPPORTED
               : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetDefaultMemPool(CUmemoryPool *pool, CUmemLocation *location,
                                CUmemAllocationType type)
{
    const CUresult status = check_place(__func__, location, type);

    return status == CUDA_SUCCESS ? cuDeviceGetDefaultMemPool(pool, location->id) : status;
}

CUresult cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location, CUmemAllocationType type)
{
    const CUresult status = check_place(__func__, location, type);

    return status == CUDA_SUCCESS ? cuDeviceGetMemPool(pool, location->id) : status;
}

CUresult cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type, CUmemoryPool pool)
{
    const CUresult status = check_place(__func__, location, type);

    return status == CUDA_SUCCESS ? cuDeviceSetMemPool(location->id, pool) : status;
}
