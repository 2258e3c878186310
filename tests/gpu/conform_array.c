/* SPDX-License-Identifier: Apache-2.0 */

/* Arrays: what they may be, what they take, and boxes of bytes from and to them. */

#include <string.h>

#include "conform.h"
#include "cuda/array.h"

#define ROW  200
#define ROWS 100

static CUresult create(CUDA_ARRAY3D_DESCRIPTOR descriptor, CUarray *ret_array)
{
    return DRV(cuArray3DCreate_v2)(ret_array, &descriptor);
}

#define INVALID(what, ...)                                                                         \
    conform_status(create((CUDA_ARRAY3D_DESCRIPTOR){ .Format = CU_AD_FORMAT_FLOAT,                 \
                                                     .NumChannels = 1,                             \
                                                     __VA_ARGS__ },                                \
                          &array),                                                                 \
                   CUDA_ERROR_INVALID_VALUE, what " is an invalid value")

static void check_arguments(void)
{
    CUarray array = NULL;
    int width = 0;

    INVALID("an array without width", .Width = 0);
    INVALID("an array with a depth but no height", .Width = 16, .Depth = 16);
    INVALID("a cubemap that is no cube", .Width = 16, .Height = 8, .Depth = 6,
            .Flags = CUDA_ARRAY3D_CUBEMAP);
    INVALID("a cubemap with five faces", .Width = 16, .Height = 16, .Depth = 5,
            .Flags = CUDA_ARRAY3D_CUBEMAP);
    conform_status(create((CUDA_ARRAY3D_DESCRIPTOR){ .Width = 16,
                                                     .Format = CU_AD_FORMAT_FLOAT,
                                                     .NumChannels = 3 },
                          &array),
                   CUDA_ERROR_INVALID_VALUE, "an array of three channels is an invalid value");
    conform_status(DRV(cuDeviceGetAttribute)(
                       &width, (CUdevice_attribute)CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_WIDTH, 0),
                   CUDA_SUCCESS, "how wide an array may be");
    INVALID("a wider array", .Width = (size_t)width + 1);
}

static void check_descriptor(void)
{
    const CUDA_ARRAY3D_DESCRIPTOR wanted = { .Width = 64,
                                             .Height = 32,
                                             .Depth = 5,
                                             .Format = CU_AD_FORMAT_HALF,
                                             .NumChannels = 4,
                                             .Flags = CUDA_ARRAY3D_LAYERED };
    CUDA_ARRAY3D_DESCRIPTOR got = { 0 };
    CUDA_ARRAY_DESCRIPTOR flat = { 0 };
    CUarray array = NULL;

    conform_status(create(wanted, &array), CUDA_SUCCESS, "cuArray3DCreate of layers");
    conform_status(DRV(cuArray3DGetDescriptor_v2)(&got, array), CUDA_SUCCESS,
                   "cuArray3DGetDescriptor");
    conform_holds(got.Width == 64 && got.Height == 32 && got.Depth == 5 &&
                      got.Format == CU_AD_FORMAT_HALF && got.NumChannels == 4 &&
                      got.Flags == CUDA_ARRAY3D_LAYERED,
                  "it is as it was made");
    conform_status(DRV(cuArrayGetDescriptor_v2)(&flat, array), CUDA_SUCCESS,
                   "cuArrayGetDescriptor");
    conform_holds(flat.Width == 64 && flat.Height == 32, "of two dimensions, too");
    conform_status(DRV(cuArrayDestroy)(array), CUDA_SUCCESS, "cuArrayDestroy");
}

static void check_accounting(void)
{
    const CUDA_ARRAY_DESCRIPTOR wanted = { 2048, 2048, CU_AD_FORMAT_FLOAT, 4 };
    const uint64_t free_before = conform_free_bytes();
    CUarray array = NULL;

    conform_status(DRV(cuArrayCreate_v2)(&array, &wanted), CUDA_SUCCESS, "an array of 64 MiB");
    conform_holds(free_before - conform_free_bytes() >= 64 * MIB, "takes as much of the card");
    conform_holds(free_before - conform_free_bytes() <= 80 * MIB, "and little more");
    conform_status(DRV(cuArrayDestroy)(array), CUDA_SUCCESS, "cuArrayDestroy");
    conform_number(conform_free_bytes(), free_before, "what is destroyed is free");
}

