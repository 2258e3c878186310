/* SPDX-License-Identifier: Apache-2.0 */

/* Managed memory as the card counts it: what may come, what is there, and what gives way. */

#include <poll.h>

#include "cuda/managed.h"
#include "emulated_cuda.h"

#define MIB  ((uint64_t)1 << 20)
#define ROOM (EMULATED_CARD_BYTES - EMULATED_CONTEXT_BYTES)

static CUdeviceptr alloc(uint64_t bytes)
{
    CUdeviceptr address = 0;

    CHECK_CU(CU(cuMemAllocManaged)(&address, bytes, CU_MEM_ATTACH_GLOBAL));
    return address;
}

/* managed_bytes, or with which 1 how many of them are on the card. */
static unsigned long long managed_stat(int which)
{
    static const char *const names[] = { "\"managed_bytes\": ", "\"managed_resident_bytes\": " };
    char text[4096];
    struct emulated_child asked = emulated_exec(EMULATOR_PATH, "--stats");
    const ssize_t got = read(asked.out, text, sizeof(text) - 1);

    text[got > 0 ? got : 0] = '\0';
    const char *const found = strstr(text, names[which]);
    CHECK(emulated_end(&asked, 0) == 0 && found);
    return strtoull(found + strlen(names[which]), NULL, 10);
}

static unsigned char *host(CUdeviceptr address)
{
    return (unsigned char *)(uintptr_t)address; /* NOLINT: it is both */
}

/* ---- parts that run as processes of their own ---- */

/* Holds 500 MiB of managed memory on the card. */
static void part_hold(void)
{
    (void)emulated_context();
    const CUdeviceptr address = alloc(500 * MIB);
    host(address)[123] = 0x12;
    CHECK_CU(CU(cuMemPrefetchAsync)(address, 500 * MIB, 0, NULL));
    emulated_say_and_wait('h');
    CHECK(host(address)[123] == 0x12);
    exit(0);
}

/* ---- tests ---- */

static void test_memory_counts_once_a_card_touches_it(void)
{
    (void)emulated_context();
    const CUdeviceptr address = alloc(100 * MIB);
    CHECK_EQ_U64(managed_stat(0), 100 * MIB);
    host(address)[50 * MIB] = 0x21;
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuMemsetD8_v2)(address + 1, 0x33, MIB)); /* a page of the card */
    CHECK(host(address)[MIB] == 0x33);
    CHECK_EQ_U64(managed_stat(1), 2 * MIB);
    CHECK_CU(CU(cuMemcpyDtoD_v2)(address + 3 * MIB, address + 50 * MIB, 1));
    CHECK(host(address)[3 * MIB] == 0x21);
    CHECK_EQ_U64(managed_stat(1), 6 * MIB);
    CHECK_CU(CU(cuMemPrefetchAsync)(address, 100 * MIB, 0, NULL));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES + 100 * MIB);
    CHECK_CU(CU(cuMemPrefetchAsync)(address, 50 * MIB, CU_DEVICE_CPU, NULL));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES + 50 * MIB);
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_EQ_U64(managed_stat(0) + managed_stat(1), 0);
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_what_prefers_the_host_stays_there(void)
{
    (void)emulated_context();
    const CUdeviceptr address = alloc(4 * MIB);
    CHECK_CU(
        CU(cuMemAdvise)(address, 4 * MIB, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CU_DEVICE_CPU));
    CHECK_CU(CU(cuMemsetD8_v2)(address, 0x33, 4 * MIB));
    CHECK_EQ_U64(managed_stat(1), 0);
    CHECK_CU(CU(cuMemPrefetchAsync)(address, 4 * MIB, 0, NULL)); /* but for this */
    CHECK_EQ_U64(managed_stat(1), 4 * MIB);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0)); /* with the memory */
    CHECK_EQ_U64(managed_stat(0) + managed_stat(1), 0);
    CHECK_EQ_U64(emulated_stats().used_bytes, 0);
}

