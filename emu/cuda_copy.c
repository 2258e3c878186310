/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copies and sets that are done when they return.
 */

#include "cuda_state.h"

/* The place of bytes at address; they must lie in one allocation. */
static CUresult find_bytes(CUdeviceptr address, size_t bytes, struct place *ret_place)
{
    if (!space_find(address, ret_place) || bytes > ret_place->bytes - (address - ret_place->base))
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

static CUresult locate(CUdeviceptr address, size_t bytes, struct place *ret_place)
{
    struct CUctx_st *context = NULL;
    const CUresult status = cuda_enter_context(&context);

    return status == CUDA_SUCCESS ? cuda_leave(find_bytes(address, bytes, ret_place)) : status;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
    struct place place;

    if (bytes == 0)
        return CUDA_SUCCESS;
    const CUresult status = from ? locate(to, bytes, &place) : CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        bytes_write(place.gpu, place.offset, from, bytes);
    return status;
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
    struct place place;

    if (bytes == 0)
        return CUDA_SUCCESS;
    const CUresult status = to ? locate(from, bytes, &place) : CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        bytes_read(place.gpu, place.offset, to, bytes);
    return status;
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    struct place to_place, from_place;

    if (bytes == 0)
        return CUDA_SUCCESS;
    CUresult status = locate(to, bytes, &to_place);
    if (status == CUDA_SUCCESS)
        status = locate(from, bytes, &from_place);
    if (status == CUDA_SUCCESS)
        bytes_copy(to_place.gpu, to_place.offset, from_place.gpu, from_place.offset, bytes);
    return status;
}

static CUresult fill(CUdeviceptr to, uint32_t value, unsigned value_bytes, size_t count)
{
    struct place place;
    size_t bytes = 0;

    if (count == 0)
        return CUDA_SUCCESS;
    if (to % value_bytes != 0 || __builtin_mul_overflow(count, (size_t)value_bytes, &bytes))
        return CUDA_ERROR_INVALID_VALUE;
    const CUresult status = locate(to, bytes, &place);
    if (status == CUDA_SUCCESS)
        bytes_fill(place.gpu, place.offset, value, value_bytes, count);
    return status;
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count)
{
    return fill(to, value, 1, count);
}

CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count)
{
    return fill(to, value, 2, count);
}

CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned int value, size_t count)
{
    return fill(to, value, 4, count);
}