static void check_boxes(void)
{
    static unsigned char out[ROWS * ROW], back[ROWS * ROW];
    const CUDA_ARRAY_DESCRIPTOR wanted = { ROW, ROWS, CU_AD_FORMAT_UNSIGNED_INT8, 1 };
    CUDA_MEMCPY2D copy = { .srcMemoryType = CU_MEMORYTYPE_HOST,
                           .srcHost = out,
                           .srcPitch = ROW,
                           .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                           .WidthInBytes = ROW,
                           .Height = ROWS };
    CUarray array = NULL;
    bool is_same = true;

    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (unsigned char)(i * 31 + i / ROW);
    conform_status(DRV(cuArrayCreate_v2)(&array, &wanted), CUDA_SUCCESS, "cuArrayCreate");
    copy.dstArray = array;
    conform_status(DRV(cuMemcpy2D_v2)(&copy), CUDA_SUCCESS, "a copy to an array");
    copy.WidthInBytes = ROW + 1;
    conform_status(DRV(cuMemcpy2D_v2)(&copy), CUDA_ERROR_INVALID_VALUE,
                   "a copy of rows that are longer than their pitch is an invalid value");
    copy = (CUDA_MEMCPY2D){ .srcMemoryType = CU_MEMORYTYPE_ARRAY,
                            .srcArray = array,
                            .srcXInBytes = 10,
                            .srcY = 20,
                            .dstMemoryType = CU_MEMORYTYPE_HOST,
                            .dstHost = back,
                            .dstPitch = ROW,
                            .WidthInBytes = 50,
                            .Height = 60 };
    conform_status(DRV(cuMemcpy2D_v2)(&copy), CUDA_SUCCESS, "a copy from the middle of it");
    for (size_t y = 0; y < 60; y++)
        is_same = is_same && memcmp(back + y * ROW, out + (20 + y) * ROW + 10, 50) == 0;
    conform_holds(is_same, "has the bytes of the middle");
    conform_holds(back[50] == 0 && back[ROW - 1] == 0, "and none between its rows");
    copy.srcXInBytes = ROW - 49;
    conform_status(DRV(cuMemcpy2D_v2)(&copy), CUDA_ERROR_INVALID_VALUE,
                   "a copy beyond an array's row is an invalid value");
    copy.srcXInBytes = 0;
    copy.srcMemoryType = 77;
    conform_status(DRV(cuMemcpy2D_v2)(&copy), CUDA_ERROR_INVALID_VALUE,
                   "a copy from no kind of memory is an invalid value");
    conform_status(DRV(cuArrayDestroy)(array), CUDA_SUCCESS, "cuArrayDestroy");
}

static void check_slices(void)
{
    static unsigned char out[8 * 8 * 8], back[8 * 8 * 8];
    CUDA_MEMCPY3D copy = { .srcMemoryType = CU_MEMORYTYPE_HOST,
                           .srcHost = out,
                           .srcPitch = 8,
                           .srcHeight = 8,
                           .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                           .WidthInBytes = 8,
                           .Height = 8,
                           .Depth = 8 };
    CUarray array = NULL;

    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (unsigned char)(i * 3 + 1);
    conform_status(create((CUDA_ARRAY3D_DESCRIPTOR){ .Width = 8,
                                                     .Height = 8,
                                                     .Depth = 8,
                                                     .Format = CU_AD_FORMAT_UNSIGNED_INT8,
                                                     .NumChannels = 1 },
                          &array),
                   CUDA_SUCCESS, "an array of three dimensions");
    copy.dstArray = array;
    conform_status(DRV(cuMemcpy3D_v2)(&copy), CUDA_SUCCESS, "cuMemcpy3D to it");
    copy = (CUDA_MEMCPY3D){ .srcMemoryType = CU_MEMORYTYPE_ARRAY,
                            .srcArray = array,
                            .srcZ = 3,
                            .dstMemoryType = CU_MEMORYTYPE_HOST,
                            .dstHost = back,
                            .dstPitch = 8,
                            .dstHeight = 8,
                            .WidthInBytes = 8,
                            .Height = 8,
                            .Depth = 2 };
    conform_status(DRV(cuMemcpy3D_v2)(&copy), CUDA_SUCCESS, "cuMemcpy3D of two of its slices");
    conform_holds(memcmp(back, out + (size_t)3 * 64, 128) == 0 && back[128] == 0, "they come back");
    copy.srcLOD = 1;
    conform_status(DRV(cuMemcpy3D_v2)(&copy), CUDA_ERROR_INVALID_VALUE,
                   "a level of detail is an invalid value");
    conform_status(DRV(cuArrayDestroy)(array), CUDA_SUCCESS, "cuArrayDestroy");
}

static void check_rows(void)
{
    const CUDA_ARRAY_DESCRIPTOR wanted = { 1000, 0, CU_AD_FORMAT_UNSIGNED_INT8, 1 };
    unsigned char out[1000], back[1000] = { 0 };
    CUarray array = NULL;

    memset(out, 0x37, sizeof(out));
    conform_status(DRV(cuArrayCreate_v2)(&array, &wanted), CUDA_SUCCESS, "an array of one row");
    conform_status(DRV(cuMemcpyHtoA_v2)(array, 0, out, 1000), CUDA_SUCCESS, "cuMemcpyHtoA");
    conform_status(DRV(cuMemcpyAtoH_v2)(back, array, 990, 10), CUDA_SUCCESS, "cuMemcpyAtoH");
    conform_holds(back[0] == 0x37 && back[9] == 0x37 && back[10] == 0, "the bytes come back");
    conform_status(DRV(cuMemcpyAtoH_v2)(back, array, 995, 10), CUDA_ERROR_INVALID_VALUE,
                   "bytes beyond the array are an invalid value");
    conform_status(DRV(cuArrayDestroy)(array), CUDA_SUCCESS, "cuArrayDestroy");
}