static void test_managed_memory_gives_way(void)
{
    (void)emulated_context();
    const CUdeviceptr managed = alloc(2 * EMULATED_CARD_BYTES);
    CHECK_CU(CU(cuMemPrefetchAsync)(managed, 2 * EMULATED_CARD_BYTES, 0, NULL));
    CHECK_EQ_U64(emulated_free_bytes(), 0);
    CHECK_EQ_U64(managed_stat(1), ROOM);
    const CUdeviceptr address = emulated_alloc(600 * MIB);
    CHECK_EQ_U64(managed_stat(1), ROOM - 600 * MIB);
    host(managed)[EMULATED_CARD_BYTES] = 0x44; /* it is all there still */
    CHECK(host(managed)[2 * EMULATED_CARD_BYTES - 1] == 0);
    CHECK_CU(CU(cuMemFree_v2)(managed));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES + 600 * MIB);
    CHECK_EQ_U64(emulated_stats().oom_count, 0);
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_other_processes_managed_memory_gives_way_too(void)
{
    CUdeviceptr address = 0;

    (void)emulated_context();
    struct emulated_child holder = emulated_spawn("hold");
    CHECK(emulated_hear(&holder) == 'h');
    CHECK_EQ_U64(emulated_stats().used_bytes, 2 * EMULATED_CONTEXT_BYTES + 500 * MIB);
    CHECK_CU(CU(cuMemAlloc_v2)(&address, 800 * MIB));
    CHECK_EQ_U64(managed_stat(1), ROOM - EMULATED_CONTEXT_BYTES - 800 * MIB);
    CHECK_CU_IS(CU(cuMemAlloc_v2)(&address, 800 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(emulated_end(&holder, 0) == 0);
    while (emulated_stats().used_bytes != EMULATED_CONTEXT_BYTES + 800 * MIB)
        (void)poll(NULL, 0, 1);
    CHECK_EQ_U64(managed_stat(0), 0);
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

/* Host pages with their last prefetch, as a plain array beside the driver. */
#define PAGES     256
#define HOST_PAGE UINT64_C(4096)

static void check_told(CUdeviceptr address, const int wanted[PAGES], int first, int count)
{
    int told = 7, same = wanted[first];

    for (int i = 0; i < count; i++)
        same = wanted[first + i] == same ? same : CU_DEVICE_INVALID;
    CHECK_CU(CU(cuMemRangeGetAttribute)(
        &told, sizeof(told), CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION,
        address + (uint64_t)first * HOST_PAGE, (uint64_t)count * HOST_PAGE - 1));
    CHECK(told == same);
}

static void test_random_prefetches_are_told_as_they_were(void)
{
    int wanted[PAGES];
    uint64_t random = 88172645463325252U;

    (void)emulated_context();
    const CUdeviceptr address = alloc(PAGES * HOST_PAGE);
    for (int i = 0; i < PAGES; i++)
        wanted[i] = CU_DEVICE_INVALID;
    for (int step = 0; step < 2000; step++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        const int first = (int)(random % PAGES);
        const int count = 1 + (int)((random >> 16) % (uint64_t)(PAGES - first));
        const int to = (random >> 40) % 2 == 0 ? 0 : CU_DEVICE_CPU;
        check_told(address, wanted, first, count);
        if (step % 4 != 0)
            continue;
        CHECK_CU(CU(cuMemPrefetchAsync)(address + (uint64_t)first * HOST_PAGE,
                                        (uint64_t)count * HOST_PAGE - 1, to, NULL));
        for (int i = 0; i < count; i++)
            wanted[first + i] = to;
    }
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(test_memory_counts_once_a_card_touches_it),
        TEST(test_what_prefers_the_host_stays_there),
        TEST(test_managed_memory_gives_way),
        TEST(test_other_processes_managed_memory_gives_way_too),
        TEST(test_random_prefetches_are_told_as_they_were),
    };

    if (argc == 2 && strcmp(argv[1], "hold") == 0)
        part_hold();
    emulated_become(argv, (const char *const[]){ EMULATED_CARD, NULL });
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
