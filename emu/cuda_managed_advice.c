/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Advice about managed memory, which stream it belongs to, and what can be asked of it. Only a
 * wish for the host has an effect here: a card's work then leaves the memory there.
 */

#include <string.h>

#include "managed.h"
#include "stream.h"

CUresult managed_locate(const CUmemLocation *location, int *ret_location)
{
    if (!managed_is_concurrent())
        return CUDA_ERROR_INVALID_DEVICE;
    switch (location->type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
        *ret_location = location->id;
        return device_get(location->id) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
    case CU_MEM_LOCATION_TYPE_HOST:
        *ret_location = CU_DEVICE_CPU;
        return CUDA_SUCCESS;
    case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
        *ret_location = MANAGED_NODE(0); /* the emulated machine has one */
        return location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA && location->id != 0
                   ? CUDA_ERROR_INVALID_VALUE
                   : CUDA_SUCCESS;
    case CU_MEM_LOCATION_TYPE_INVALID:
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

static void set_read_mostly(struct managed_piece *piece, int location)
{
    (void)location;
    piece->is_read_mostly = true;
}

static void unset_read_mostly(struct managed_piece *piece, int location)
{
    (void)location;
    piece->is_read_mostly = false;
}

static void set_preferred(struct managed_piece *piece, int location)
{
    piece->preferred = location;
}

static void unset_preferred(struct managed_piece *piece, int location)
{
    (void)location;
    piece->preferred = CU_DEVICE_INVALID;
}

static uint32_t by_bit(int location)
{
    return location >= 0 ? UINT32_C(1) << location : MANAGED_BY_HOST;
}

static void set_accessed_by(struct managed_piece *piece, int location)
{
    piece->accessed_by |= by_bit(location);
}

static void unset_accessed_by(struct managed_piece *piece, int location)
{
    piece->accessed_by &= ~by_bit(location);
}

/* NULL: no such advice. *ret_is_located: the location means something to it. */
static managed_change *find_change(CUmem_advise advice, bool *ret_is_located)
{
    static managed_change *const changes[] = {
        set_read_mostly, unset_read_mostly, set_preferred,
        unset_preferred, set_accessed_by,   unset_accessed_by
    };

    *ret_is_located = advice == CU_MEM_ADVISE_SET_PREFERRED_LOCATION ||
                      advice == CU_MEM_ADVISE_SET_ACCESSED_BY ||
                      advice == CU_MEM_ADVISE_UNSET_ACCESSED_BY;
    return advice >= CU_MEM_ADVISE_SET_READ_MOSTLY && advice <= CU_MEM_ADVISE_UNSET_ACCESSED_BY
               ? changes[advice - CU_MEM_ADVISE_SET_READ_MOSTLY]
               : NULL;
}

static CUresult advise(const char *call, CUdeviceptr address, size_t bytes, CUmem_advise advice,
                       const CUmemLocation *location)
{
    int where = CU_DEVICE_INVALID;
    bool is_located = false;
    CUresult status = cuda_enter_call(call);

    if (status != CUDA_SUCCESS)
        return status;
    struct range *const range = managed_find(address, bytes);
    managed_change *const change = find_change(advice, &is_located);
    if (!range || !change)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (is_located)
        status = managed_locate(location, &where);
    /* Who touches memory is a card or the host as a whole. */
    if (status == CUDA_SUCCESS && advice >= CU_MEM_ADVISE_SET_ACCESSED_BY &&
        where <= MANAGED_NODE(0))
        status = CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        status = managed_apply(range, address, bytes, change, where);
    return cuda_leave(status);
}

CUresult cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise advice,
                        CUmemLocation location)
{
    return advise(__func__, address, bytes, advice, &location);
}

CUresult cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUdevice device)
{
    const CUmemLocation location = { device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST
                                                             : CU_MEM_LOCATION_TYPE_DEVICE,
                                     device };

    return advise(__func__, address, bytes, advice, &location);
}

/* What all pieces have in common. */
struct common {
    bool is_read_mostly;
    int preferred, prefetched; /* CU_DEVICE_INVALID: they differ, or none */
    uint32_t accessed_by;
};

static struct common find_common(const struct range *range, CUdeviceptr address, uint64_t bytes)
{
    const struct managed_piece *end = NULL;
    const struct managed_piece *piece = managed_pieces(range, address, bytes, &end);
    struct common common = { piece->is_read_mostly, piece->preferred, piece->prefetched,
                             piece->accessed_by };

    for (piece++; piece < end; piece++) {
        common.is_read_mostly = common.is_read_mostly && piece->is_read_mostly;
        common.accessed_by &= piece->accessed_by;
        if (common.preferred != piece->preferred)
            common.preferred = CU_DEVICE_INVALID;
        if (common.prefetched != piece->prefetched)
            common.prefetched = CU_DEVICE_INVALID;
    }
    return common;
}

