/* SPDX-License-Identifier: Apache-2.0 */

/* Memory and events that go to another process as plain bytes, and pools that go by descriptor. */

#include <poll.h>

#include "cuda/ipc.h"
#include "emulated_cuda.h"

#define MIB ((uint64_t)1 << 20)
#define PASSED_FD                                                                                  \
    100 /* where a child finds the descriptor that it was given; free in any process */

static CUresult open_memory(const CUipcMemHandle *handle, CUdeviceptr *ret_address)
{
    return CU(cuIpcOpenMemHandle_v2)(ret_address, *handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
}

static void wait_used(uint64_t bytes)
{
    while (emulated_stats().used_bytes != bytes)
        (void)poll(NULL, 0, 1);
}

static void read_all(int fd, void *to, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        const ssize_t got = read(fd, (char *)to + at, bytes - at);
        CHECK(got > 0);
        at += (size_t)got;
    }
}

static void fill(CUdeviceptr address, unsigned char value, size_t bytes)
{
    CHECK_CU(CU(cuMemsetD8_v2)(address, value, bytes));
    CHECK_CU(CU(cuCtxSynchronize)());
}

static unsigned char byte_at(CUdeviceptr address)
{
    unsigned char byte = 0;

    CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, address, 1));
    return byte;
}

/* ---- parts that run as processes of their own ---- */

