/* SPDX-License-Identifier: Apache-2.0 */

/* What goes wrong on demand: failing calls, hangs, lost gpus, foreign processes, slow copies. */

#include <poll.h>
#include <time.h>

#include "cuda/nvml.h"
#include "cuda/vmm.h"
#include "emulated_cuda.h"

#define MIB ((uint64_t)1 << 20)

static int order(const char *text)
{
    int status = -1;

    (void)fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)execl(EMULATOR_PATH, EMULATOR_PATH, "--control", text, (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static CUresult create(void)
{
    static const CUmemAllocationProp properties = {
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
    };
    CUmemGenericAllocationHandle handle = 0;
    const CUresult status = CU(cuMemCreate)(&handle, 2 * MIB, &properties, 0);

    if (status == CUDA_SUCCESS)
        CHECK_CU(CU(cuMemRelease)(handle));
    /* cppcheck-suppress returnDanglingLifetime ; it is a number */
    return status;
}

static nvmlReturn_t ask_nvml(void)
{
    void *const library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    nvmlDevice_t device = NULL;
    nvmlMemory_t memory = { 0 };

    CHECK(library);
    const __typeof__(&nvmlInit_v2) init = (__typeof__(init))dlsym(library, "nvmlInit_v2");
    const __typeof__(&nvmlDeviceGetHandleByIndex_v2) get =
        (__typeof__(get))dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
    const __typeof__(&nvmlDeviceGetMemoryInfo) ask =
        (__typeof__(ask))dlsym(library, "nvmlDeviceGetMemoryInfo");
    CHECK(init() == NVML_SUCCESS);
    const nvmlReturn_t status = get(0, &device);
    return status == NVML_SUCCESS ? ask(device, &memory) : status;
}

/* ---- parts that run as processes of their own ---- */

static void part_alloc_twice(void)
{
    (void)emulated_context();
    (void)emulated_alloc(MIB);
    (void)emulated_alloc(MIB);
    exit(0);
}

static void part_ask_nvml(void)
{
    CHECK(write(1, "b", 1) == 1);
    CHECK(ask_nvml() == NVML_SUCCESS);
    CHECK(write(1, "a", 1) == 1);
    exit(0);
}

/* Runs in an emulator of its own: 1 GB/s to the card, 100 on it. */
static void part_copy(void)
{
    static unsigned char bytes[64 << 20];
    struct timespec start = { 0 }, middle = { 0 }, end = { 0 };

    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc(2 * sizeof(bytes));
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    CHECK_CU(CU(cuMemcpyHtoD_v2)(address, bytes, sizeof(bytes)));
    (void)clock_gettime(CLOCK_MONOTONIC, &middle);
    CHECK_CU(CU(cuMemsetD8_v2)(address, 0, sizeof(bytes)));
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    const long copy_us =
        (middle.tv_sec - start.tv_sec) * 1000000 + (middle.tv_nsec - start.tv_nsec) / 1000;
    const long fill_us =
        (end.tv_sec - middle.tv_sec) * 1000000 + (end.tv_nsec - middle.tv_nsec) / 1000;
    CHECK(copy_us >= 67108); /* 64 MiB at 1 GB/s */
    CHECK(fill_us >= 671 && fill_us < copy_us);
    exit(0);
}

static long copy_us(CUdeviceptr address)
{
    static unsigned char bytes[64 << 20];
    struct timespec start = { 0 }, end = { 0 };

    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    CHECK_CU(CU(cuMemcpyHtoD_v2)(address, bytes, sizeof(bytes)));
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    return (end.tv_sec - start.tv_sec) * 1000000 + (end.tv_nsec - start.tv_nsec) / 1000;
}

/* The same, but the card's speed is obeyed only while it is ordered. On a busy machine some copy is
 * still faster than that. */
static void part_switch(void)
{
    bool is_fast = false;

    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc(64 << 20);
    CHECK(order("bandwidth profile") == 0);
    CHECK(copy_us(address) >= 67108);
    CHECK(order("bandwidth 0 2 50") == 0);
    CHECK(copy_us(address) >= 33554);
    CHECK(order("bandwidth off") == 0);
    for (int i = 0; i < 200 && !is_fast; i++)
        is_fast = copy_us(address) < 67108;
    CHECK(is_fast);
    exit(0);
}

/* Runs in an emulator of its own: what ends late here comes back for nobody else. */
static void part_lag(void)
{
    const unsigned long long own = EMULATED_CONTEXT_BYTES, child = EMULATED_CONTEXT_BYTES + 2 * MIB;

    (void)emulated_context();
    CHECK(order("free-lag 1h") == 0);
    struct emulated_child first = emulated_spawn("alloc-twice");
    CHECK(emulated_end(&first, 0) == 0);
    CHECK_EQ_U64(emulated_stats().used_bytes, own + child);
    CHECK(order("free-lag 10ms") == 0);
    struct emulated_child second = emulated_spawn("alloc-twice");
    CHECK(emulated_end(&second, 0) == 0);
    while (emulated_stats().used_bytes != own + child) /* the first one's is still to come */
        (void)poll(NULL, 0, 1);
    exit(0);
}

/* Runs in an emulator of its own, which has orders from the command line. */
static void part_ordered(void)
{
    (void)emulated_context();
    CHECK_CU(create());
    CHECK_CU_IS(create(), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_CU(create());
    while (emulated_stats().used_bytes != EMULATED_CONTEXT_BYTES + 200 * MIB) /* --at 50: hog */
        (void)poll(NULL, 0, 1);
    exit(0);
}

static int run_nested(const char *const options[2], const char *part)
{
    char self[4096] = "";
    int status = -1;

    CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    (void)fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)execl(EMULATOR_PATH, EMULATOR_PATH, EMULATED_CARD, options[0], options[1], "--", self,
                    part, (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

/* ---- tests ---- */

static void test_the_nth_call_fails_once(void)
{
    (void)emulated_context();
    CHECK(order("fail cuMemCreate 2 2") == 0);
    CHECK_CU(create());
    CHECK_CU_IS(create(), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_CU(create());
    CHECK(order("fail cuMemAlloc 1 999") == 0); /* all forms of the name, no longer names */
    CUdeviceptr address = 77;
    CHECK_CU_IS(CU(cuMemAlloc_v2)(&address, MIB), CUDA_ERROR_UNKNOWN);
    CHECK_EQ_U64(address, 77);
    CHECK(order("fail cuMemsetD8Async 1 700") == 0);
    address = emulated_alloc(MIB);
    CHECK_CU(CU(cuMemsetD8_v2)(address, 1, MIB));
    CHECK_CU_IS(CU(cuMemsetD8Async_ptsz)(address, 1, MIB, NULL), CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK_CU(CU(cuMemsetD8Async_ptsz)(address, 1, MIB, NULL));
    CHECK_CU(CU(cuCtxSynchronize)());
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_EQ_U64(emulated_stats().oom_count, 0); /* those are the card's own */
}

static void test_all_calls_fail_until_the_rules_are_cleared(void)
{
    CHECK(order("fail-from cuMemCreate 2 2") == 0);
    CHECK_CU(create());
    for (int i = 0; i < 5; i++)
        CHECK_CU_IS(create(), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(order("clear") == 0);
    CHECK_CU(create());
}

static void test_calls_are_counted_over_all_processes(void)
{
    CUdeviceptr address = 0;

    CHECK(order("fail cuMemAlloc 3 2") == 0);
    struct emulated_child child = emulated_spawn("alloc-twice");
    CHECK(emulated_end(&child, 0) == 0);
    CHECK_CU_IS(CU(cuMemAlloc_v2)(&address, MIB), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(order("clear") == 0);
}

static void test_a_call_hangs_until_the_rules_are_cleared(void)
{
    CHECK(order("hang nvmlDeviceGetMemoryInfo 1") == 0);
    struct emulated_child child = emulated_spawn("ask-nvml");
    struct pollfd heard = { .fd = child.out, .events = POLLIN };
    CHECK(emulated_hear(&child) == 'b');
    CHECK(poll(&heard, 1, 100) == 0);
    CHECK(order("clear") == 0);
    CHECK(emulated_hear(&child) == 'a');
    CHECK(emulated_end(&child, 0) == 0);
}

static void test_a_lost_gpu_is_lost_to_both_libraries(void)
{
    CUdeviceptr address = 0;

    CHECK(ask_nvml() == NVML_SUCCESS);
    CHECK(order("lost 0") == 0);
    CHECK(ask_nvml() == NVML_ERROR_GPU_IS_LOST);
    CHECK_CU_IS(CU(cuMemAlloc_v2)(&address, MIB), CUDA_ERROR_UNKNOWN);
    CHECK(order("found 0") == 0);
    CHECK(ask_nvml() == NVML_SUCCESS);
    CHECK_CU(CU(cuMemFree_v2)(emulated_alloc(MIB)));
}

static void test_hogs_come_and_go(void)
{
    const unsigned long long before = emulated_stats().used_bytes;

    CHECK(order("fail-from cuMemAlloc 1 2") == 0); /* no business of theirs */
    CHECK(order("hog 0 200MiB") == 0);
    CHECK(order("hog 0 64MiB") == 0); /* as much as its context */
    while (emulated_stats().used_bytes != before + 264 * MIB)
        (void)poll(NULL, 0, 1);
    CHECK(order("unhog 0") == 0);
    while (emulated_stats().used_bytes != before)
        (void)poll(NULL, 0, 1);
    CHECK(order("clear") == 0);
}

static void test_a_hog_ends_when_its_time_is_over(void)
{
    const struct emulated_stats before = emulated_stats();

    CHECK(order("hog 0 200MiB 20ms") == 0);
    while (emulated_stats().allocations == before.allocations)
        (void)poll(NULL, 0, 1);
    while (emulated_stats().used_bytes != before.used_bytes)
        (void)poll(NULL, 0, 1);
}

static void test_orders_wait_for_their_time_and_recur(void)
{
    const struct emulated_stats before = emulated_stats();

    CHECK(order("at 10ms hog 0 200MiB 1ms") == 0);
    while (emulated_stats().allocations == before.allocations)
        (void)poll(NULL, 0, 1);
    CHECK(order("every 50ms hog 0 70MiB 1ms") == 0);
    while (emulated_stats().allocations < before.allocations + 4)
        (void)poll(NULL, 0, 1);
    CHECK(order("clear") == 0);
    while (emulated_stats().used_bytes != before.used_bytes)
        (void)poll(NULL, 0, 1);
    CHECK_EQ_U64(emulated_stats().oom_count, before.oom_count);
}

static void test_orders_that_are_none_are_refused(void)
{
    static const char *const wrong[] = { "dance",
                                         "fail",
                                         "fail cuInit",
                                         "fail cuInit 0 2",
                                         "fail cuInit 1 x",
                                         "hang",
                                         "lost 1",
                                         "lost -1",
                                         "hog 0",
                                         "hog 0 much",
                                         "hog 0 2GiB soon",
                                         "bandwidth",
                                         "bandwidth 0 1",
                                         "bandwidth 9 1 1",
                                         "free-lag",
                                         "free-lag x",
                                         "at",
                                         "at 2s",
                                         "at soon clear",
                                         "every 0 clear",
                                         "hazards",
                                         "hazards maybe" };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        CHECK(order(wrong[i]) == 2);
}

static void test_the_command_line_orders_too(void)
{
    const char *const orders[] = { "--at=0:fail cuMemCreate 2 2", "--at=50:hog 0 200MiB" };

    CHECK(run_nested(orders, "ordered") == 0);
}

static void test_copies_take_as_long_as_on_the_card(void)
{
    const char *const options[] = { "--bandwidth=1:100", "--async=late" };

    CHECK(run_nested(options, "copy") == 0);
}

static void test_copies_become_slow_and_fast_again(void)
{
    const char *const options[] = { "--profile-bandwidth=1:100", "--async=late" };

    CHECK(run_nested(options, "switch") == 0);
}

static void test_frees_become_late_and_prompt_again(void)
{
    const char *const options[] = { "--free-lag=0", "--async=late" };

    CHECK(run_nested(options, "lag") == 0);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(test_the_nth_call_fails_once),
        TEST(test_all_calls_fail_until_the_rules_are_cleared),
        TEST(test_calls_are_counted_over_all_processes),
        TEST(test_a_call_hangs_until_the_rules_are_cleared),
        TEST(test_a_lost_gpu_is_lost_to_both_libraries),
        TEST(test_hogs_come_and_go),
        TEST(test_a_hog_ends_when_its_time_is_over),
        TEST(test_orders_wait_for_their_time_and_recur),
        TEST(test_orders_that_are_none_are_refused),
        TEST(test_the_command_line_orders_too),
        TEST(test_copies_take_as_long_as_on_the_card),
        TEST(test_copies_become_slow_and_fast_again),
        TEST(test_frees_become_late_and_prompt_again),
    };
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        { "alloc-twice", part_alloc_twice },
        { "ask-nvml", part_ask_nvml },
        { "copy", part_copy },
        { "lag", part_lag },
        { "ordered", part_ordered },
        { "switch", part_switch },
    };

    for (size_t i = 0; argc == 2 && i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strcmp(argv[1], parts[i].name) == 0)
            parts[i].run();
    }
    emulated_become(argv, (const char *const[]){ EMULATED_CARD, NULL });
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
