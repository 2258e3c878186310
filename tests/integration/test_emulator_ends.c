/* SPDX-License-Identifier: Apache-2.0 */

/* Processes that charge themselves on the emulated card and are killed in the middle of it: nothing
 * stays in use, no place is lost, and what is free is there at once. */

#include <poll.h>
#include <time.h>

#include "cuda/vmm.h"
#include "emulated_cuda.h"

#define MIB         ((uint64_t)1 << 20)
#define PAGE        (2 * MIB)
#define ALL         (EMULATED_CARD_BYTES - EMULATED_CONTEXT_BYTES)
#define HOLDER_RUNS 40 /* times most of the card: more than twice the card's file */
#define IDLER_COUNT 60 /* times the card: as much as that */
#define CHURN_COUNT 4
#define CHURN_KILLS 60

static const CUmemAllocationProp exportable = {
    .type = CU_MEM_ALLOCATION_TYPE_PINNED,
    .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
    .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
    return *seed;
}

static uint64_t clock_us(void)
{
    struct timespec now = { 0 };

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- parts that run as processes of their own ---- */

static void part_hold(void)
{
    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc(ALL - EMULATED_CONTEXT_BYTES);

    CHECK_CU(CU(cuMemsetD8_v2)(address + 100 * MIB, 0xa5, 4 * MIB));
    emulated_say_and_wait('h');
}

/* Has had the whole card, without a context, and keeps what it has leased. */
static void part_idle(void)
{
    CUmemGenericAllocationHandle handle = 0;

    CHECK_CU(CU(cuInit)(0));
    CHECK_CU(CU(cuMemCreate)(&handle, EMULATED_CARD_BYTES, &exportable, 0));
    CHECK_CU(CU(cuMemRelease)(handle));
    emulated_say_and_wait('i');
}

/* One random step with one of its places; *held is what lies there, or 0. */
static void churn_step(uint64_t *seed, CUdeviceptr *address, CUmemGenericAllocationHandle *handle)
{
    const uint64_t bytes = PAGE * (1 + next_random(seed) % 60);
    CUresult status = CUDA_SUCCESS;
    int fd = -1;

    if (*address != 0) {
        CHECK_CU(CU(cuMemFree_v2)(*address));
        *address = 0;
    } else if (*handle != 0) {
        CHECK_CU(CU(cuMemRelease)(*handle));
        *handle = 0;
    } else if (next_random(seed) % 4 > 0) {
        status = CU(cuMemAlloc_v2)(address, bytes);
        if (status == CUDA_SUCCESS && next_random(seed) % 64 == 0)
            CHECK_CU(CU(cuMemsetD8_v2)(*address, 0x77, 4096));
    } else {
        status = CU(cuMemCreate)(handle, bytes, &exportable, 0);
        if (status == CUDA_SUCCESS && next_random(seed) % 16 == 0)
            CHECK_CU(CU(cuMemExportToShareableHandle)(&fd, *handle,
                                                      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    }
    CHECK(status == CUDA_SUCCESS || status == CUDA_ERROR_OUT_OF_MEMORY);
    if (fd >= 0 && next_random(seed) % 2 == 0)
        CHECK(close(fd) == 0);
    else if (fd >= 0)
        CHECK(dup2(fd, 9) == 9 && close(fd) == 0); /* the one before ends here */
}

static void part_churn(void)
{
    CUdeviceptr addresses[16] = { 0 };
    CUmemGenericAllocationHandle handles[16] = { 0 };
    uint64_t seed = (uint64_t)getpid() * UINT64_C(0x9e3779b97f4a7c15);
    CUcontext context = NULL;

    CHECK_CU(CU(cuInit)(0));
    while (CU(cuDevicePrimaryCtxRetain)(&context, 0) == CUDA_ERROR_OUT_OF_MEMORY)
        (void)poll(NULL, 0, 1); /* the others have all of the card */
    CHECK_CU(CU(cuCtxSetCurrent)(context));
    CHECK(write(1, "c", 1) == 1);
    for (;;) {
        const size_t at = (size_t)(next_random(&seed) % 16);
        churn_step(&seed, &addresses[at], &handles[at]);
    }
}

/* Another program in the same process, which holds nothing any more. */
static void part_exec(void)
{
    (void)emulated_context();
    (void)emulated_alloc(500 * MIB);
    (void)execl("/proc/self/exe", "test", "stay", (char *)NULL);
    exit(1);
}

static void part_stay(void)
{
    emulated_say_and_wait('s');
    exit(0);
}

/* Closes the driver's descriptors under it. */
static void part_cut_off(void)
{
    CUdeviceptr address = 0;
    size_t bytes = 0;

    (void)emulated_context();
    (void)emulated_alloc(500 * MIB);
    for (int fd = 3; fd < 64; fd++)
        (void)close(fd);
    emulated_say_and_wait('f');
    CHECK_CU_IS(CU(cuMemAlloc_v2)(&address, 8 * MIB), CUDA_ERROR_UNKNOWN);
    CHECK_CU_IS(CU(cuMemGetInfo_v2)(&bytes, &bytes), CUDA_ERROR_UNKNOWN);
    exit(0);
}

/* ---- tests ---- */

static void test_what_a_killed_process_held_is_free_at_once(void)
{
    (void)emulated_context();
    for (int i = 0; i < HOLDER_RUNS; i++) {
        struct emulated_child holder = emulated_spawn("hold");
        CHECK(emulated_hear(&holder) == 'h');
        CHECK_EQ_U64(emulated_free_bytes(), 0);
        (void)emulated_end(&holder, SIGKILL);
        if (i % 2 == 0)
            CHECK_EQ_U64(emulated_free_bytes(), ALL);
        CHECK_CU(CU(cuMemFree_v2)(emulated_alloc(ALL)));
    }
    CHECK_EQ_U64(emulated_stats().oom_count, 0);
    CHECK_EQ_U64(emulated_stats().peak_bytes, EMULATED_CARD_BYTES);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_idle_leases_leave_room_for_everybody(void)
{
    struct emulated_child idlers[IDLER_COUNT];

    for (int i = 0; i < IDLER_COUNT; i++) {
        idlers[i] = emulated_spawn("idle");
        CHECK(emulated_hear(&idlers[i]) == 'i');
    }
    (void)emulated_context();
    CHECK_CU(CU(cuMemFree_v2)(emulated_alloc(ALL)));
    for (int i = 0; i < IDLER_COUNT; i++)
        CHECK(emulated_end(&idlers[i], 0) == 0);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static struct emulated_child start_churn(void)
{
    const struct emulated_child child = emulated_spawn("churn");

    CHECK(emulated_hear(&child) == 'c');
    return child;
}

static void test_random_work_that_is_killed_leaves_nothing(void)
{
    struct emulated_child children[CHURN_COUNT];
    uint64_t seed = 42;

    (void)emulated_context();
    for (int i = 0; i < CHURN_COUNT; i++)
        children[i] = start_churn();
    for (int i = 0; i < CHURN_KILLS; i++) {
        const uint64_t until_us = clock_us() + next_random(&seed) % 4000;
        while (clock_us() < until_us)
            CHECK(emulated_free_bytes() <= ALL);
        struct emulated_child *const child = &children[next_random(&seed) % CHURN_COUNT];
        const int status = emulated_end(child, SIGKILL);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        *child = start_churn();
    }
    for (int i = 0; i < CHURN_COUNT; i++)
        (void)emulated_end(&children[i], SIGKILL);
    CHECK_EQ_U64(emulated_free_bytes(), ALL); /* exported memory too */
    const struct emulated_stats stats = emulated_stats();
    CHECK(stats.peak_bytes <= EMULATED_CARD_BYTES && stats.allocations > 1000);
    printf("# %llu allocations, %llu refused, peak %llu MiB\n", stats.allocations, stats.oom_count,
           (unsigned long long)(stats.peak_bytes / MIB));
    CHECK_CU(CU(cuMemFree_v2)(emulated_alloc(ALL)));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, 0);
}

static void test_another_program_in_the_process_holds_nothing(void)
{
    (void)emulated_context();
    struct emulated_child child = emulated_spawn("exec");

    CHECK(emulated_hear(&child) == 's');
    CHECK_EQ_U64(emulated_free_bytes(), ALL);
    CHECK(emulated_end(&child, 0) == 0);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_who_closes_the_connection_is_out(void)
{
    (void)emulated_context();
    struct emulated_child child = emulated_spawn("cut_off");

    CHECK(emulated_hear(&child) == 'f');
    CHECK_EQ_U64(emulated_free_bytes(), ALL);
    CHECK(emulated_end(&child, 0) == 0);
    CHECK_EQ_U64(emulated_free_bytes(), ALL);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, 0);
}

int main(int argc, char **argv)
{
    static const char *const options[] = { EMULATED_CARD, NULL };
    static const struct test_case cases[] = {
        TEST(test_what_a_killed_process_held_is_free_at_once),
        TEST(test_idle_leases_leave_room_for_everybody),
        TEST(test_random_work_that_is_killed_leaves_nothing),
        TEST(test_another_program_in_the_process_holds_nothing),
        TEST(test_who_closes_the_connection_is_out),
    };
    static const struct test_case parts[] = {
        { "hold", part_hold }, { "idle", part_idle }, { "churn", part_churn },
        { "exec", part_exec }, { "stay", part_stay }, { "cut_off", part_cut_off },
    };
    const char *const part = argc > 1 ? argv[1] : NULL;

    emulated_become(argv, options);
    for (size_t i = 0; part && i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strcmp(parts[i].name, part) == 0) {
            parts[i].run();
            return 0;
        }
    }
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