/* Gets a handle, opens it, sees 0x11, leaves 0x22 and stays; then sees 0x11 still. */
static void part_open(void)
{
    CUipcMemHandle handle;
    CUdeviceptr address = 0, again = 0;

    (void)emulated_context();
    read_all(0, &handle, sizeof(handle));
    CHECK_CU(open_memory(&handle, &address));
    CHECK_CU(open_memory(&handle, &again));
    CHECK_EQ_U64(again, address);
    CHECK(byte_at(address) == 0x11 && byte_at(address + 99) == 0x11);
    fill(address, 0x22, 50);
    CHECK_CU_IS(CU(cuMemFree_v2)(address), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(CU(cuIpcCloseMemHandle)(address)); /* it was opened twice */
    emulated_say_and_wait('o');
    CHECK(byte_at(address + 99) == 0x11);
    CHECK_CU(CU(cuIpcCloseMemHandle)(address));
    CHECK_CU_IS(CU(cuIpcCloseMemHandle)(address), CUDA_ERROR_INVALID_VALUE);
    exit(0);
}

/* Shares 100 MiB of 0x55 and stays. */
static void part_share(void)
{
    CUipcMemHandle handle;

    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc(100 * MIB);
    fill(address, 0x55, 100 * MIB);
    CHECK_CU(CU(cuIpcGetMemHandle)(&handle, address));
    CHECK(write(1, &handle, sizeof(handle)) == (ssize_t)sizeof(handle));
    emulated_say_and_wait('s');
    exit(0);
}

/* Opens an event, waits for it in a stream and by itself, records it, closes it. */
static void part_event(void)
{
    CUipcEventHandle handle;
    CUevent event = NULL;
    float ms = 0;

    (void)emulated_context();
    read_all(0, &handle, sizeof(handle));
    CHECK_CU(CU(cuIpcOpenEventHandle)(&event, handle));
    CHECK_CU(CU(cuStreamWaitEvent)(NULL, event, 0));
    CHECK_CU(CU(cuEventSynchronize)(event));
    CHECK_CU(CU(cuEventQuery)(event));
    CHECK_CU(CU(cuEventRecord)(event, NULL));
    CHECK_CU_IS(CU(cuEventElapsedTime)(&ms, event, event), CUDA_ERROR_INVALID_HANDLE);
    CHECK_CU(CU(cuEventDestroy_v2)(event));
    exit(0);
}

/* Imports a pool and a piece of it, sees 0x33, leaves 0x44, stays, sees 0x44 still. */
static void part_pool(void)
{
    CUmemPoolPtrExportData data;
    CUmemoryPool pool = NULL;
    CUdeviceptr address = 0, own = 0;
    uint64_t used = 0;

    (void)emulated_context();
    CHECK_CU(CU(cuMemPoolImportFromShareableHandle)(&pool, (void *)PASSED_FD, /* NOLINT */
                                                    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    CHECK(close(PASSED_FD) == 0);
    CHECK_CU_IS(CU(cuMemAllocFromPoolAsync)(&own, 512, pool, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuDeviceSetMemPool)(0, pool), CUDA_ERROR_INVALID_VALUE);
    read_all(0, &data, sizeof(data));
    CHECK_CU(CU(cuMemPoolImportPointer)(&address, pool, &data));
    CHECK(byte_at(address) == 0x33 && byte_at(address + 10 * MIB - 1) == 0x33);
    fill(address, 0x44, 10 * MIB);
    CHECK_CU(CU(cuMemPoolGetAttribute)(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
    CHECK_EQ_U64(used, 10 * MIB);
    emulated_say_and_wait('p');
    CHECK(byte_at(address + 5 * MIB) == 0x44);
    CHECK_CU(CU(cuMemFreeAsync)(address, NULL));
    CHECK_CU(CU(cuStreamSynchronize)(NULL));
    CHECK_CU(CU(cuMemPoolGetAttribute)(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
    CHECK_EQ_U64(used, 0);
    CHECK_CU(CU(cuMemPoolDestroy)(pool));
    exit(0);
}

/* ---- tests ---- */

static struct emulated_child spawn_with(const char *part, const void *bytes, size_t count)
{
    const struct emulated_child child = emulated_spawn(part);

    CHECK(write(child.in, bytes, count) == (ssize_t)count);
    return child;
}

static void test_memory_is_seen_and_paid_once(void)
{
    CUipcMemHandle handle;
    unsigned int is_capable = 9;

    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc(100 * MIB);
    fill(address, 0x11, 100 * MIB);
    CHECK_CU(CU(cuPointerGetAttribute)(&is_capable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
                                       address));
    CHECK(is_capable == 1);
    CHECK_CU(CU(cuIpcGetMemHandle)(&handle, address));
    struct emulated_child other = spawn_with("open", &handle, sizeof(handle));
    CHECK(emulated_hear(&other) == 'o');
    CHECK(byte_at(address + 49) == 0x22 && byte_at(address + 50) == 0x11);
    CHECK_EQ_U64(emulated_stats().used_bytes, 2 * EMULATED_CONTEXT_BYTES + 100 * MIB);
    CHECK(emulated_end(&other, 0) == 0);
    wait_used(EMULATED_CONTEXT_BYTES + 100 * MIB);
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_EQ_U64(emulated_stats().async_faults, 0);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_small_allocations_are_shared_with_their_page(void)
{
    CUipcMemHandle handle;

    (void)emulated_context();
    const CUdeviceptr first = emulated_alloc(1000), second = emulated_alloc(1000);
    fill(first, 0x77, 1000);
    fill(second, 0x11, 1000);
    CHECK_CU(CU(cuIpcGetMemHandle)(&handle, second));
    struct emulated_child other = spawn_with("open", &handle, sizeof(handle));
    CHECK(emulated_hear(&other) == 'o');
    CHECK(byte_at(first) == 0x77 && byte_at(second) == 0x22);
    CHECK(emulated_end(&other, 0) == 0);
    CHECK_CU(CU(cuMemFree_v2)(first));
    CHECK_CU(CU(cuMemFree_v2)(second));
    wait_used(EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_memory_outlives_a_killed_exporter(void)
{
    CUipcMemHandle handle;
    CUdeviceptr address = 0;

    (void)emulated_context();
    struct emulated_child exporter = emulated_spawn("share");
    read_all(exporter.out, &handle, sizeof(handle));
    CHECK(emulated_hear(&exporter) == 's');
    CHECK_CU(open_memory(&handle, &address));
    (void)emulated_end(&exporter, SIGKILL);
    wait_used(EMULATED_CONTEXT_BYTES + 100 * MIB);
    CHECK(byte_at(address) == 0x55 && byte_at(address + 100 * MIB - 1) == 0x55);
    CHECK_CU(CU(cuIpcCloseMemHandle)(address));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_CU_IS(open_memory(&handle, &address), CUDA_ERROR_INVALID_HANDLE);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_freeing_what_others_have_open_is_a_fault(void)
{
    CUipcMemHandle handle;
    const unsigned long long faults = emulated_stats().async_faults;

    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc(100 * MIB);
    fill(address, 0x11, 100 * MIB);
    CHECK_CU(CU(cuIpcGetMemHandle)(&handle, address));
    struct emulated_child other = spawn_with("open", &handle, sizeof(handle));
    CHECK(emulated_hear(&other) == 'o');
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_EQ_U64(emulated_stats().async_faults, faults + 1);
    CHECK(emulated_end(&other, 0) == 0); /* it has its bytes still */
    wait_used(EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_a_context_closes_what_it_has_opened(void)
{
    CUipcMemHandle handle;
    CUdeviceptr address = 0;
    CUcontext context = NULL, second = NULL;

    CHECK_CU(CU(cuInit)(0));
    struct emulated_child exporter = emulated_spawn("share");
    read_all(exporter.out, &handle, sizeof(handle));
    CHECK(emulated_hear(&exporter) == 's');
    CHECK_CU(CU(cuCtxCreate_v2)(&second, 0, 0));
    CHECK_CU(CU(cuCtxCreate_v2)(&context, 0, 0));
    CHECK_CU(open_memory(&handle, &address));
    CHECK_CU(CU(cuCtxSetCurrent)(second));
    CHECK_CU_IS(open_memory(&handle, &address), CUDA_ERROR_INVALID_CONTEXT);
    (void)emulated_end(&exporter, SIGKILL);
    wait_used(EMULATED_CONTEXT_BYTES + 100 * MIB);
    CHECK_CU(CU(cuCtxDestroy_v2)(context));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuCtxDestroy_v2)(second));
}

static void test_an_event_is_opened_elsewhere(void)
{
    CUipcEventHandle handle;
    CUevent event = NULL;
    CUstream stream = NULL;
    unsigned char *pinned = NULL;

    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc(MIB);
    CHECK_CU(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING));
    CHECK_CU(CU(cuMemAllocHost_v2)((void **)&pinned, 64));
    CHECK_CU(CU(cuEventCreate)(&event, CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS));
    CHECK_CU(CU(cuIpcGetEventHandle)(&handle, event));
    CHECK_CU(CU(cuMemsetD8Async)(address, 0x66, MIB, stream));
    CHECK_CU(CU(cuMemcpyDtoHAsync_v2)(pinned, address, 64, stream));
    CHECK(pinned[5] == 0);
    CHECK_CU(CU(cuEventRecord)(event, stream));
    CHECK(pinned[5] == 0x66); /* nobody there could do the work that waits here */
    struct emulated_child other = spawn_with("event", &handle, sizeof(handle));
    CHECK(emulated_end(&other, 0) == 0);
    CHECK_CU(CU(cuEventQuery)(event));
    CHECK_CU(CU(cuEventDestroy_v2)(event));
    CHECK_CU(CU(cuStreamDestroy_v2)(stream));
    CHECK_CU(CU(cuMemFreeHost)(pinned));
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static CUmemoryPool make_pool(void)
{
    const CUmemPoolProps properties = {
        .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
        .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
    };
    CUmemoryPool pool = NULL;

    CHECK_CU(CU(cuMemPoolCreate)(&pool, &properties));
    return pool;
}

/* Of a pool whose piece holds 0x33; the importer has imported both. */
static struct emulated_child spawn_pool(CUmemoryPool pool, CUdeviceptr *ret_address)
{
    CUmemPoolPtrExportData data;
    int fd = -1;

    CHECK_CU(CU(cuMemPoolExportToShareableHandle)(&fd, pool,
                                                  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(dup2(fd, PASSED_FD) == PASSED_FD && close(fd) == 0);
    CHECK_CU(CU(cuMemAllocFromPoolAsync)(ret_address, 10 * MIB, pool, NULL));
    fill(*ret_address, 0x33, 10 * MIB);
    CHECK_CU(CU(cuMemPoolExportPointer)(&data, *ret_address));
    const struct emulated_child child = spawn_with("pool", &data, sizeof(data));
    CHECK(close(PASSED_FD) == 0);
    CHECK(emulated_hear(&child) == 'p');
    return child;
}

static void test_a_piece_of_a_pool_goes_to_another_process(void)
{
    CUdeviceptr address = 0;
    uint64_t reserved = 0;

    (void)emulated_context();
    CUmemoryPool pool = make_pool();
    struct emulated_child other = spawn_pool(pool, &address);
    CHECK(byte_at(address + 1) == 0x44);
    CHECK_EQ_U64(emulated_stats().used_bytes, 2 * EMULATED_CONTEXT_BYTES + 32 * MIB);
    CHECK(emulated_end(&other, 0) == 0);
    CHECK_CU(CU(cuMemFreeAsync)(address, NULL));
    CHECK_CU(CU(cuStreamSynchronize)(NULL));
    CHECK_CU(CU(cuMemPoolTrimTo)(pool, 0)); /* what others may map is kept */
    CHECK_CU(CU(cuMemPoolGetAttribute)(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved));
    CHECK_EQ_U64(reserved, 32 * MIB);
    CHECK_CU(CU(cuMemPoolDestroy)(pool));
    wait_used(EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_a_piece_outlives_its_pool(void)
{
    CUdeviceptr address = 0;

    (void)emulated_context();
    CUmemoryPool pool = make_pool();
    struct emulated_child other = spawn_pool(pool, &address);
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU(CU(cuMemPoolDestroy)(pool));
    CHECK_EQ_U64(emulated_stats().used_bytes, 2 * EMULATED_CONTEXT_BYTES + 32 * MIB);
    CHECK(emulated_end(&other, 0) == 0);
    wait_used(EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_what_is_no_handle_is_refused(void)
{
    CUipcMemHandle handle = { { 0 } };
    CUipcEventHandle event_handle = { { 0 } };
    CUmemoryPool pool = NULL;
    CUdeviceptr address = 0;
    CUevent event = NULL;
    int ends[2];

    (void)emulated_context();
    CHECK_CU_IS(open_memory(&handle, &address), CUDA_ERROR_INVALID_VALUE);
    memset(&handle, 0x5a, sizeof(handle));
    CHECK_CU_IS(open_memory(&handle, &address), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuIpcOpenEventHandle)(&event, event_handle), CUDA_ERROR_INVALID_VALUE);
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    CHECK_CU_IS(CU(cuMemPoolImportFromShareableHandle)(
                    &pool, (void *)(uintptr_t)(unsigned)ends[0], /* NOLINT: as the driver has it */
                    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
                CUDA_ERROR_INVALID_VALUE);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(test_memory_is_seen_and_paid_once),
        TEST(test_small_allocations_are_shared_with_their_page),
        TEST(test_memory_outlives_a_killed_exporter),
        TEST(test_freeing_what_others_have_open_is_a_fault),
        TEST(test_a_context_closes_what_it_has_opened),
        TEST(test_an_event_is_opened_elsewhere),
        TEST(test_a_piece_of_a_pool_goes_to_another_process),
        TEST(test_a_piece_outlives_its_pool),
        TEST(test_what_is_no_handle_is_refused),
    };
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = { { "open", part_open },
                  { "share", part_share },
                  { "event", part_event },
                  { "pool", part_pool } };

    for (size_t i = 0; argc == 2 && i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strcmp(argv[1], parts[i].name) == 0)
            parts[i].run();
    }
    emulated_become(argv, (const char *const[]){ EMULATED_CARD, NULL });
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
