/* SPDX-License-Identifier: Apache-2.0 */

/* Streams and events of the emulated driver, with work that is done late, and the faults that it
 * reports. */

#include "emulated_cuda.h"

#define PAGE 4096

static unsigned char *pinned(size_t bytes)
{
    void *memory = NULL;

    CHECK_CU(CU(cuMemAllocHost_v2)(&memory, bytes));
    return memory;
}

static CUstream stream_of(unsigned flags)
{
    CUstream stream = NULL;

    CHECK_CU(CU(cuStreamCreate)(&stream, flags));
    return stream;
}

static CUevent event_of(unsigned flags)
{
    CUevent event = NULL;

    CHECK_CU(CU(cuEventCreate)(&event, flags));
    return event;
}

static void to_host_async(unsigned char *to, CUdeviceptr from, CUstream stream)
{
    CHECK_CU(CU(cuMemcpyDtoHAsync_v2)(to, from, PAGE, stream));
}

static unsigned long long faults(void)
{
    return emulated_stats().async_faults;
}

static void test_a_pinned_copy_is_done_when_its_stream_is_waited_for(void)
{
    (void)emulated_context();
    CUstream stream = stream_of(CU_STREAM_NON_BLOCKING);
    const CUdeviceptr device = emulated_alloc(PAGE);
    unsigned char *const from = pinned(PAGE), *const to = pinned(PAGE);

    memset(from, 1, PAGE);
    CHECK_CU(CU(cuMemcpyHtoDAsync_v2)(device, from, PAGE, stream));
    to_host_async(to, device, stream);
    memset(from, 2, PAGE); /* a mistake that late copies show */
    CHECK(to[0] == 0);
    CHECK_CU(CU(cuStreamSynchronize)(stream));
    CHECK(to[0] == 2 && to[PAGE - 1] == 2);
    CHECK_EQ_U64(faults(), 0);
}

static void test_a_pageable_source_is_read_before_the_call_returns(void)
{
    static unsigned char from[PAGE], to[PAGE];
    CUstream stream = stream_of(CU_STREAM_NON_BLOCKING);
    const CUdeviceptr device = emulated_alloc(PAGE);

    memset(from, 1, sizeof(from));
    CHECK_CU(CU(cuMemcpyHtoDAsync_v2)(device, from, PAGE, stream));
    memset(from, 2, sizeof(from));
    to_host_async(to, device, stream); /* pageable: done when it returns */
    CHECK(to[0] == 1 && to[PAGE - 1] == 1);
}

static void test_blocking_copies_wait_for_blocking_streams_only(void)
{
    unsigned char *const from = pinned(PAGE);
    unsigned char to[PAGE];
    const CUdeviceptr device = emulated_alloc(PAGE), other = emulated_alloc(PAGE);
    const unsigned long long before = faults();

    memset(from, 3, PAGE);
    CHECK_CU(CU(cuMemcpyHtoDAsync_v2)(device, from, PAGE, stream_of(CU_STREAM_DEFAULT)));
    CHECK_CU(CU(cuMemcpyDtoH_v2)(to, device, PAGE));
    CHECK(to[0] == 3);
    CHECK_EQ_U64(faults(), before);

    CUstream apart = stream_of(CU_STREAM_NON_BLOCKING);
    CHECK_CU(CU(cuMemcpyHtoDAsync_v2)(other, from, PAGE, apart));
    CHECK_CU(CU(cuMemcpyDtoH_v2)(to, other, PAGE));
    CHECK(to[0] == 0);
    CHECK_EQ_U64(faults(), before + 1);
    CHECK_CU(CU(cuStreamSynchronize)(apart));
}

