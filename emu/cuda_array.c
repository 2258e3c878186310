/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Entry points of arrays, and memory for rows with a pitch.
 */

#include <string.h>

#include "array.h"

#define PITCH_BYTES ((size_t)512)

CUresult cuArray3DCreate_v2(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    struct CUctx_st *context = NULL;
    struct array *made = NULL;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    status = array && descriptor ? array_check(descriptor) : CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        status = array_new(context, descriptor, &made);
    if (status == CUDA_SUCCESS)
        *array = made->handle;
    return cuda_leave(status);
}

CUresult cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *descriptor)
{
    struct CUctx_st *context = NULL;
    struct array *made = NULL;
    CUDA_ARRAY3D_DESCRIPTOR whole = { 0 };
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!array || !descriptor)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    whole.Width = descriptor->Width;
    whole.Height = descriptor->Height;
    whole.Format = descriptor->Format;
    whole.NumChannels = descriptor->NumChannels;
    status = array_check(&whole);
    if (status == CUDA_SUCCESS)
        status = array_new(context, &whole, &made);
    if (status == CUDA_SUCCESS)
        *array = made->handle;
    return cuda_leave(status);
}

/* The array, with the lock held; or NULL, with the status to answer and no lock. */
static struct array *enter_array_call(const char *call, CUarray handle, CUresult *ret_status)
{
    *ret_status = cuda_enter_call(call);
    if (*ret_status != CUDA_SUCCESS)
        return NULL;
    struct array *const array = array_get(handle);
    if (!array)
        *ret_status = cuda_leave(CUDA_ERROR_INVALID_HANDLE);
    return array;
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *descriptor, CUarray array)
{
    CUresult status = CUDA_SUCCESS;
    struct array *const found = enter_array_call(__func__, array, &status);

    if (!found)
        return status;
    if (!descriptor)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *descriptor = found->descriptor;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *descriptor, CUarray array)
{
    CUresult status = CUDA_SUCCESS;
    struct array *const found = enter_array_call(__func__, array, &status);

    if (!found)
        return status;
    if (!descriptor)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *descriptor =
        (CUDA_ARRAY_DESCRIPTOR){ found->descriptor.Width, found->descriptor.Height,
                                 found->descriptor.Format, found->descriptor.NumChannels };
    return cuda_leave(CUDA_SUCCESS);
}

/* A level goes with its mipmapped array. */
CUresult cuArrayDestroy(CUarray array)
{
    CUresult status = CUDA_SUCCESS;
    struct array *const found = enter_array_call(__func__, array, &status);

    if (!found)
        return status;
    if (found->mipmap)
        return cuda_leave(CUDA_ERROR_INVALID_HANDLE);
    array_free(found);
    return cuda_leave(CUDA_SUCCESS);
}

/* Only formats with planes have any, and those are not emulated. */
CUresult cuArrayGetPlane(CUarray *plane, CUarray array, unsigned int index)
{
    CUresult status = CUDA_SUCCESS;

    (void)plane;
    (void)index;
    return enter_array_call(__func__, array, &status) ? cuda_leave(CUDA_ERROR_INVALID_VALUE)
                                                      : status;
}

/* Gives the lock back. */
static CUresult tell_requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *requirements,
                                  const CUDA_ARRAY3D_DESCRIPTOR *descriptor, uint64_t bytes,
                                  CUdevice device)
{
    if (!requirements || (descriptor->Flags & CUDA_ARRAY3D_DEFERRED_MAPPING) == 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (!device_get(device))
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    memset(requirements, 0, sizeof(*requirements));
    requirements->size = (bytes + ARRAY_ALIGNMENT - 1) / ARRAY_ALIGNMENT * ARRAY_ALIGNMENT;
    requirements->alignment = ARRAY_ALIGNMENT;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *requirements, CUarray array,
                                      CUdevice device)
{
    CUresult status = CUDA_SUCCESS;
    struct array *const found = enter_array_call(__func__, array, &status);

    if (!found)
        return status;
    return tell_requirements(requirements, &found->descriptor, array_bytes(&found->descriptor),
                             device);
}

/* As many as halving leads to one element. */
static uint32_t most_levels(const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    const bool has_depth = (descriptor->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) == 0;
    size_t most = descriptor->Width;
    uint32_t count = 1;

    if (descriptor->Height > most)
        most = descriptor->Height;
    if (has_depth && descriptor->Depth > most)
        most = descriptor->Depth;
    while (most > 1) {
        most /= 2;
        count++;
    }
    return count;
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
                                unsigned int level_count)
{
    struct CUctx_st *context = NULL;
    struct mipmap *made = NULL;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    status = array && descriptor ? array_check(descriptor) : CUDA_ERROR_INVALID_VALUE;
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    if (level_count == 0)
        level_count = 1;
    if (level_count > most_levels(descriptor))
        level_count = most_levels(descriptor);
    status = array_new_mipmap(context, descriptor, level_count, &made);
    if (status == CUDA_SUCCESS)
        *array = made->handle;
    return cuda_leave(status);
}

/* As above. */
static struct mipmap *enter_mipmap_call(const char *call, CUmipmappedArray handle,
                                        CUresult *ret_status)
{
    *ret_status = cuda_enter_call(call);
    if (*ret_status != CUDA_SUCCESS)
        return NULL;
    struct mipmap *const mipmap = array_get_mipmap(handle);
    if (!mipmap)
        *ret_status = cuda_leave(CUDA_ERROR_INVALID_HANDLE);
    return mipmap;
}

CUresult cuMipmappedArrayGetLevel(CUarray *level_array, CUmipmappedArray array, unsigned int level)
{
    struct array *made = NULL;
    CUresult status = CUDA_SUCCESS;
    struct mipmap *const found = enter_mipmap_call(__func__, array, &status);

    if (!found)
        return status;
    if (!level_array || level >= found->level_count)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = array_level(found, level, &made);
    if (status == CUDA_SUCCESS)
        *level_array = made->handle;
    return cuda_leave(status);
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray array)
{
    CUresult status = CUDA_SUCCESS;
    struct mipmap *const found = enter_mipmap_call(__func__, array, &status);

    if (!found)
        return status;
    array_free_mipmap(found);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *requirements,
                                               CUmipmappedArray array, CUdevice device)
{
    CUresult status = CUDA_SUCCESS;
    struct mipmap *const found = enter_mipmap_call(__func__, array, &status);

    if (!found)
        return status;
    return tell_requirements(requirements, &found->descriptor,
                             array_mipmap_bytes(&found->descriptor, found->level_count), device);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width_bytes, size_t height,
                            unsigned int element_bytes)
{
    struct CUctx_st *context = NULL;
    size_t row_bytes = 0, bytes = 0;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!address || !pitch || width_bytes == 0 || height == 0 ||
        (element_bytes != 4 && element_bytes != 8 && element_bytes != 16))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (__builtin_add_overflow(width_bytes, PITCH_BYTES - 1, &row_bytes))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    row_bytes = row_bytes / PITCH_BYTES * PITCH_BYTES;
    if (__builtin_mul_overflow(row_bytes, height, &bytes))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = space_alloc(context, bytes, address);
    if (status == CUDA_SUCCESS)
        *pitch = row_bytes;
    return cuda_leave(status);
}