static void check_pitch(void)
{
    unsigned char back[3] = { 0 };
    CUdeviceptr address = 0;
    size_t pitch = 0;

    conform_status(DRV(cuMemAllocPitch_v2)(&address, &pitch, 100, 10, 3), CUDA_ERROR_INVALID_VALUE,
                   "a pitch for elements of 3 bytes is an invalid value");
    conform_status(DRV(cuMemAllocPitch_v2)(&address, &pitch, 100, 10, 4), CUDA_SUCCESS,
                   "cuMemAllocPitch");
    conform_holds(pitch >= 100 && pitch % 32 == 0, "the pitch has room for a row");
    conform_status(DRV(cuMemsetD8_v2)(address, 1, pitch * 10), CUDA_SUCCESS, "a set of all of it");
    conform_status(DRV(cuMemsetD2D8_v2)(address, pitch, 2, 100, 10), CUDA_SUCCESS, "cuMemsetD2D8");
    conform_status(DRV(cuMemcpyDtoH_v2)(back, address + 3 * pitch + 98, 3), CUDA_SUCCESS,
                   "a copy of the end of a row");
    conform_holds(back[0] == 2 && back[1] == 2 && (pitch == 100 || back[2] == 1),
                  "the rows are set and nothing else");
    conform_status(DRV(cuMemsetD2D8_v2)(address, 99, 2, 100, 10), CUDA_ERROR_INVALID_VALUE,
                   "a set of rows that are longer than their pitch is an invalid value");
    conform_status(DRV(cuMemFree_v2)(address), CUDA_SUCCESS, "cuMemFree");
}

static void check_levels(void)
{
    const CUDA_ARRAY3D_DESCRIPTOR wanted = {
        .Width = 100, .Height = 60, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1
    };
    CUDA_ARRAY3D_DESCRIPTOR got = { 0 };
    CUmipmappedArray mipmap = NULL;
    CUarray level = NULL;

    conform_status(DRV(cuMipmappedArrayCreate)(&mipmap, &wanted, 99), CUDA_SUCCESS,
                   "cuMipmappedArrayCreate with more levels than there can be");
    conform_status(DRV(cuMipmappedArrayGetLevel)(&level, mipmap, 6), CUDA_SUCCESS,
                   "its seventh level");
    conform_status(DRV(cuArray3DGetDescriptor_v2)(&got, level), CUDA_SUCCESS, "what that is");
    conform_holds(got.Width == 1 && got.Height == 1, "it has one element");
    conform_status(DRV(cuMipmappedArrayGetLevel)(&level, mipmap, 7), CUDA_ERROR_INVALID_VALUE,
                   "its eighth level is an invalid value");
    conform_status(DRV(cuMipmappedArrayDestroy)(mipmap), CUDA_SUCCESS, "cuMipmappedArrayDestroy");
}

static void check_requirements(void)
{
    CUDA_ARRAY3D_DESCRIPTOR wanted = { .Width = 1024,
                                       .Height = 1024,
                                       .Format = CU_AD_FORMAT_FLOAT,
                                       .NumChannels = 1,
                                       .Flags = CUDA_ARRAY3D_DEFERRED_MAPPING };
    CUDA_ARRAY_MEMORY_REQUIREMENTS requirements = { 0 };
    const uint64_t free_before = conform_free_bytes();
    CUarray array = NULL;

    conform_status(create(wanted, &array), CUDA_SUCCESS, "an array that is mapped later");
    conform_number(conform_free_bytes(), free_before, "takes nothing of the card");
    conform_status(DRV(cuArrayGetMemoryRequirements)(&requirements, array, 0), CUDA_SUCCESS,
                   "cuArrayGetMemoryRequirements");
    conform_holds(requirements.size >= 4 * MIB && requirements.size < 8 * MIB,
                  "it needs what its elements need");
    conform_holds(requirements.alignment > 0 &&
                      (requirements.alignment & (requirements.alignment - 1)) == 0,
                  "at an alignment that is a power of two");
    conform_status(DRV(cuArrayDestroy)(array), CUDA_SUCCESS, "cuArrayDestroy");
    wanted.Flags = 0;
    conform_status(create(wanted, &array), CUDA_SUCCESS, "an array that has memory");
    conform_status(DRV(cuArrayGetMemoryRequirements)(&requirements, array, 0),
                   CUDA_ERROR_INVALID_VALUE, "its requirements are an invalid value");
    conform_status(DRV(cuArrayDestroy)(array), CUDA_SUCCESS, "cuArrayDestroy");
}

void conform_array(void)
{
    check_arguments();
    check_descriptor();
    check_accounting();
    check_boxes();
    check_slices();
    check_rows();
    check_pitch();
    check_levels();
    check_requirements();
}
