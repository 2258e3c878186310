/* SPDX-License-Identifier: Apache-2.0 */

/* Two cards, the host's memory, and what each reaches of the others'. */

#include "cuda/context.h"
#include "cuda/ipc.h"
#include "cuda/vmm.h"
#include "emulated_cuda.h"

#define MIB  ((uint64_t)1 << 20)
#define PAGE (2 * MIB)
#define PASSED_FD                                                                                  \
    100 /* where a child finds the descriptor that it was given; free in any process */

static const CUmemAllocationProp on_host = {
    .type = CU_MEM_ALLOCATION_TYPE_PINNED,
    .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
    .location = { CU_MEM_LOCATION_TYPE_HOST_NUMA, 0 },
};
static const CUmemAccessDesc by_gpu[] = {
    { { CU_MEM_LOCATION_TYPE_DEVICE, 0 }, CU_MEM_ACCESS_FLAGS_PROT_READWRITE },
    { { CU_MEM_LOCATION_TYPE_DEVICE, 1 }, CU_MEM_ACCESS_FLAGS_PROT_READWRITE },
};

static CUmemAccessDesc by_host(CUmemAccess_flags flags)
{
    return (CUmemAccessDesc){ { CU_MEM_LOCATION_TYPE_HOST, 0 }, flags };
}

static CUdeviceptr map(CUmemGenericAllocationHandle handle)
{
    CUdeviceptr address = 0;

    CHECK_CU(CU(cuMemAddressReserve)(&address, PAGE, 0, 0, 0));
    CHECK_CU(CU(cuMemMap)(address, PAGE, 0, handle, 0));
    CHECK_CU(CU(cuMemRelease)(handle));
    return address;
}

static CUdeviceptr create(const CUmemAllocationProp *properties)
{
    CUmemGenericAllocationHandle handle = 0;

    CHECK_CU(CU(cuMemCreate)(&handle, PAGE, properties, 0));
    return map(handle);
}

static void end(CUdeviceptr address)
{
    CHECK_CU(CU(cuMemUnmap)(address, PAGE));
    CHECK_CU(CU(cuMemAddressFree)(address, PAGE));
}

static volatile unsigned char *host(CUdeviceptr address)
{
    return (volatile unsigned char *)(uintptr_t)address; /* NOLINT: it is both */
}

static CUcontext context_on(CUdevice gpu)
{
    CUcontext context = NULL;

    CHECK_CU(CU(cuInit)(0));
    CHECK_CU(CU(cuDevicePrimaryCtxRetain)(&context, gpu));
    CHECK_CU(CU(cuCtxSetCurrent)(context));
    return context;
}

/* ---- parts that run as processes of their own ---- */

/* Reads where it may, then where it may not any more. */
static void part_touch(void)
{
    CUmemAccessDesc access = by_host(CU_MEM_ACCESS_FLAGS_PROT_READ);

    (void)signal(SIGSEGV, SIG_DFL);
    CHECK_CU(CU(cuInit)(0));
    const CUdeviceptr address = create(&on_host);
    CHECK_CU(CU(cuMemSetAccess)(address, PAGE, &access, 1));
    CHECK(host(address)[5] == 0 && write(1, "r", 1) == 1);
    access = by_host(CU_MEM_ACCESS_FLAGS_PROT_NONE);
    CHECK_CU(CU(cuMemSetAccess)(address, PAGE, &access, 1));
    if (host(address)[5] == 0)
        (void)!write(1, "!", 1);
    exit(0);
}

/* Imports, sees 0x31, leaves 0x32. */
static void part_import(void)
{
    CUmemGenericAllocationHandle handle = 0;
    const CUmemAccessDesc access = by_host(CU_MEM_ACCESS_FLAGS_PROT_READWRITE);

    CHECK_CU(CU(cuInit)(0));
    CHECK_CU(CU(cuMemImportFromShareableHandle)(&handle, (void *)PASSED_FD, /* NOLINT */
                                                CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    const CUdeviceptr address = map(handle);
    CHECK_CU(CU(cuMemSetAccess)(address, PAGE, &access, 1));
    CHECK(host(address)[9] == 0x31);
    host(address)[9] = 0x32;
    exit(0);
}

static void part_share(void)
{
    CUipcMemHandle handle;

    (void)context_on(0);
    CHECK_CU(CU(cuIpcGetMemHandle)(&handle, emulated_alloc(PAGE)));
    CHECK(write(1, &handle, sizeof(handle)) == (ssize_t)sizeof(handle));
    emulated_say_and_wait('s');
    exit(0);
}

/* ---- tests ---- */

static void test_a_host_touches_only_what_it_may(void)
{
    struct emulated_child child = emulated_spawn("touch");

    CHECK(emulated_hear(&child) == 'r');
    CHECK(emulated_hear(&child) == '\0');
    const int status = emulated_end(&child, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void test_memory_on_the_host_is_every_cards(void)
{
    unsigned char byte = 0;
    int fd = -1;
    CUmemGenericAllocationHandle handle = 0;

    (void)context_on(0);
    const CUdeviceptr address = create(&on_host);
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuMemSetAccess)(address, PAGE, by_gpu, 2));
    CHECK_CU(CU(cuMemsetD8_v2)(address, 0x31, PAGE));
    (void)context_on(1);
    CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, address + 9, 1));
    CHECK(byte == 0x31);
    CHECK_CU(CU(cuMemRetainAllocationHandle)(&handle, (void *)(uintptr_t)address)); /* NOLINT */
    CHECK_CU(
        CU(cuMemExportToShareableHandle)(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    CHECK_CU(CU(cuMemRelease)(handle));
    CHECK(dup2(fd, PASSED_FD) == PASSED_FD && close(fd) == 0);
    struct emulated_child child = emulated_spawn("import");
    CHECK(close(PASSED_FD) == 0 && emulated_end(&child, 0) == 0);
    CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, address + 9, 1));
    CHECK(byte == 0x32);
    end(address);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(1));
}