static void test_an_event_orders_two_streams(void)
{
    CUstream first = stream_of(CU_STREAM_NON_BLOCKING);
    CUstream second = stream_of(CU_STREAM_NON_BLOCKING);
    CUstream third = stream_of(CU_STREAM_NON_BLOCKING);
    CUevent event = event_of(CU_EVENT_DISABLE_TIMING);
    CUevent again = event_of(CU_EVENT_DISABLE_TIMING);
    const CUdeviceptr device = emulated_alloc(PAGE);
    unsigned char *const from = pinned(PAGE), *const to = pinned(PAGE);
    const unsigned long long before = faults();

    memset(from, 4, PAGE);
    CHECK_CU(CU(cuMemcpyHtoDAsync_v2)(device, from, PAGE, first));
    CHECK_CU(CU(cuEventRecord)(event, first));
    CHECK_CU(CU(cuStreamWaitEvent)(second, event, 0));
    CHECK_CU(CU(cuEventRecord)(again, second));
    CHECK_CU(CU(cuStreamWaitEvent)(third, again, 0)); /* first comes before third, through second */
    to_host_async(to, device, third);
    CHECK_EQ_U64(faults(), before);
    CHECK_CU(CU(cuStreamSynchronize)(third));
    CHECK(to[0] == 4);

    CHECK_CU(CU(cuMemsetD8Async)(device, 5, PAGE, first));
    to_host_async(to, device, second); /* not ordered after it */
    CHECK_EQ_U64(faults(), before + 1);
    CHECK_CU(CU(cuCtxSynchronize)());
}

static void test_freeing_bytes_in_use_is_a_fault_and_the_work_is_done_first(void)
{
    CUstream stream = stream_of(CU_STREAM_NON_BLOCKING);
    const CUdeviceptr device = emulated_alloc(PAGE), kept = emulated_alloc(PAGE);
    unsigned char *const from = pinned(PAGE);
    unsigned char to[PAGE];
    const unsigned long long before = faults();

    memset(from, 6, PAGE);
    CHECK_CU(CU(cuMemcpyHtoDAsync_v2)(device, from, PAGE, stream));
    CHECK_CU(CU(cuMemcpyDtoDAsync_v2)(kept, device, PAGE, stream));
    CHECK_CU(CU(cuMemFree_v2)(device));
    CHECK_EQ_U64(faults(), before + 2);
    CHECK_CU(CU(cuMemcpyDtoH_v2)(to, kept, PAGE));
    CHECK(to[0] == 6);

    CHECK_CU(CU(cuMemcpyHtoDAsync_v2)(kept, from, PAGE, stream));
    CHECK_CU(CU(cuMemFreeHost)(from));
    CHECK_EQ_U64(faults(), before + 3);
    CHECK_CU(CU(cuMemFree_v2)(kept)); /* nothing waits any more */
    CHECK_EQ_U64(faults(), before + 3);
}

static void test_who_polls_makes_progress(void)
{
    CUstream stream = stream_of(CU_STREAM_NON_BLOCKING);
    CUevent start = event_of(0), end = event_of(0);
    const CUdeviceptr device = emulated_alloc(PAGE);
    float ms = -1;
    int rounds = 0;

    CHECK_CU(CU(cuEventQuery)(start)); /* never recorded: complete */
    CHECK_CU(CU(cuEventRecord)(start, stream));
    CHECK_CU(CU(cuMemsetD32Async)(device, 7, PAGE / 4, stream));
    CHECK_CU(CU(cuEventRecord)(end, stream));
    CHECK_CU_IS(CU(cuEventElapsedTime)(&ms, start, end), CUDA_ERROR_NOT_READY);
    CHECK_CU_IS(CU(cuStreamQuery)(stream), CUDA_ERROR_NOT_READY);
    while (CU(cuEventQuery)(end) == CUDA_ERROR_NOT_READY)
        CHECK(++rounds < 10);
    CHECK(rounds == 2);
    CHECK_CU(CU(cuStreamQuery)(stream));
    CHECK_CU(CU(cuEventElapsedTime)(&ms, start, end));
    CHECK(ms >= 0);
}

struct called {
    int count;
    CUresult driver_said;
};

static void call_back(void *data)
{
    struct called *const called = data;
    CUdeviceptr address = 0;

    called->count++;
    called->driver_said = CU(cuMemAlloc_v2)(&address, PAGE);
}

static void test_a_host_function_runs_in_its_turn_without_the_driver(void)
{
    struct called called = { 0, CUDA_SUCCESS };
    CUstream stream = stream_of(0);

    CHECK_CU(CU(cuLaunchHostFunc)(stream, call_back, &called));
    CHECK(called.count == 0);
    CHECK_CU(CU(cuCtxSynchronize)());
    CHECK(called.count == 1 && called.driver_said == CUDA_ERROR_NOT_PERMITTED);
}

