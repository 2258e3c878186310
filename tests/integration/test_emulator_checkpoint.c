/* SPDX-License-Identifier: Apache-2.0 */

/* Checkpoints of other processes and of this one: states, arguments, bytes, books, and controllers
 * and targets that end or stop. */

#include <sys/prctl.h>
#include <time.h>

#include "cuda/array.h"
#include "cuda/pool.h"
#include "emulated_checkpoint.h"

/* ---- parts that run as processes of their own ---- */

/* Has work that goes on until its input says a byte. */
static void wait_for_byte(void *data)
{
    (void)data;
    CHECK(write(1, "w", 1) == 1);
    CHECK(read(0, data, 1) == 1);
}

static void part_worker(void)
{
    char byte = '\0';

    (void)emulated_context();
    CHECK_CU(CU(cuLaunchHostFunc)(NULL, wait_for_byte, &byte));
    CHECK(write(1, "r", 1) == 1);
    for (;;)
        (void)pause();
}

/* Restores the process whose pid it is told. */
static void part_controller(void)
{
    int pid = 0;

    CHECK_CU(CU(cuInit)(0));
    CHECK(read(0, &pid, sizeof(pid)) == (ssize_t)sizeof(pid));
    CHECK(write(1, "r", 1) == 1);
    CHECK_CU(CU(cuCheckpointProcessRestore)(pid, NULL));
    CHECK(write(1, "d", 1) == 1);
    exit(0);
}

static void part_state(void)
{
    int pid = 0;
    CUprocessState state = (CUprocessState)99;

    CHECK_CU(CU(cuInit)(0));
    CHECK(read(0, &pid, sizeof(pid)) == (ssize_t)sizeof(pid));
    CHECK(write(1, "r", 1) == 1);
    CHECK_CU(state_of(pid, &state));
    const char said = (char)('0' + (int)state);
    CHECK(write(1, &said, 1) == 1);
    exit(0);
}

#define LINEAR_COUNT 3

/* Device addresses of memory of every kind: a pool's, mapped, of an array (by its copies), small.
 */