static void test_cards_do_not_reach_each_other(void)
{
    const CUmemAllocationProp on_second = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                            .location = { CU_MEM_LOCATION_TYPE_DEVICE, 1 } };
    CUcontext first = context_on(0), second = context_on(1);
    int value = 7;

    CHECK_CU(CU(cuDeviceCanAccessPeer)(&value, 0, 1));
    CHECK(value == 0);
    CHECK_CU(CU(cuDeviceGetP2PAttribute)(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 1));
    CHECK(value == 0);
    CHECK_CU_IS(CU(cuCtxEnablePeerAccess)(first, 0), CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
    CHECK_CU_IS(CU(cuCtxEnablePeerAccess)(second, 0), CUDA_ERROR_INVALID_CONTEXT);
    CHECK_CU_IS(CU(cuCtxDisablePeerAccess)(first), CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
    const CUdeviceptr address = create(&on_second);
    CHECK_CU_IS(CU(cuMemSetAccess)(address, PAGE, by_gpu, 2), CUDA_ERROR_NOT_SUPPORTED);
    CHECK_CU(CU(cuMemSetAccess)(address, PAGE, &by_gpu[1], 1));
    end(address);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(1));
}

static void test_copies_go_from_card_to_card(void)
{
    CUcontext first = context_on(0);
    const CUdeviceptr from = emulated_alloc(PAGE);
    CUcontext second = context_on(1);
    const CUdeviceptr to = emulated_alloc(PAGE);
    unsigned char byte = 0;

    CHECK_CU(CU(cuMemsetD8_v2)(from, 0x71, PAGE));
    CHECK_CU(CU(cuMemcpyPeer)(to, second, from, first, 1000));
    CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, to + 999, 1));
    CHECK(byte == 0x71);
    CHECK_CU(CU(cuMemcpyPeerAsync)(to + MIB, second, from, first, 1000, NULL));
    CHECK_CU(CU(cuCtxSynchronize)());
    CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, to + MIB + 999, 1));
    CHECK(byte == 0x71);
    CHECK_CU_IS(CU(cuMemcpyPeer)(to, NULL, from, first, 1000), CUDA_ERROR_INVALID_CONTEXT);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(1));
}

static void test_memory_is_opened_on_its_own_card(void)
{
    CUipcMemHandle handle;
    CUdeviceptr address = 0;

    (void)context_on(1);
    struct emulated_child exporter = emulated_spawn("share");
    CHECK(read(exporter.out, &handle, sizeof(handle)) == (ssize_t)sizeof(handle));
    CHECK(emulated_hear(&exporter) == 's');
    CHECK_CU_IS(CU(cuIpcOpenMemHandle_v2)(&address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS),
                CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
    (void)context_on(0);
    CHECK_CU(CU(cuIpcOpenMemHandle_v2)(&address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    CHECK_CU(CU(cuIpcCloseMemHandle)(address));
    CHECK(emulated_end(&exporter, 0) == 0);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(1));
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(test_a_host_touches_only_what_it_may),  TEST(test_memory_on_the_host_is_every_cards),
        TEST(test_cards_do_not_reach_each_other),    TEST(test_copies_go_from_card_to_card),
        TEST(test_memory_is_opened_on_its_own_card),
    };

    if (argc == 2 && strcmp(argv[1], "touch") == 0)
        part_touch();
    if (argc == 2 && strcmp(argv[1], "import") == 0)
        part_import();
    if (argc == 2 && strcmp(argv[1], "share") == 0)
        part_share();
    emulated_become(argv, (const char *const[]){ EMULATED_CARD, EMULATED_CARD, NULL });
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