static CUmemLocationType type_of(int location)
{
    if (location >= 0)
        return CU_MEM_LOCATION_TYPE_DEVICE;
    if (location == CU_DEVICE_INVALID)
        return CU_MEM_LOCATION_TYPE_INVALID;
    return location == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_HOST_NUMA;
}

static int id_of(int location)
{
    return location <= MANAGED_NODE(0) ? MANAGED_NODE(0) - location : location;
}

/* The older attributes know no nodes: they are the host. */
static int device_of(int location)
{
    return location <= MANAGED_NODE(0) ? CU_DEVICE_CPU : location;
}

static CUresult store_accessed_by(int32_t *data, size_t data_bytes, uint32_t accessed_by)
{
    size_t used = 0;
    const size_t room = data_bytes / sizeof(*data);

    if (data_bytes == 0 || data_bytes % sizeof(*data) != 0)
        return CUDA_ERROR_INVALID_VALUE;
    for (int gpu = 0; gpu < EMU_GPU_MAX && used < room; gpu++) {
        if ((accessed_by & by_bit(gpu)) != 0)
            data[used++] = gpu;
    }
    if ((accessed_by & MANAGED_BY_HOST) != 0 && used < room)
        data[used++] = CU_DEVICE_CPU;
    while (used < room)
        data[used++] = CU_DEVICE_INVALID;
    return CUDA_SUCCESS;
}

static CUresult find_value(CUmem_range_attribute attribute, const struct common *common,
                           int32_t *ret_value)
{
    switch ((int)attribute) {
    case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
        return *ret_value = common->is_read_mostly, CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
        return *ret_value = device_of(common->preferred), CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
        return *ret_value = device_of(common->prefetched), CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
        return *ret_value = (int32_t)type_of(common->preferred), CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
        return *ret_value = id_of(common->preferred), CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
        return *ret_value = (int32_t)type_of(common->prefetched), CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
        return *ret_value = id_of(common->prefetched), CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

static CUresult store(void *data, size_t data_bytes, CUmem_range_attribute attribute,
                      const struct common *common)
{
    int32_t value = 0;

    if (!data)
        return CUDA_ERROR_INVALID_VALUE;
    if (attribute == CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY)
        return store_accessed_by(data, data_bytes, common->accessed_by);
    const CUresult status = find_value(attribute, common, &value);
    if (status != CUDA_SUCCESS || data_bytes != sizeof(value))
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(data, &value, sizeof(value));
    return CUDA_SUCCESS;
}

static CUresult get_attributes(const char *call, void **data, const size_t *data_bytes,
                               const CUmem_range_attribute *attributes, size_t count,
                               const struct place *where)
{
    CUresult status = cuda_enter_call(call);

    if (status != CUDA_SUCCESS)
        return status;
    const struct range *const range = managed_find(where->base, where->bytes);
    if (!range || !data || !data_bytes || !attributes || count == 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    const struct common common = find_common(range, where->base, where->bytes);
    for (size_t i = 0; i < count && status == CUDA_SUCCESS; i++)
        status = store(data[i], data_bytes[i], attributes[i], &common);
    return cuda_leave(status);
}

CUresult cuMemRangeGetAttribute(void *data, size_t data_bytes, CUmem_range_attribute attribute,
                                CUdeviceptr address, size_t bytes)
{
    const struct place where = { .base = address, .bytes = bytes };

    return get_attributes(__func__, &data, &data_bytes, &attribute, 1, &where);
}

CUresult cuMemRangeGetAttributes(void **data, size_t *data_bytes, CUmem_range_attribute *attributes,
                                 size_t count, CUdeviceptr address, size_t bytes)
{
    const struct place where = { .base = address, .bytes = bytes };

    return get_attributes(__func__, data, data_bytes, attributes, count, &where);
}

/* All cards reach managed memory at all times, so nothing follows from it. */
CUresult cuStreamAttachMemAsync(CUstream stream, CUdeviceptr address, size_t bytes,
                                unsigned int flags)
{
    struct CUctx_st *context = NULL;
    struct stream *found = NULL;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    status = stream_find(context, stream, &found);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    const struct range *const range = managed_find(address, 1);
    if (!range || (bytes != 0 && bytes != range->bytes) ||
        (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST &&
         flags != CU_MEM_ATTACH_SINGLE) ||
        (flags == CU_MEM_ATTACH_SINGLE && found->is_legacy))
        status = CUDA_ERROR_INVALID_VALUE;
    return cuda_leave(status);
}

CUresult cuStreamAttachMemAsync_ptsz(CUstream stream, CUdeviceptr address, size_t bytes,
                                     unsigned int flags)
{
    return cuStreamAttachMemAsync(stream ? stream : CU_STREAM_PER_THREAD, address, bytes, flags);
}
