/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cuPointerGetAttribute: what an address is. Pageable host memory is nothing the driver knows.
 */

#include <string.h>

#include "ipc.h"
#include "managed.h"
#include "pool.h"
#include "vmm.h"

/* Device memory, pinned host memory, or reserved addresses, as the attributes need it. */
struct known {
    bool is_device, is_managed;
    CUdeviceptr address, start; /* start, bytes: of all the addresses that belong together */
    uint64_t bytes, id;
    CUdeviceptr base; /* base, mapped_bytes: of what has memory behind it */
    uint64_t mapped_bytes;
    CUcontext context; /* NULL: of none */
    int gpu;
    const struct mapping *mapping; /* NULL: none */
};

static void find_mapped(const struct place *place, struct known *known)
{
    *known = (struct known){ .is_device = true,
                             .address = known->address,
                             .start = place->base,
                             .bytes = place->bytes,
                             .id = place->id,
                             .base = place->base,
                             .mapped_bytes = place->bytes,
                             .gpu = (int)(place->gpu - cuda.gpus),
                             .mapping = place->mapping,
                             .is_managed = place->is_managed };
    if (place->context)
        known->context = place->context->handle;
    if (!place->mapping)
        return;
    known->is_device = !place->mapping->memory->host;
    if (!known->is_device)
        known->gpu = CU_DEVICE_CPU;
    known->start = place->mapping->reservation->address;
    known->bytes = place->mapping->reservation->bytes;
}

static bool find_known(CUdeviceptr address, struct known *ret_known)
{
    struct place place;
    const struct host_range *const host = host_find((const void *)(uintptr_t)address);
    const struct reservation *const reservation = vmm_reservation(address, 1);

    *ret_known = (struct known){ .address = address };
    if (space_find(address, &place)) {
        find_mapped(&place, ret_known);
        return true;
    }
    if (reservation) {
        ret_known->is_device = true;
        ret_known->start = reservation->address;
        ret_known->bytes = reservation->bytes;
        ret_known->id = reservation->id;
        return true;
    }
    if (!host)
        return false;
    *ret_known = (struct known){ .address = address,
                                 .start = (CUdeviceptr)(uintptr_t)host->start,
                                 .bytes = host->bytes,
                                 .id = host->id,
                                 .base = (CUdeviceptr)(uintptr_t)host->start,
                                 .mapped_bytes = host->bytes,
                                 .context = host->context->handle,
                                 .gpu = (int)host->context->gpu };
    return true;
}

#define STORE(type, value) (*(type *)data = (type)(value), CUDA_SUCCESS)

/* What the current context's card may do there. */
static CUresult store_access(void *data, const struct known *known)
{
    struct CUctx_st *context = NULL;
    const CUresult status = context_current(&context);

    if (status != CUDA_SUCCESS)
        return status;
    return STORE(unsigned int,
                 known->mapping ? known->mapping->access[context->gpu]
                 : known->is_device && !known->is_managed && known->gpu != (int)context->gpu
                     ? CU_MEM_ACCESS_FLAGS_PROT_NONE
                     : CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
}

/* What addresses without memory behind them can be asked for, too. */
static CUresult store_range(void *data, CUpointer_attribute attribute, const struct known *known)
{
    switch ((int)attribute) {
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        return STORE(unsigned long long, known->id);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        return STORE(unsigned int, known->is_managed);
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        return STORE(unsigned int, ipc_is_capable(known->address));
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        return STORE(CUdeviceptr, known->start);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        return STORE(size_t, known->bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED:
        return STORE(unsigned char, known->mapped_bytes > 0);
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

static const struct pool *find_pool(const struct known *known)
{
    const struct range *const range = space_range(known->address);

    return range && range->chunk ? range->chunk->pool : NULL;
}

static CUmemoryPool find_pool_handle(const struct known *known)
{
    const struct pool *const pool = find_pool(known);

    return pool ? pool->handle : NULL;
}

static CUmemAllocationHandleType handle_types(const struct known *known)
{
    const struct pool *const pool = find_pool(known);

    if (known->mapping)
        return known->mapping->memory->properties.requestedHandleTypes;
    return pool && pool->is_shareable ? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
                                      : CU_MEM_HANDLE_TYPE_NONE;
}

static CUresult store(void *data, CUpointer_attribute attribute, const struct known *known)
{
    const CUresult status = store_range(data, attribute, known);

    if (status != CUDA_ERROR_NOT_SUPPORTED)
        return status;
    if (known->mapped_bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    switch ((int)attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        return STORE(CUcontext, known->context);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        return STORE(unsigned int, known->is_device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        return STORE(CUdeviceptr, known->address);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        return known->is_device && !known->is_managed ? CUDA_ERROR_INVALID_VALUE
                                                      : STORE(void *, (uintptr_t)known->address);
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        return STORE(unsigned int, 0);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        return STORE(int, known->gpu);
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        return STORE(unsigned int, handle_types(known));
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        return STORE(CUmemoryPool, find_pool_handle(known));
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
        return store_access(data, known);
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
        return STORE(size_t, known->mapped_bytes);
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
        return STORE(CUdeviceptr, known->base);
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

/* For cuPointerGetAttributes, which answers zeros for what is not known. */
static size_t attribute_bytes(CUpointer_attribute attribute)
{
    if (attribute == CU_POINTER_ATTRIBUTE_MAPPED)
        return 1;
    return attribute == CU_POINTER_ATTRIBUTE_MEMORY_TYPE ||
                   attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS ||
                   attribute == CU_POINTER_ATTRIBUTE_IS_MANAGED ||
                   attribute == CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE ||
                   attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL ||
                   attribute == CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES ||
                   attribute == CU_POINTER_ATTRIBUTE_ACCESS_FLAGS
               ? 4
               : 8;
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr address)
{
    struct known known;
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    status = data && find_known(address, &known) ? store(data, attribute, &known)
                                                 : CUDA_ERROR_INVALID_VALUE;
    return cuda_leave(status);
}

CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes, void **data,
                                CUdeviceptr address)
{
    struct known known;
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (count == 0 || !attributes || !data)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    const bool is_known = find_known(address, &known);
    for (unsigned int i = 0; i < count; i++) {
        memset(data[i], 0, attribute_bytes(attributes[i]));
        if (!is_known)
            continue;
        status = store(data[i], attributes[i], &known);
        if (status == CUDA_ERROR_NOT_SUPPORTED)
            return cuda_leave(status);
    }
    return cuda_leave(CUDA_SUCCESS);
}
