/* SPDX-License-Identifier: Apache-2.0 */

/* What real drivers are known to do wrong with checkpoints, and which of them does. */

#include <pthread.h>
#include <time.h>

#include "cuda/managed.h"
#include "cuda/vmm.h"
#include "emulated_checkpoint.h"

/* ---- parts that run as processes of their own ---- */

/* Loads NVML, initialises it and unloads it without shutting it down. */
static void part_careless(void)
{
    (void)emulated_context();
    void *const library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    CHECK(library);
    const __typeof__(&nvmlInit_v2) init = (__typeof__(init))dlsym(library, "nvmlInit_v2");
    CHECK(init() == NVML_SUCCESS);
    CHECK(dlclose(library) == 0);
    emulated_say_and_wait('r');
    exit(0);
}

/* Shares memory with a child of its own, which imports it. */
static void part_sharer(void)
{
    static const CUmemAllocationProp properties = {
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
    };
    CUmemGenericAllocationHandle handle = 0;
    char command = '\0';
    int fd = -1;

    (void)emulated_context();
    CHECK_CU(CU(cuMemCreate)(&handle, 2 * MIB, &properties, 0));
    CHECK_CU(
        CU(cuMemExportToShareableHandle)(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    CHECK(write(1, "r", 1) == 1);
    CHECK(read(0, &command, 1) == 1);
    CHECK(close(fd) == 0);
    CHECK(write(1, "k", 1) == 1);
    while (read(0, &command, 1) == 1) {
        size_t free_bytes = 0, total_bytes = 0;
        const CUresult status = CU(cuMemGetInfo_v2)(&free_bytes, &total_bytes);
        CHECK(write(1, status == CUDA_ERROR_LAUNCH_FAILED ? "l" : "k", 1) == 1);
    }
    exit(0);
}

static void *sleep_for_ever(void *unused)
{
    (void)pthread_setname_np(pthread_self(), "pt_nccl_watchdg"); /* as PyTorch names it */
    CHECK(write(1, "r", 1) == 1);
    for (;;)
        (void)pause();
    return unused;
}

static void part_nccl(void)
{
    pthread_t thread;
    char byte = '\0';

    (void)emulated_context();
    CHECK(pthread_create(&thread, NULL, sleep_for_ever, NULL) == 0);
    while (read(0, &byte, 1) == 1)
        continue;
    _exit(0);
}

/* Has managed memory, and says at each byte what a call answers. */
static void part_managed(void)
{
    CUdeviceptr address = 0;
    char command = '\0';

    (void)emulated_context();
    CHECK_CU(CU(cuMemAllocManaged)(&address, MIB, CU_MEM_ATTACH_GLOBAL));
    CHECK(write(1, "r", 1) == 1);
    while (read(0, &command, 1) == 1) {
        const CUresult status = CU(cuMemsetD8_v2)(address, 1, MIB);
        CHECK(write(1, status == CUDA_ERROR_LAUNCH_FAILED ? "l" : "k", 1) == 1);
    }
    exit(0);
}

/* A checkpoint of it is refused, and leaves it locked; then it can be asked again. */
static struct emulated_child refuse_managed(void)
{
    const struct emulated_child child = start_target("managed");

    CHECK_CU(lock_for(child.pid, 0));
    CHECK_CU_IS(CU(cuCheckpointProcessCheckpoint)(child.pid, NULL), CUDA_ERROR_NOT_SUPPORTED);
    check_state(child.pid, CU_PROCESS_STATE_LOCKED);
    CHECK_CU(CU(cuCheckpointProcessUnlock)(child.pid, NULL));
    check_state(child.pid, CU_PROCESS_STATE_RUNNING);
    return child;
}

/* ---- tests ---- */

static void test_a_synchronisation_is_not_locked_out_and_crashes_without_memory(void)
{
    struct emulated_child child = start_target("target");
    const unsigned long long before = counter("checkpoint_faults");

    CHECK_CU(lock_for(child.pid, 0));
    CHECK(ask(&child, 's') == 'k'); /* at once */
    CHECK_CU(CU(cuCheckpointProcessCheckpoint)(child.pid, NULL));
    CHECK_EQ_U64(counter("checkpoint_faults"), before);
    tell(&child, 's');
    while (counter("checkpoint_faults") == before)
        (void)poll(NULL, 0, 1);
    CHECK(is_silent(&child));
    load(child.pid);
    CHECK(emulated_hear(&child) == 'k');
    CHECK(order("hazards kill") == 0);
    save(child.pid);
    tell(&child, 's');
    int status = 0;
    CHECK(waitpid(child.pid, &status, 0) == child.pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    CHECK(order("hazards report") == 0);
    CHECK_EQ_U64(counter("checkpoint_faults"), before + 2);
    (void)close(child.in);
    (void)close(child.out);
}

/* NVIDIA/cuda-checkpoint issue 44. */
static void test_a_restore_without_room_fails_for_ever_and_keeps_what_there_was(void)
{
    struct emulated_child child = start_target("target");
    const unsigned long long oom_before = emulated_stats().oom_count;
    CUdeviceptr hog = 0;

    save(child.pid);
    const uint64_t free_before = emulated_free_bytes();
    hog = emulated_alloc(free_before - 100 * MIB);
    CHECK_CU_IS(CU(cuCheckpointProcessRestore)(child.pid, NULL), CUDA_ERROR_OUT_OF_MEMORY);
    check_state(child.pid, CU_PROCESS_STATE_CHECKPOINTED);
    CHECK_EQ_U64(emulated_stats().oom_count, oom_before + 1);
    CHECK_EQ_U64(emulated_free_bytes(), 0);   /* kept */
    CHECK_EQ_U64(listed_bytes(child.pid), 0); /* for nobody */
    CHECK_CU(CU(cuMemFree_v2)(hog));
    CHECK_EQ_U64(emulated_free_bytes(), free_before - 100 * MIB);
    for (int i = 0; i < 3; i++)
        CHECK_CU_IS(CU(cuCheckpointProcessRestore)(child.pid, NULL), CUDA_ERROR_OPERATING_SYSTEM);
    CHECK_CU_IS(CU(cuCheckpointProcessUnlock)(child.pid, NULL), CUDA_ERROR_ILLEGAL_STATE);
    check_state(child.pid, CU_PROCESS_STATE_CHECKPOINTED);
    (void)emulated_end(&child, SIGKILL);
    while (emulated_free_bytes() != free_before)
        (void)poll(NULL, 0, 1);
}

static void test_a_thread_is_taken_for_its_process(void)
{
    struct emulated_child child = start_target("target");
    const unsigned long long before = counter("checkpoint_faults");
    int tid = 0;

    CHECK_CU(CU(cuCheckpointProcessGetRestoreThreadId)(child.pid, &tid));
    CHECK_CU(lock_for(tid, 0));
    CHECK_EQ_U64(counter("checkpoint_faults"), before + 1);
    check_state(child.pid, CU_PROCESS_STATE_LOCKED);
    CHECK_CU(CU(cuCheckpointProcessUnlock)(child.pid, NULL));
    CHECK(emulated_end(&child, 0) == 0);
}

/* ---- by driver: each in an emulator of its own ---- */

static int run_nested(const char *option, const char *part)
{
    char self[4096] = "";
    int status = -1;

    CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    (void)fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)execl(EMULATOR_PATH, EMULATOR_PATH, EMULATED_CARD, option, "--", self, part,
                    (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void part_570(void)
{
    struct emulated_child child;
    CUcheckpointGpuPair pair;
    CUcheckpointRestoreArgs args = { .gpuPairs = &pair, .gpuPairsCount = 1 };
    int version = 0;

    (void)emulated_context();
    CHECK_CU(CU(cuDriverGetVersion)(&version));
    CHECK_EQ_U64((uint64_t)version, 12080);
    pair = pair_of_this_card();
    child = start_target("target");
    save(child.pid);
    CHECK_CU_IS(CU(cuCheckpointProcessRestore)(child.pid, &args), CUDA_ERROR_NOT_SUPPORTED);
    load(child.pid);
    CHECK(emulated_end(&child, 0) == 0);
    child = start_target("sharer");
    CHECK_CU(lock_for(child.pid, 0));
    CHECK_CU_IS(CU(cuCheckpointProcessCheckpoint)(child.pid, NULL), CUDA_ERROR_NOT_SUPPORTED);
    check_state(child.pid, CU_PROCESS_STATE_LOCKED);
    CHECK_CU(CU(cuCheckpointProcessUnlock)(child.pid, NULL));
    CHECK(ask(&child, 'x') == 'k'); /* closes the exported descriptor */
    while (lock_for(child.pid, 0) != CUDA_SUCCESS ||
           CU(cuCheckpointProcessCheckpoint)(child.pid, NULL) != CUDA_SUCCESS)
        CHECK_CU(CU(cuCheckpointProcessUnlock)(child.pid, NULL)); /* heard of a moment later */
    load(child.pid);
    CHECK(emulated_end(&child, 0) == 0);
    exit(0);
}

static void part_595(void)
{
    (void)emulated_context();
    struct emulated_child child = start_target("sharer");
    CHECK_CU(lock_for(child.pid, 0));
    CHECK_CU_IS(CU(cuCheckpointProcessCheckpoint)(child.pid, NULL), CUDA_ERROR_OPERATING_SYSTEM);
    CHECK_EQ_U64(counter("checkpoint_faults"), 1);
    check_state(child.pid, CU_PROCESS_STATE_FAILED);
    CHECK(ask(&child, 'x') == 'k');
    CHECK(ask(&child, 'm') == 'l'); /* its context is dead */
    CHECK(emulated_end(&child, 0) == 0);
    child = start_target("target"); /* ends by itself after a restore: nothing happens */
    save(child.pid);
    load(child.pid);
    CHECK(emulated_end(&child, 0) == 0);
    CHECK_EQ_U64(counter("checkpoint_faults"), 1);
    child = start_target("target"); /* is killed after one: the machine would hang */
    save(child.pid);
    load(child.pid);
    CHECK(kill(child.pid, SIGKILL) == 0); /* before its input ends, which ends it in peace */
    (void)emulated_end(&child, 0);
    while (counter("checkpoint_faults") == 1)
        (void)poll(NULL, 0, 1);
    CHECK_EQ_U64(counter("checkpoint_faults"), 2);
    child = start_target("target"); /* is killed while its memory is away: nothing happens */
    save(child.pid);
    load(child.pid);
    save(child.pid);
    CHECK(kill(child.pid, SIGKILL) == 0);
    (void)emulated_end(&child, 0);
    while (counter("image_bytes") > 0)
        (void)poll(NULL, 0, 1);
    CHECK_EQ_U64(counter("checkpoint_faults"), 2);
    exit(0);
}

static void part_595_managed(void)
{
    (void)emulated_context();
    struct emulated_child child = refuse_managed();
    CHECK_EQ_U64(counter("checkpoint_faults"), 1);
    CHECK(ask(&child, 'x') == 'l');
    CHECK(emulated_end(&child, 0) == 0);
    exit(0);
}

static void part_595_nccl(void)
{
    (void)emulated_context();
    struct emulated_child child = start_target("nccl");
    CHECK_CU(lock_for(child.pid, 0));
    CHECK_CU_IS(CU(cuCheckpointProcessCheckpoint)(child.pid, NULL), CUDA_ERROR_OPERATING_SYSTEM);
    CHECK_EQ_U64(counter("checkpoint_faults"), 1);
    check_state(child.pid, CU_PROCESS_STATE_FAILED);
    CHECK(emulated_end(&child, 0) == 0);
    exit(0);
}

/* On 580 it is a process like any other. */
static void test_nccl_is_no_hindrance(void)
{
    struct emulated_child child = start_target("nccl");

    save(child.pid);
    load(child.pid);
    CHECK(emulated_end(&child, 0) == 0);
}

static void part_610(void)
{
    (void)emulated_context();
    struct emulated_child child = start_target("careless");
    CHECK_CU_IS(lock_for(child.pid, 0), CUDA_ERROR_OPERATING_SYSTEM);
    CHECK_EQ_U64(counter("checkpoint_faults"), 1);
    check_state(child.pid, CU_PROCESS_STATE_RUNNING);
    CHECK(emulated_end(&child, 0) == 0);
    exit(0);
}

/* 1 GiB card: 128 MiB and so on are saved at 1165 MB/s after 118 ms. */
static void part_timed(void)
{
    struct timespec start = { 0 }, end = { 0 };

    (void)emulated_context();
    struct emulated_child child = start_target("target");
    CHECK_CU(lock_for(child.pid, 0));
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    CHECK_CU(CU(cuCheckpointProcessCheckpoint)(child.pid, NULL));
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    const uint64_t held = HELD_BYTES + 2 * MIB + EMULATED_CONTEXT_BYTES;
    CHECK((uint64_t)(end.tv_sec - start.tv_sec) * 1000 +
              (uint64_t)((end.tv_nsec - start.tv_nsec) / 1000000) >=
          118 + held / 1165000);
    load(child.pid);
    CHECK(emulated_end(&child, 0) == 0);
    exit(0);
}

static void part_unified(void)
{
    CUprocessState state = CU_PROCESS_STATE_RUNNING;

    (void)emulated_context();
    CHECK_CU_IS(state_of((int)getpid(), &state), CUDA_ERROR_NOT_SUPPORTED);
    exit(0);
}

static void test_managed_memory_is_refused(void)
{
    const unsigned long long before = counter("checkpoint_faults");
    struct emulated_child child = refuse_managed();

    CHECK(ask(&child, 'x') == 'k');
    CHECK_EQ_U64(counter("checkpoint_faults"), before);
    CHECK(emulated_end(&child, 0) == 0);
}

static void test_hazards_are_the_drivers(void)
{
    CHECK(run_nested("--driver=570", "570") == 0);
    CHECK(run_nested("--driver=595", "595") == 0);
    CHECK(run_nested("--driver=595", "595-managed") == 0);
    CHECK(run_nested("--driver=595", "595-nccl") == 0);
    CHECK(run_nested("--driver=610", "610") == 0);
    CHECK(run_nested("--checkpoint-time", "timed") == 0);
    CHECK(run_nested("--unified", "unified") == 0);
}

int main(int argc, char **argv)
{
    static const struct checkpoint_part parts[] = {
        { "target", part_target },
        { "careless", part_careless },
        { "sharer", part_sharer },
        { "managed", part_managed },
        { "570", part_570 },
        { "595", part_595 },
        { "595-managed", part_595_managed },
        { "595-nccl", part_595_nccl },
        { "nccl", part_nccl },
        { "610", part_610 },
        { "timed", part_timed },
        { "unified", part_unified },
    };
    static const struct test_case cases[] = {
        TEST(test_a_synchronisation_is_not_locked_out_and_crashes_without_memory),
        TEST(test_a_restore_without_room_fails_for_ever_and_keeps_what_there_was),
        TEST(test_a_thread_is_taken_for_its_process),
        TEST(test_managed_memory_is_refused),
        TEST(test_nccl_is_no_hindrance),
        TEST(test_hazards_are_the_drivers),
    };

    run_part(argc, argv, parts, sizeof(parts) / sizeof(parts[0]));
    emulated_become(argv, (const char *const[]){ EMULATED_CARD, NULL });
    (void)emulated_context();
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