static void take_every_kind(CUdeviceptr addresses[LINEAR_COUNT], CUarray *ret_array)
{
    static const CUmemAllocationProp properties = {
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
    };
    static const CUmemAccessDesc access = { { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
                                            CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
    static const CUDA_ARRAY_DESCRIPTOR descriptor = { .Width = 1024,
                                                      .Format = CU_AD_FORMAT_UNSIGNED_INT8,
                                                      .NumChannels = 1 };
    CUmemGenericAllocationHandle handle = 0;

    CHECK_CU(CU(cuMemAllocAsync)(&addresses[0], 3 * MIB, NULL));
    CHECK_CU(CU(cuMemCreate)(&handle, 4 * MIB, &properties, 0));
    CHECK_CU(CU(cuMemAddressReserve)(&addresses[1], 4 * MIB, 0, 0, 0));
    CHECK_CU(CU(cuMemMap)(addresses[1], 4 * MIB, 0, handle, 0));
    CHECK_CU(CU(cuMemSetAccess)(addresses[1], 4 * MIB, &access, 1));
    CHECK_CU(CU(cuMemRelease)(handle)); /* the mapping keeps it */
    addresses[2] = emulated_alloc(700);
    CHECK_CU(CU(cuArrayCreate_v2)(ret_array, &descriptor));
}

/* Fills each kind with its own number, and says at each byte whether all of it is there. */
static void part_kinds(void)
{
    static const size_t sizes[LINEAR_COUNT] = { 3 << 20, 4 << 20, 700 };
    static unsigned char bytes[4 << 20];
    CUdeviceptr addresses[LINEAR_COUNT] = { 0 };
    CUarray array = NULL;
    char command = '\0';

    (void)emulated_context();
    take_every_kind(addresses, &array);
    for (size_t i = 0; i < LINEAR_COUNT; i++)
        CHECK_CU(CU(cuMemsetD8_v2)(addresses[i], (unsigned char)(i + 1), sizes[i]));
    CHECK_CU(CU(cuMemcpyDtoA_v2)(array, 0, addresses[0], 1024));
    CHECK_CU(CU(cuCtxSynchronize)());
    CHECK(write(1, "r", 1) == 1);
    while (read(0, &command, 1) == 1) {
        bool is_right = true;
        for (size_t i = 0; i < LINEAR_COUNT; i++) {
            CHECK_CU(CU(cuMemcpyDtoH_v2)(bytes, addresses[i], sizes[i]));
            is_right = is_right && bytes[0] == i + 1 && bytes[sizes[i] - 1] == i + 1;
        }
        CHECK_CU(CU(cuMemcpyAtoH_v2)(bytes, array, 0, 1024));
        is_right = is_right && bytes[0] == 1 && bytes[1023] == 1;
        CHECK(write(1, is_right ? "k" : "?", 1) == 1);
    }
    exit(0);
}

/* Takes and frees, as it is told. */
static void part_taker(void)
{
    CUdeviceptr addresses[64] = { 0 };
    size_t count = 0;
    char command = '\0';

    (void)emulated_context();
    CHECK(write(1, "r", 1) == 1);
    while (read(0, &command, 1) == 1) {
        if (command == 't')
            addresses[count++] = emulated_alloc(6 * MIB);
        else
            CHECK_CU(CU(cuMemFree_v2)(addresses[--count]));
        CHECK(write(1, "k", 1) == 1);
    }
    exit(0);
}

/* ---- tests ---- */

static void test_a_process_gives_its_memory_back_and_has_it_again(void)
{
    struct emulated_child child = start_target("target");
    const uint64_t held = HELD_BYTES + 2 * MIB + EMULATED_CONTEXT_BYTES;
    const uint64_t free_before = emulated_free_bytes();

    CHECK_EQ_U64(listed_bytes(child.pid), held);
    save(child.pid);
    check_state(child.pid, CU_PROCESS_STATE_CHECKPOINTED);
    CHECK_EQ_U64(emulated_free_bytes(), free_before + held);
    CHECK_EQ_U64(listed_bytes(child.pid), 0);
    CHECK_EQ_U64(counter("image_bytes"), held);
    load(child.pid);
    CHECK_EQ_U64(emulated_free_bytes(), free_before);
    CHECK_EQ_U64(listed_bytes(child.pid), held);
    CHECK_EQ_U64(counter("image_bytes"), 0);
    CHECK(ask(&child, 'c') == 'k');
    for (int i = 0; i < 10; i++) {
        save(child.pid);
        load(child.pid);
    }
    CHECK(ask(&child, 'c') == 'k');
    CHECK(emulated_end(&child, 0) == 0);
    CHECK_EQ_U64(emulated_free_bytes(), free_before + held);
}

static void test_memory_of_every_kind_comes_back(void)
{
    struct emulated_child child = start_target("kinds");
    const unsigned long long before = emulated_stats().used_bytes;

    for (int i = 0; i < 3; i++) {
        CHECK(ask(&child, 'c') == 'k');
        save(child.pid);
        CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES); /* ours */
        load(child.pid);
        CHECK_EQ_U64(emulated_stats().used_bytes, before);
    }
    CHECK(ask(&child, 'c') == 'k');
    CHECK(emulated_end(&child, 0) == 0);
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
}

#define TAKER_COUNT 3

struct taker {
    struct emulated_child child;
    size_t count;
    bool is_away;
};

static void step(struct taker *taker, unsigned what)
{
    if (taker->is_away) {
        load(taker->child.pid);
        taker->is_away = false;
    } else if (what == 0) {
        save(taker->child.pid);
        taker->is_away = true;
    } else if (what == 1 && taker->count > 0) {
        CHECK(ask(&taker->child, 'f') == 'k');
        taker->count--;
    } else if (taker->count < 20) {
        CHECK(ask(&taker->child, 't') == 'k');
        taker->count++;
    }
}

static void test_the_books_are_right_over_random_steps(void)
{
    struct taker takers[TAKER_COUNT] = { 0 };
    uint64_t seed = 88172645463325252U;

    for (size_t i = 0; i < TAKER_COUNT; i++)
        takers[i].child = start_target("taker");
    for (int round = 0; round < 120; round++) {
        uint64_t wanted = EMULATED_CONTEXT_BYTES;
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        step(&takers[seed % TAKER_COUNT], (unsigned)(seed >> 8) % 5);
        for (size_t i = 0; i < TAKER_COUNT; i++)
            wanted += takers[i].is_away ? 0 : EMULATED_CONTEXT_BYTES + takers[i].count * 6 * MIB;
        CHECK_EQ_U64(emulated_stats().used_bytes, wanted);
    }
    for (size_t i = 0; i < TAKER_COUNT; i++) /* one of them away, or not */
        (void)emulated_end(&takers[i].child, SIGKILL);
    while (emulated_stats().used_bytes != EMULATED_CONTEXT_BYTES)
        (void)poll(NULL, 0, 1);
}

static void test_each_call_needs_its_state(void)
{
    struct emulated_child child = start_target("target");
    const int pid = child.pid;

    check_state(pid, CU_PROCESS_STATE_RUNNING);
    CHECK_CU_IS(CU(cuCheckpointProcessCheckpoint)(pid, NULL), CUDA_ERROR_ILLEGAL_STATE);
    CHECK_CU_IS(CU(cuCheckpointProcessRestore)(pid, NULL), CUDA_ERROR_ILLEGAL_STATE);
    CHECK_CU_IS(CU(cuCheckpointProcessUnlock)(pid, NULL), CUDA_ERROR_ILLEGAL_STATE);
    CHECK_CU(lock_for(pid, 0));
    check_state(pid, CU_PROCESS_STATE_LOCKED);
    CHECK_CU_IS(lock_for(pid, 100), CUDA_ERROR_ILLEGAL_STATE);
    CHECK_CU_IS(CU(cuCheckpointProcessRestore)(pid, NULL), CUDA_ERROR_ILLEGAL_STATE);
    CHECK_CU(CU(cuCheckpointProcessCheckpoint)(pid, NULL));
    CHECK_CU_IS(CU(cuCheckpointProcessCheckpoint)(pid, NULL), CUDA_ERROR_ILLEGAL_STATE);
    CHECK_CU_IS(lock_for(pid, 100), CUDA_ERROR_ILLEGAL_STATE);
    CHECK_CU_IS(CU(cuCheckpointProcessUnlock)(pid, NULL), CUDA_ERROR_ILLEGAL_STATE);
    CHECK_CU(CU(cuCheckpointProcessRestore)(pid, NULL));
    check_state(pid, CU_PROCESS_STATE_LOCKED);
    CHECK_CU(CU(cuCheckpointProcessUnlock)(pid, NULL));
    check_state(pid, CU_PROCESS_STATE_RUNNING);
    CHECK(ask(&child, 'c') == 'k');
    CHECK(emulated_end(&child, 0) == 0);
}

static void test_arguments_are_checked(void)
{
    struct emulated_child child = start_target("target");
    struct emulated_child plain = emulated_exec("/bin/cat", NULL);
    CUcheckpointLockArgs lock = { .reserved0 = 1 };
    CUcheckpointCheckpointArgs checkpoint = { .reserved = { [7] = 1 } };
    CUcheckpointRestoreArgs restore = { .reserved = { [3] = 1 } };
    CUcheckpointUnlockArgs unlock = { .reserved = { 1 } };
    CUprocessState state = (CUprocessState)99;
    int tid = 0;

    CHECK_CU_IS(CU(cuCheckpointProcessLock)(child.pid, &lock), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuCheckpointProcessCheckpoint)(child.pid, &checkpoint),
                CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuCheckpointProcessRestore)(child.pid, &restore), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuCheckpointProcessUnlock)(child.pid, &unlock), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuCheckpointProcessGetState)(child.pid, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(state_of(0, &state), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(state_of(-5, &state), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(state_of(0x7ffffff, &state), CUDA_ERROR_OPERATING_SYSTEM); /* there is none */
    CHECK_CU_IS(state_of(plain.pid, &state), CUDA_ERROR_NOT_INITIALIZED);
    CHECK_CU_IS(lock_for(plain.pid, 0), CUDA_ERROR_NOT_INITIALIZED);
    CHECK_CU(CU(cuCheckpointProcessGetRestoreThreadId)(child.pid, &tid));
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)child.pid, tid);
    CHECK(tid != child.pid && access(path, F_OK) == 0);
    CHECK(state == (CUprocessState)99);
    CHECK(emulated_end(&plain, 0) == 0);
    (void)kill(child.pid, SIGKILL); /* and not waited for: a zombie */
    siginfo_t info = { 0 };
    CHECK(waitid(P_PID, (id_t)child.pid, &info, WEXITED | WNOWAIT) == 0);
    while (state_of(child.pid, &state) == CUDA_SUCCESS)
        (void)poll(NULL, 0, 1); /* the emulator hears of it a moment later */
    CHECK_CU_IS(state_of(child.pid, &state), CUDA_ERROR_NOT_INITIALIZED);
    (void)emulated_end(&child, 0);
}

