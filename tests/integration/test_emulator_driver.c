/* SPDX-License-Identifier: Apache-2.0 */

/* The emulated driver inside one process: bytes, addresses, errors, names, speed. */

#include <pthread.h>
#include <time.h>

#include "emulated_cuda.h"

#define MIB ((uint64_t)1 << 20)

static void fill_random(unsigned char *bytes, size_t count)
{
    uint64_t seed = 88172645463325252U;

    for (size_t i = 0; i < count; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        bytes[i] = (unsigned char)seed;
    }
}

static void test_copies_move_the_very_bytes(void)
{
    static unsigned char from[3 << 20], to[3 << 20];

    (void)emulated_context();
    const CUdeviceptr first = emulated_alloc(8 * MIB), second = emulated_alloc(8 * MIB);
    fill_random(from, sizeof(from));
    CHECK_CU(CU(cuMemcpyHtoD_v2)(first + 12345, from, sizeof(from)));
    CHECK_CU(CU(cuMemcpyDtoD_v2)(second + 77, first + 12345, sizeof(from)));
    CHECK_CU(CU(cuMemcpyDtoH_v2)(to, second + 77, sizeof(to)));
    CHECK(memcmp(from, to, sizeof(from)) == 0);
    CHECK_CU(CU(cuMemcpy)(first + MIB, (CUdeviceptr)(uintptr_t)from, 4096)); /* by the addresses */
    CHECK_CU(CU(cuMemcpy)((CUdeviceptr)(uintptr_t)to, first + MIB, 4096));
    CHECK(memcmp(from, to, 4096) == 0);
    CHECK_CU(CU(cuMemsetD32_v2)(second, 0x11223344, MIB / 4));
    CHECK_CU(CU(cuMemcpyDtoH_v2)(to, second + 4000, 8));
    CHECK(memcmp(to, "\x44\x33\x22\x11\x44\x33\x22\x11", 8) == 0);
    CHECK_CU(CU(cuMemsetD8_v2)(second + 1, 0, MIB));
    CHECK_CU(CU(cuMemcpyDtoH_v2)(to, second, MIB + 2));
    CHECK(to[0] == 0x44 && to[1] == 0 && to[MIB] == 0 && to[MIB + 1] != 0);
    CHECK_CU(CU(cuMemFree_v2)(first));
    CHECK_CU(CU(cuMemFree_v2)(second));
}

static void test_fresh_memory_reads_as_zeros(void)
{
    static unsigned char bytes[4 << 20];
    const CUdeviceptr address = emulated_alloc(4 * MIB);

    memset(bytes, 1, sizeof(bytes));
    CHECK_CU(CU(cuMemsetD8_v2)(address + MIB, 2, 1));
    CHECK_CU(CU(cuMemcpyDtoH_v2)(bytes, address, sizeof(bytes)));
    for (size_t i = 0; i < sizeof(bytes); i++)
        CHECK(bytes[i] == (i == MIB ? 2 : 0));
    CHECK_CU(CU(cuMemFree_v2)(address));
}

static void test_small_allocations_share_a_page_and_large_ones_are_rounded_up(void)
{
    CUdeviceptr small[4096];
    const uint64_t before = emulated_free_bytes();

    for (size_t i = 0; i < 4096; i++) {
        small[i] = emulated_alloc(500);
        CHECK(small[i] % 256 == 0);
    }
    CHECK_EQ_U64(emulated_free_bytes(), before - 2 * MIB);
    for (size_t i = 0; i < 4096; i += 2)
        CHECK_CU(CU(cuMemFree_v2)(small[i]));
    for (size_t i = 0; i < 4096; i += 2)
        small[i] = emulated_alloc(300);
    CHECK_EQ_U64(emulated_free_bytes(), before - 2 * MIB);
    for (size_t i = 0; i < 4096; i++)
        CHECK_CU(CU(cuMemFree_v2)(small[i]));
    CHECK_EQ_U64(emulated_free_bytes(), before);
    const CUdeviceptr large = emulated_alloc(2 * MIB + 1);
    CHECK_EQ_U64(emulated_free_bytes(), before - 4 * MIB);
    CHECK_CU(CU(cuMemFree_v2)(large));
    CHECK_EQ_U64(emulated_free_bytes(), before);
}

/* Holes between living allocations are room for one that is larger than any of them: a gpu pages
 * its memory. */
static void test_the_driver_does_not_fragment(void)
{
    CUdeviceptr blocks[200];
    CUdeviceptr large = 0;
    size_t count = 0;

    while (count < 200 && CU(cuMemAlloc_v2)(&blocks[count], 4 * MIB) == CUDA_SUCCESS)
        count++;
    for (size_t i = 0; i < count; i += 2)
        CHECK_CU(CU(cuMemFree_v2)(blocks[i]));
    large = emulated_alloc(emulated_free_bytes());
    CHECK_EQ_U64(emulated_free_bytes(), 0);
    CHECK_CU(CU(cuMemFree_v2)(large));
    for (size_t i = 1; i < count; i += 2)
        CHECK_CU(CU(cuMemFree_v2)(blocks[i]));
}

