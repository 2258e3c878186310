/* SPDX-License-Identifier: Apache-2.0 */

/* Boxes of bytes: random copies beside a plain model, over mappings, late, and races of columns. */

#include "cuda/array.h"
#include "cuda/vmm.h"
#include "emulated_cuda.h"

#define PAGE  ((uint64_t)2 << 20)
#define PITCH UINT64_C(512)
#define ROWS  64

static const CUmemAllocationProp on_card = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                             .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 } };
static const CUmemAccessDesc read_write = { { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
                                            CU_MEM_ACCESS_FLAGS_PROT_READWRITE };

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

/* A box of the plane: both sides have the same pitch. */
struct box {
    size_t x, y, width, height;
};

static struct box next_box(uint64_t *random)
{
    struct box box = { next_random(random) % PITCH, next_random(random) % ROWS, 0, 0 };

    box.width = 1 + next_random(random) % (PITCH - box.x);
    box.height = 1 + next_random(random) % (ROWS - box.y);
    return box;
}

static void copy_from_plane(CUdeviceptr device, CUarray array, const struct box *box,
                            unsigned char *to)
{
    CUDA_MEMCPY2D copy = { .srcMemoryType = array ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_DEVICE,
                           .srcDevice = device,
                           .srcArray = array,
                           .srcPitch = PITCH,
                           .srcXInBytes = box->x,
                           .srcY = box->y,
                           .dstMemoryType = CU_MEMORYTYPE_HOST,
                           .dstHost = to,
                           .dstPitch = PITCH,
                           .WidthInBytes = box->width,
                           .Height = box->height };

    CHECK_CU(CU(cuMemcpy2D_v2)(&copy));
}

static void copy_to_plane(CUdeviceptr device, CUarray array, const struct box *box,
                          const unsigned char *from)
{
    CUDA_MEMCPY2D copy = { .srcMemoryType = CU_MEMORYTYPE_HOST,
                           .srcHost = from,
                           .srcPitch = PITCH,
                           .dstMemoryType = array ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_DEVICE,
                           .dstDevice = device,
                           .dstArray = array,
                           .dstPitch = PITCH,
                           .dstXInBytes = box->x,
                           .dstY = box->y,
                           .WidthInBytes = box->width,
                           .Height = box->height };

    CHECK_CU(CU(cuMemcpy2D_v2)(&copy));
}

/* A plane of device memory or an array, beside plain memory. */
static void check_plane(CUdeviceptr device, CUarray array)
{
    static unsigned char plain[ROWS][PITCH], bytes[ROWS * PITCH];
    uint64_t random = 88172645463325252U;

    memset(plain, 0, sizeof(plain));
    for (int step = 0; step < 300; step++) {
        const struct box box = next_box(&random);
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (unsigned char)(next_random(&random) >> 20);
        if (step % 2 == 0) {
            copy_to_plane(device, array, &box, bytes);
            for (size_t y = 0; y < box.height; y++)
                memcpy(&plain[box.y + y][box.x], bytes + y * PITCH, box.width);
            continue;
        }
        copy_from_plane(device, array, &box, bytes);
        for (size_t y = 0; y < box.height; y++)
            CHECK(memcmp(&plain[box.y + y][box.x], bytes + y * PITCH, box.width) == 0);
    }
}

static void test_random_boxes_of_device_memory(void)
{
    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc((size_t)ROWS * PITCH);
    check_plane(address, NULL);
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_random_boxes_of_an_array(void)
{
    const CUDA_ARRAY_DESCRIPTOR descriptor = { PITCH, ROWS, CU_AD_FORMAT_UNSIGNED_INT8, 1 };
    CUarray array = NULL;

    (void)emulated_context();
    CHECK_CU(CU(cuArrayCreate_v2)(&array, &descriptor));
    check_plane(0, array);
    CHECK_CU(CU(cuArrayDestroy)(array));
    CHECK_CU_IS(CU(cuArrayDestroy)(array), CUDA_ERROR_INVALID_HANDLE);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_random_boxes_over_two_mappings(void)
{
    CUmemGenericAllocationHandle handles[2];
    CUdeviceptr address = 0;

    (void)emulated_context();
    CHECK_CU(CU(cuMemAddressReserve)(&address, 2 * PAGE, 0, 0, 0));
    for (uint64_t i = 0; i < 2; i++) { /* the later addresses get the earlier memory */
        CHECK_CU(CU(cuMemCreate)(&handles[i], PAGE, &on_card, 0));
        CHECK_CU(CU(cuMemMap)(address + (1 - i) * PAGE, PAGE, 0, handles[i], 0));
        CHECK_CU(CU(cuMemRelease)(handles[i]));
    }
    CHECK_CU(CU(cuMemSetAccess)(address, 2 * PAGE, &read_write, 1));
    check_plane(address + PAGE - 20 * PITCH - 77, NULL);
    CHECK_CU(CU(cuMemUnmap)(address, 2 * PAGE));
    CHECK_CU(CU(cuMemAddressFree)(address, 2 * PAGE));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void fill_columns(CUdeviceptr address, size_t x, size_t width, CUstream stream)
{
    CHECK_CU(CU(cuMemsetD2D8Async)(address + x, PITCH, 0x55, width, ROWS, stream));
}

static void test_columns_race_only_where_they_meet(void)
{
    CUstream first = NULL, second = NULL;
    unsigned char byte = 0;

    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc((size_t)ROWS * PITCH);
    CHECK_CU(CU(cuStreamCreate)(&first, CU_STREAM_NON_BLOCKING));
    CHECK_CU(CU(cuStreamCreate)(&second, CU_STREAM_NON_BLOCKING));
    CHECK_CU(CU(cuMemsetD8_v2)(address, 0, (size_t)ROWS * PITCH));
    CHECK_CU(CU(cuCtxSynchronize)());
    fill_columns(address, 0, 100, first);
    fill_columns(address, 100, 100, second);
    CHECK_EQ_U64(emulated_stats().async_faults, 0);
    fill_columns(address, 199, 10, first);
    CHECK_EQ_U64(emulated_stats().async_faults, 1);
    CHECK_CU(CU(cuCtxSynchronize)());
    CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, address + (ROWS - 1) * PITCH + 208, 1));
    CHECK(byte == 0x55);
    CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, address + (ROWS - 1) * PITCH + 209, 1));
    CHECK(byte == 0);
    CHECK_CU(CU(cuStreamDestroy_v2)(first));
    CHECK_CU(CU(cuStreamDestroy_v2)(second));
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_a_context_takes_its_arrays_along(void)
{
    const CUDA_ARRAY3D_DESCRIPTOR descriptor = {
        .Width = 2048, .Height = 2048, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1
    };
    CUDA_ARRAY3D_DESCRIPTOR got;
    CUmipmappedArray mipmap = NULL;
    CUarray array = NULL, level = NULL;

    (void)emulated_context();
    CHECK_CU(CU(cuArray3DCreate_v2)(&array, &descriptor));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES + (16 << 20));
    CHECK_CU(CU(cuMipmappedArrayCreate)(&mipmap, &descriptor, 12));
    CHECK(emulated_stats().used_bytes >= EMULATED_CONTEXT_BYTES + (37 << 20));
    CHECK_CU(CU(cuMipmappedArrayGetLevel)(&level, mipmap, 3));
    CHECK_CU_IS(CU(cuArrayDestroy)(level), CUDA_ERROR_INVALID_HANDLE);
    CHECK_CU(CU(cuDevicePrimaryCtxReset_v2)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, 0);
    CHECK_CU_IS(CU(cuArray3DGetDescriptor_v2)(&got, array), CUDA_ERROR_INVALID_HANDLE);
    CHECK_CU_IS(CU(cuArray3DGetDescriptor_v2)(&got, level), CUDA_ERROR_INVALID_HANDLE);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(test_random_boxes_of_device_memory),    TEST(test_random_boxes_of_an_array),
        TEST(test_random_boxes_over_two_mappings),   TEST(test_columns_race_only_where_they_meet),
        TEST(test_a_context_takes_its_arrays_along),
    };

    (void)argc;
    emulated_become(argv, (const char *const[]){ EMULATED_CARD, NULL });
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
