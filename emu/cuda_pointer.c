/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cuPointerGetAttribute: what an address is. Pageable host memory is nothing the driver knows.
 */

#include <string.h>

#include "stream.h"

/* Device memory or pinned host memory, as the attributes need it. */
struct known {
    bool is_device;
    CUdeviceptr address, start;
    uint64_t bytes, id;
    const struct CUctx_st *context;
};

static bool find_known(CUdeviceptr address, struct known *ret_known)
{
    struct place place;
    const struct host_range *const host = host_find((const void *)(uintptr_t)address);

    if (space_find(address, &place)) {
        *ret_known = (struct known){ .is_device = true,
                                     .address = address,
                                     .start = place.base,
                                     .bytes = place.bytes,
                                     .id = place.id,
                                     .context = place.context };
        return true;
    }
    if (!host)
        return false;
    *ret_known = (struct known){ .address = address,
                                 .start = (CUdeviceptr)(uintptr_t)host->start,
                                 .bytes = host->bytes,
                                 .id = host->id,
                                 .context = host->context };
    return true;
}

#define STORE(type, value) (*(type *)data = (type)(value), CUDA_SUCCESS)

static CUresult store(void *data, CUpointer_attribute attribute, const struct known *known)
{
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        return STORE(CUcontext, known->context->handle);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        return STORE(unsigned int, known->is_device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        return STORE(CUdeviceptr, known->address);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        return known->is_device ? CUDA_ERROR_INVALID_VALUE
                                : STORE(void *, (uintptr_t)known->address);
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        return STORE(unsigned int, 0);
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        return STORE(unsigned long long, known->id);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        return STORE(unsigned int, 0);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        return STORE(int, known->context->gpu);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        return STORE(CUdeviceptr, known->start);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        return STORE(size_t, known->bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED:
        return STORE(unsigned char, 1);
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
                   attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
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