static void test_misuse_is_answered_by_the_drivers_codes(void)
{
    unsigned char byte = 0, two[2];
    CUdeviceptr address = emulated_alloc(4 * MIB), other = 0;
    const CUdeviceptr small = emulated_alloc(100);
    CUdevice device = 0;

    CHECK_CU_IS(CU(cuMemAlloc_v2)(&other, 0), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuMemAlloc_v2)(NULL, 1), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuMemAlloc_v2)(&other, SIZE_MAX), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_CU_IS(CU(cuMemFree_v2)(address + 512), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuMemFree_v2)(small + 8), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuMemFree_v2)((CUdeviceptr)(uintptr_t)&byte), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuMemcpyDtoH_v2)(two, address + 4 * MIB - 1, 2), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuMemcpyHtoD_v2)(small + 99, "ab", 2), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuMemsetD32_v2)(address + 2, 1, 1), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuMemsetD32_v2)(address, 1, SIZE_MAX / 2), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuDeviceGet)(&device, 1), CUDA_ERROR_INVALID_DEVICE);
    CHECK_CU_IS(CU(cuInit)(1), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuModuleLoad)(NULL, "x.cubin"), CUDA_ERROR_NOT_SUPPORTED);
    CHECK_CU(CU(cuMemFree_v2)(0));
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU_IS(CU(cuMemFree_v2)(address), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(CU(cuMemFree_v2)(small));
}