static void test_calls_wait_until_the_process_is_unlocked(void)
{
    struct emulated_child child = start_target("target");

    CHECK_CU(lock_for(child.pid, 0));
    tell(&child, 'a');
    CHECK(is_silent(&child));
    CHECK_CU(CU(cuCheckpointProcessCheckpoint)(child.pid, NULL));
    CHECK(is_silent(&child));
    CHECK_CU(CU(cuCheckpointProcessRestore)(child.pid, NULL));
    CHECK(is_silent(&child));
    CHECK_CU(CU(cuCheckpointProcessUnlock)(child.pid, NULL));
    CHECK(emulated_hear(&child) == 'k');
    CHECK(ask(&child, 'c') == 'k');
    CHECK(emulated_end(&child, 0) == 0);
}

static void test_a_lock_waits_for_work_and_gives_up(void)
{
    struct emulated_child child = start_target("worker");
    struct timespec start = { 0 }, end = { 0 };

    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    CHECK_CU_IS(lock_for(child.pid, 150), CUDA_ERROR_NOT_READY);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK((end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000 >= 149);
    check_state(child.pid, CU_PROCESS_STATE_RUNNING);
    CHECK(emulated_hear(&child) == 'w'); /* its work is under way */
    CHECK_CU_IS(lock_for(child.pid, 50), CUDA_ERROR_NOT_READY);
    tell(&child, 'x');
    CHECK_CU(lock_for(child.pid, 0));
    check_state(child.pid, CU_PROCESS_STATE_LOCKED);
    CHECK_CU(CU(cuCheckpointProcessUnlock)(child.pid, NULL));
    (void)emulated_end(&child, SIGKILL);
}

/* Returns when all its threads have stopped. */
static void stop(pid_t pid)
{
    int status = 0;

    CHECK(kill(pid, SIGSTOP) == 0);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
}

static void send_pid(const struct emulated_child *child, int pid)
{
    CHECK(write(child->in, &pid, sizeof(pid)) == (ssize_t)sizeof(pid));
    CHECK(emulated_hear(child) == 'r');
}

static void test_a_stopped_process_answers_nobody(void)
{
    struct emulated_child child = start_target("target");
    struct emulated_child asker = emulated_spawn("state");

    stop(child.pid);
    send_pid(&asker, child.pid);
    CHECK(is_silent(&asker));
    CHECK(kill(child.pid, SIGCONT) == 0);
    CHECK(emulated_hear(&asker) == '0' + CU_PROCESS_STATE_RUNNING);
    CHECK(emulated_end(&asker, 0) == 0);
    CHECK(ask(&child, 'c') == 'k');
    CHECK(emulated_end(&child, 0) == 0);
}

static void test_a_killed_controller_leaves_its_target_locked(void)
{
    struct emulated_child child = start_target("target");
    struct emulated_child controller = emulated_spawn("controller");
    struct emulated_child asker = emulated_spawn("state");

    save(child.pid);
    stop(child.pid);
    send_pid(&controller, child.pid);
    CHECK(is_silent(&controller));
    send_pid(&asker, child.pid); /* waits for the restore */
    CHECK(is_silent(&asker));
    (void)emulated_end(&controller, SIGKILL);
    CHECK(kill(child.pid, SIGCONT) == 0);
    CHECK(emulated_hear(&asker) == '0' + CU_PROCESS_STATE_LOCKED);
    CHECK(emulated_end(&asker, 0) == 0);
    tell(&child, 'c');
    CHECK(is_silent(&child));
    CHECK_CU(CU(cuCheckpointProcessUnlock)(child.pid, NULL));
    CHECK(emulated_hear(&child) == 'k');
    CHECK(emulated_end(&child, 0) == 0);
}

static void test_a_target_that_dies_fails_the_call(void)
{
    struct emulated_child child = start_target("target");
    struct emulated_child controller = emulated_spawn("controller");
    int status = 0;

    save(child.pid);
    stop(child.pid);
    send_pid(&controller, child.pid);
    CHECK(is_silent(&controller));
    (void)emulated_end(&child, SIGKILL);
    CHECK(waitpid(controller.pid, &status, 0) == controller.pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE); /* it did not succeed */
    (void)close(controller.in);
    (void)close(controller.out);
}

static void test_a_process_can_checkpoint_itself(void)
{
    static unsigned char back[4096];
    const CUdeviceptr address = emulated_alloc(2 * MIB);
    const int pid = (int)getpid();

    CHECK_CU(CU(cuMemsetD8_v2)(address, 0x5a, 2 * MIB));
    save(pid);
    check_state(pid, CU_PROCESS_STATE_CHECKPOINTED);
    CHECK_EQ_U64(emulated_stats().used_bytes, 0);
    load(pid);
    CHECK_CU(CU(cuMemcpyDtoH_v2)(back, address + MIB, sizeof(back)));
    CHECK(back[0] == 0x5a && back[4095] == 0x5a);
    const uint64_t held = listed_bytes(pid), used = emulated_stats().used_bytes;
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_EQ_U64(listed_bytes(pid), held - 2 * MIB);
    CHECK_EQ_U64(emulated_stats().used_bytes, used - 2 * MIB);
}

static void test_pairs_name_every_card(void)
{
    struct emulated_child child = start_target("target");
    CUcheckpointGpuPair pair = pair_of_this_card();
    CUcheckpointRestoreArgs args = { .gpuPairs = &pair, .gpuPairsCount = 1 };

    save(child.pid);
    args.gpuPairs = NULL;
    CHECK_CU_IS(CU(cuCheckpointProcessRestore)(child.pid, &args), CUDA_ERROR_INVALID_VALUE);
    args.gpuPairs = &pair;
    pair.newUuid.bytes[0] = (char)~pair.newUuid.bytes[0];
    CHECK_CU_IS(CU(cuCheckpointProcessRestore)(child.pid, &args), CUDA_ERROR_INVALID_VALUE);
    pair = pair_of_this_card();
    CHECK_CU(CU(cuCheckpointProcessRestore)(child.pid, &args));
    CHECK_CU(CU(cuCheckpointProcessUnlock)(child.pid, NULL));
    CHECK(ask(&child, 'c') == 'k');
    CHECK(emulated_end(&child, 0) == 0);
}

/* Without root a process that is not dumpable is out of reach, as for a debugger. */
static void test_a_process_must_be_the_callers(void)
{
    CUprocessState state = CU_PROCESS_STATE_RUNNING;

    CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
    CHECK_CU_IS(state_of((int)getpid(), &state),
                geteuid() == 0 ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM);
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    CHECK_CU(state_of((int)getpid(), &state));
}

int main(int argc, char **argv)
{
    static const struct checkpoint_part parts[] = {
        { "target", part_target }, { "worker", part_worker },         { "kinds", part_kinds },
        { "taker", part_taker },   { "controller", part_controller }, { "state", part_state },
    };
    static const struct test_case cases[] = {
        TEST(test_a_process_gives_its_memory_back_and_has_it_again),
        TEST(test_memory_of_every_kind_comes_back),
        TEST(test_the_books_are_right_over_random_steps),
        TEST(test_each_call_needs_its_state),
        TEST(test_arguments_are_checked),
        TEST(test_calls_wait_until_the_process_is_unlocked),
        TEST(test_a_lock_waits_for_work_and_gives_up),
        TEST(test_a_stopped_process_answers_nobody),
        TEST(test_a_killed_controller_leaves_its_target_locked),
        TEST(test_a_target_that_dies_fails_the_call),
        TEST(test_a_process_can_checkpoint_itself),
        TEST(test_pairs_name_every_card),
        TEST(test_a_process_must_be_the_callers),
    };

    run_part(argc, argv, parts, sizeof(parts) / sizeof(parts[0]));
    emulated_become(argv, (const char *const[]){ EMULATED_CARD, NULL });
    (void)emulated_context();
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
