/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copies of rows of bytes from and to arrays of one dimension.
 */

#include "array.h"
#include "copy.h"

/* One end: an array and where in it, or an address. */
struct spot {
    bool is_array;
    CUarray array;
    size_t at;
    CUdeviceptr address;
    bool is_device; /* said by the call */
};

static CUresult find_spot(const struct spot *spot, size_t bytes, CUdeviceptr *ret_address)
{
    *ret_address = spot->address;
    if (!spot->is_array)
        return CUDA_SUCCESS;
    const struct array *const array = array_get(spot->array);
    if (!array)
        return CUDA_ERROR_INVALID_HANDLE;
    if (array->descriptor.Height != 0 || array->base == 0 || spot->at > array->row_bytes ||
        bytes > array->row_bytes - spot->at)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_address = array->base + spot->at;
    return CUDA_SUCCESS;
}

static CUresult copy_row(const struct spot *to, const struct spot *from,
                         const struct copy_request *how)
{
    struct copy_request request = *how;
    CUresult status = cuda_enter_call(how->call);

    if (status != CUDA_SUCCESS)
        return status;
    status = find_spot(to, how->bytes, &request.to);
    if (status == CUDA_SUCCESS)
        status = find_spot(from, how->bytes, &request.from);
    (void)cuda_leave(status);
    request.is_asked = true;
    request.is_to_device = to->is_array || to->is_device;
    request.is_from_device = from->is_array || from->is_device;
    return status == CUDA_SUCCESS ? copy_run(&request) : status;
}

#define ARRAY(handle, offset)                                                                      \
    &(struct spot)                                                                                 \
    {                                                                                              \
        .is_array = true, .array = (handle), .at = (offset)                                        \
    }
#define DEVICE(number)                                                                             \
    &(struct spot)                                                                                 \
    {                                                                                              \
        .address = (number), .is_device = true                                                     \
    }
#define HOST(memory)                                                                               \
    &(struct spot)                                                                                 \
    {                                                                                              \
        .address = (CUdeviceptr)(uintptr_t)(memory)                                                \
    }
#define NOW(name, handle)                                                                          \
    &(struct copy_request)                                                                         \
    {                                                                                              \
        .call = #name, .stream = (handle), .bytes = bytes                                          \
    }
#define LATER(name)                                                                                \
    &(struct copy_request)                                                                         \
    {                                                                                              \
        .call = #name, .stream = stream, .bytes = bytes, .is_async = true                          \
    }

#define ARRAY_ENTRIES(name, arguments, to_spot, from_spot)                                         \
    CUresult name arguments                                                                        \
    {                                                                                              \
        return copy_row(to_spot, from_spot, NOW(name, CU_STREAM_LEGACY));                          \
    }                                                                                              \
    CUresult name##_ptds arguments                                                                 \
    {                                                                                              \
        return copy_row(to_spot, from_spot, NOW(name, CU_STREAM_PER_THREAD));                      \
    }

ARRAY_ENTRIES(cuMemcpyDtoA_v2, (CUarray to, size_t to_at, CUdeviceptr from, size_t bytes),
              ARRAY(to, to_at), DEVICE(from))
ARRAY_ENTRIES(cuMemcpyAtoD_v2, (CUdeviceptr to, CUarray from, size_t from_at, size_t bytes),
              DEVICE(to), ARRAY(from, from_at))
ARRAY_ENTRIES(cuMemcpyHtoA_v2, (CUarray to, size_t to_at, const void *from, size_t bytes),
              ARRAY(to, to_at), HOST(from))
ARRAY_ENTRIES(cuMemcpyAtoH_v2, (void *to, CUarray from, size_t from_at, size_t bytes), HOST(to),
              ARRAY(from, from_at))
ARRAY_ENTRIES(cuMemcpyAtoA_v2,
              (CUarray to, size_t to_at, CUarray from, size_t from_at, size_t bytes),
              ARRAY(to, to_at), ARRAY(from, from_at))

CUresult cuMemcpyHtoAAsync_v2(CUarray to, size_t to_at, const void *from, size_t bytes,
                              CUstream stream)
{
    return copy_row(ARRAY(to, to_at), HOST(from), LATER(cuMemcpyHtoAAsync_v2));
}

CUresult cuMemcpyHtoAAsync_v2_ptsz(CUarray to, size_t to_at, const void *from, size_t bytes,
                                   CUstream stream)
{
    return cuMemcpyHtoAAsync_v2(to, to_at, from, bytes, stream ? stream : CU_STREAM_PER_THREAD);
}

CUresult cuMemcpyAtoHAsync_v2(void *to, CUarray from, size_t from_at, size_t bytes, CUstream stream)
{
    return copy_row(HOST(to), ARRAY(from, from_at), LATER(cuMemcpyAtoHAsync_v2));
}

CUresult cuMemcpyAtoHAsync_v2_ptsz(void *to, CUarray from, size_t from_at, size_t bytes,
                                   CUstream stream)
{
    return cuMemcpyAtoHAsync_v2(to, from, from_at, bytes, stream ? stream : CU_STREAM_PER_THREAD);
}