static void test_an_address_tells_what_it_is(void)
{
    CUdeviceptr base = 0;
    const CUdeviceptr address = emulated_alloc(5000);
    unsigned int type = 0;
    size_t bytes = 0;
    void *memory = NULL;
    int pageable = 0, ordinal = -1;

    CHECK_CU(CU(cuMemGetAddressRange_v2)(&base, &bytes, address + 4999));
    CHECK(base == address && bytes == 5000);
    CHECK_CU_IS(CU(cuMemGetAddressRange_v2)(&base, &bytes, address + 5000), CUDA_ERROR_NOT_FOUND);
    CHECK_CU(CU(cuPointerGetAttribute)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address + 1));
    CHECK(type == CU_MEMORYTYPE_DEVICE);
    CHECK_CU(CU(cuPointerGetAttribute)(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address));
    CHECK(ordinal == 0);
    CHECK_CU(CU(cuMemHostAlloc)(&memory, 100, 0));
    const CUdeviceptr host = (CUdeviceptr)(uintptr_t)memory;
    CHECK_CU(CU(cuPointerGetAttribute)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, host));
    CHECK(type == CU_MEMORYTYPE_HOST);
    CHECK_CU_IS(CU(cuPointerGetAttribute)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                          (CUdeviceptr)(uintptr_t)&pageable),
                CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuMemHostRegister_v2)(memory, 50, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    CHECK_CU_IS(CU(cuMemHostUnregister)(memory), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    CHECK_CU(CU(cuMemFreeHost)(memory));
    CHECK_CU_IS(CU(cuMemFreeHost)(memory), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(CU(cuMemFree_v2)(address));
}

/* The status of the search; *ret_function as the driver set it, from something that is no function.
 */
static CUdriverProcAddressQueryResult look_up(const char *name, int version, uint64_t flags,
                                              void **ret_function)
{
    static CUdriverProcAddressQueryResult status;

    status = CU_GET_PROC_ADDRESS_SUCCESS;
    *ret_function = &status;
    CHECK_CU(CU(cuGetProcAddress_v2)(name, ret_function, version, flags, &status));
    return status;
}

static void test_names_are_found_by_version_and_flags(void)
{
    void *function = NULL;

    CHECK(look_up("cuMemAlloc", 3020, 0, &function) == CU_GET_PROC_ADDRESS_SUCCESS);
    CHECK(function == emulated_symbol("cuMemAlloc_v2"));
    CHECK(look_up("cuMemAlloc", 2000, 0, &function) == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    CHECK(function == NULL);
    CHECK(look_up("cuDevicePrimaryCtxRelease", 7000, 0, &function) == CU_GET_PROC_ADDRESS_SUCCESS);
    CHECK(function == emulated_symbol("cuDevicePrimaryCtxRelease"));
    CHECK(look_up("cuDevicePrimaryCtxRelease", 13000, 0, &function) == CU_GET_PROC_ADDRESS_SUCCESS);
    CHECK(function == emulated_symbol("cuDevicePrimaryCtxRelease_v2"));
    CHECK(look_up("cuMemcpyAsync", 13000, 2, &function) == CU_GET_PROC_ADDRESS_SUCCESS);
    CHECK(function == emulated_symbol("cuMemcpyAsync_ptsz"));
    CHECK(look_up("cuMemcpyHtoD", 13000, 2, &function) == CU_GET_PROC_ADDRESS_SUCCESS);
    CHECK(function == emulated_symbol("cuMemcpyHtoD_v2_ptds"));
    CHECK(look_up("cuGetProcAddress", 11030, 0, &function) == CU_GET_PROC_ADDRESS_SUCCESS);
    CHECK(function == emulated_symbol("cuGetProcAddress"));
    CHECK(look_up("cuGetProcAddress", 12000, 0, &function) == CU_GET_PROC_ADDRESS_SUCCESS);
    CHECK(function == emulated_symbol("cuGetProcAddress_v2"));
    CHECK(look_up("", 0, 0, &function) == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    CHECK(function == NULL);
    CHECK(look_up("cuMemAlloc_v2", 13000, 0, &function) == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    CHECK_CU_IS(CU(cuGetProcAddress)("cuNothing", &function, 11030, 0), CUDA_ERROR_NOT_FOUND);
    CHECK_CU_IS(CU(cuGetProcAddress)("cuInit", &function, 99000, 0), CUDA_ERROR_INVALID_VALUE);
}

/* One thread's share: allocations of its own with a pattern of its own. */
static void *churn(void *context)
{
    static const size_t sizes[] = { 100, 5000, 700000, 3 << 20 };
    unsigned char *const bytes = malloc(3 << 20);
    uintptr_t broken = bytes == NULL || CU(cuCtxSetCurrent)(context) != CUDA_SUCCESS;

    for (int i = 0; i < 200 && !broken; i++) {
        const size_t size = sizes[i % 4];
        const unsigned char pattern = (unsigned char)((uintptr_t)i + (uintptr_t)&size / 65536);
        CUdeviceptr address = 0;
        broken |= CU(cuMemAlloc_v2)(&address, size) != CUDA_SUCCESS;
        memset(bytes, pattern, size);
        broken |= CU(cuMemcpyHtoD_v2)(address, bytes, size) != CUDA_SUCCESS;
        memset(bytes, 0, size);
        broken |= CU(cuMemcpyDtoH_v2)(bytes, address, size) != CUDA_SUCCESS;
        broken |= bytes[0] != pattern || memcmp(bytes, bytes + 1, size - 1) != 0;
        broken |= CU(cuMemFree_v2)(address) != CUDA_SUCCESS;
    }
    free(bytes);
    return (void *)broken; /* NOLINT(performance-no-int-to-ptr) */
}

static void test_threads_share_the_driver(void)
{
    pthread_t threads[4];
    CUcontext context = emulated_context();
    const uint64_t before = emulated_free_bytes();
    void *broken = NULL;

    for (size_t i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, churn, context) == 0);
    for (size_t i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], &broken) == 0);
        CHECK(broken == NULL);
    }
    CHECK_EQ_U64(emulated_free_bytes(), before);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_errors_have_names_and_texts(void)
{
    const char *text = NULL;

    CHECK_CU(CU(cuGetErrorName)(CUDA_ERROR_OUT_OF_MEMORY, &text));
    CHECK(strcmp(text, "CUDA_ERROR_OUT_OF_MEMORY") == 0);
    CHECK_CU(CU(cuGetErrorString)(CUDA_ERROR_OUT_OF_MEMORY, &text));
    CHECK(strcmp(text, "out of memory") == 0);
    CHECK_CU_IS(CU(cuGetErrorString)((CUresult)12345, &text), CUDA_ERROR_INVALID_VALUE);
    CHECK(text == NULL);
}

static uint64_t now_ns(void)
{
    struct timespec now = { 0 };

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* The best of several rounds: the machine may be busy. Returns ns for one allocation. */
static uint64_t measure(size_t bytes, size_t count)
{
    static CUdeviceptr addresses[1000];
    const __typeof__(&cuMemAlloc_v2) alloc = CU(cuMemAlloc_v2);
    uint64_t best = UINT64_MAX;

    for (int round = 0; round < 10; round++) {
        const uint64_t start = now_ns();
        for (size_t i = 0; i < count; i++)
            CHECK_CU(alloc(&addresses[i], bytes));
        const uint64_t one = (now_ns() - start) / count;
        best = one < best ? one : best;
        for (size_t i = 0; i < count; i++)
            CHECK_CU(CU(cuMemFree_v2)(addresses[i]));
    }
    return best;
}

static void test_an_allocation_takes_two_microseconds_at_most(void)
{
    const uint64_t small_ns = measure(4096, 1000);
    const uint64_t large_ns = measure(4 * MIB, 100);

    printf("# cuMemAlloc: %llu ns small, %llu ns of whole pages\n", (unsigned long long)small_ns,
           (unsigned long long)large_ns);
    CHECK(small_ns <= 2000);
}

int main(int argc, char **argv)
{
    static const char *const options[] = { EMULATED_CARD, NULL };
    static const struct test_case cases[] = {
        TEST(test_copies_move_the_very_bytes),
        TEST(test_fresh_memory_reads_as_zeros),
        TEST(test_small_allocations_share_a_page_and_large_ones_are_rounded_up),
        TEST(test_the_driver_does_not_fragment),
        TEST(test_misuse_is_answered_by_the_drivers_codes),
        TEST(test_an_address_tells_what_it_is),
        TEST(test_names_are_found_by_version_and_flags),
        TEST(test_threads_share_the_driver),
        TEST(test_errors_have_names_and_texts),
        TEST(test_an_allocation_takes_two_microseconds_at_most),
    };

    (void)argc;
    emulated_become(argv, options);
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