static void test_per_thread_forms_use_the_threads_own_stream(void)
{
    const CUdeviceptr device = emulated_alloc(PAGE);
    unsigned char *const from = pinned(PAGE), *const to = pinned(PAGE);

    memset(from, 8, PAGE);
    CHECK_CU(CU(cuMemcpyHtoDAsync_v2_ptsz)(device, from, PAGE, NULL));
    CHECK_CU(CU(cuMemcpyDtoHAsync_v2_ptsz)(to, device, PAGE, CU_STREAM_PER_THREAD));
    CHECK(to[0] == 0);
    CHECK_CU(CU(cuStreamSynchronize_ptsz)(NULL));
    CHECK(to[0] == 8);
    CHECK_CU(CU(cuMemsetD8_v2_ptds)(device, 9, PAGE));
    CHECK_CU(CU(cuMemcpyDtoH_v2_ptds)(to, device, PAGE));
    CHECK(to[0] == 9);
}

static void test_what_was_destroyed_is_no_handle(void)
{
    CUstream stream = stream_of(0);
    CUevent event = event_of(0);

    CHECK_CU(CU(cuStreamDestroy_v2)(stream));
    CHECK_CU(CU(cuEventDestroy_v2)(event));
    (void)stream_of(0); /* takes the place */
    (void)event_of(0);
    CHECK_CU_IS(CU(cuStreamSynchronize)(stream), CUDA_ERROR_INVALID_HANDLE);
    CHECK_CU_IS(CU(cuStreamDestroy_v2)(stream), CUDA_ERROR_INVALID_HANDLE);
    CHECK_CU_IS(CU(cuEventRecord)(event, NULL), CUDA_ERROR_INVALID_HANDLE);
    CHECK_CU_IS(CU(cuStreamSynchronize)((CUstream)(uintptr_t)0xdeadbeef0),
                CUDA_ERROR_INVALID_HANDLE);
    CHECK_CU_IS(CU(cuEventCreate)(NULL, 0), CUDA_ERROR_INVALID_VALUE);
}

/* The same program where nothing is late. */
static void test_eager_work_is_done_at_once(void)
{
    unsigned char *from = NULL, *to = NULL;

    (void)emulated_context();
    CUstream stream = stream_of(CU_STREAM_NON_BLOCKING);
    const CUdeviceptr device = emulated_alloc(PAGE);
    from = pinned(PAGE);
    to = pinned(PAGE);
    memset(from, 1, PAGE);
    CHECK_CU(CU(cuMemcpyHtoDAsync_v2)(device, from, PAGE, stream));
    to_host_async(to, device, stream);
    CHECK(to[0] == 1);
    CHECK_CU(CU(cuStreamQuery)(stream));
    CHECK_CU(CU(cuMemFree_v2)(device));
    CHECK_EQ_U64(faults(), 0);
}

static void run_eager(void)
{
    char self[4096] = "";
    int status = -1;

    CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    (void)fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)execl(EMULATOR_PATH, EMULATOR_PATH, EMULATED_CARD, "--async=eager", "--", self,
                    "eager", (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(int argc, char **argv)
{
    static const char *const options[] = { EMULATED_CARD, "--async=late", NULL };
    static const struct test_case cases[] = {
        TEST(test_a_pinned_copy_is_done_when_its_stream_is_waited_for),
        TEST(test_a_pageable_source_is_read_before_the_call_returns),
        TEST(test_blocking_copies_wait_for_blocking_streams_only),
        TEST(test_an_event_orders_two_streams),
        TEST(test_freeing_bytes_in_use_is_a_fault_and_the_work_is_done_first),
        TEST(test_who_polls_makes_progress),
        TEST(test_a_host_function_runs_in_its_turn_without_the_driver),
        TEST(test_per_thread_forms_use_the_threads_own_stream),
        TEST(test_what_was_destroyed_is_no_handle),
        { "test_eager_work_is_done_at_once", run_eager },
    };

    emulated_become(argv, options);
    if (argc > 1) {
        test_eager_work_is_done_at_once();
        return 0;
    }
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
