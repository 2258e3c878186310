/* SPDX-License-Identifier: Apache-2.0 */

/* The emulated card across processes: capacity, contexts, ends of processes, bad company. */

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "emulated_cuda.h"

#define MIB ((uint64_t)1 << 20)

/* ---- parts that run as processes of their own ---- */

static void part_hold(void)
{
    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc(500 * MIB);

    CHECK_CU(CU(cuMemsetD8_v2)(address, 0xa5, 8 * MIB));
    emulated_say_and_wait('h');
}

static void part_touch(void)
{
    (void)signal(SIGSEGV, SIG_DFL);
    (void)emulated_context();
    const volatile char *const bytes = (const char *)(uintptr_t)emulated_alloc(MIB);
    const char byte = bytes[0];
    exit(byte == 0 ? 0 : 1);
}

/* CUDA_VISIBLE_DEVICES is "1" or a UUID: it sees one card. */
static void part_see(void)
{
    CUuuid uuid = { 0 };
    int count = 0;

    CHECK_CU(CU(cuInit)(0));
    CHECK_CU(CU(cuDeviceGetCount)(&count));
    CHECK(count == 1);
    CHECK_CU(CU(cuDeviceGetUuid)(&uuid, 0));
    CHECK(write(1, uuid.bytes, sizeof(uuid.bytes)) == sizeof(uuid.bytes));
    exit(0);
}

/* Runs in an emulator of its own. */
static void part_late(void)
{
    struct timespec start = { 0 }, end = { 0 };
    struct emulated_child holder = emulated_spawn("hold");

    (void)emulated_context();
    CHECK(emulated_hear(&holder) == 'h');
    const uint64_t before = emulated_free_bytes();
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    (void)emulated_end(&holder, SIGKILL);
    while (emulated_free_bytes() == before)
        (void)poll(NULL, 0, 1);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK((end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000 >= 59);
    CHECK_EQ_U64(emulated_free_bytes(), EMULATED_CARD_BYTES - EMULATED_CONTEXT_BYTES);
    exit(0);
}

/* The status of a part that runs in another emulator, inside this one. */
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

/* ---- tests ---- */

static void test_capacity_is_shared_and_a_killed_process_gives_back(void)
{
    struct emulated_child holder = emulated_spawn("hold");
    CUdeviceptr address = 77;

    CHECK(emulated_hear(&holder) == 'h');
    (void)emulated_context();
    const uint64_t left = EMULATED_CARD_BYTES - 2 * EMULATED_CONTEXT_BYTES - 500 * MIB;
    CHECK_EQ_U64(emulated_free_bytes(), left);
    const unsigned long long before = emulated_stats().oom_count;
    CHECK_CU_IS(CU(cuMemAlloc_v2)(&address, left + 1), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQ_U64(address, 77);
    CHECK_EQ_U64(emulated_stats().oom_count, before + 1);

    (void)emulated_end(&holder, SIGKILL);
    CHECK_EQ_U64(emulated_free_bytes(), EMULATED_CARD_BYTES - EMULATED_CONTEXT_BYTES);
    address = emulated_alloc(left + 400 * MIB);
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_what_a_killed_process_wrote_is_not_read_by_the_next(void)
{
    struct emulated_child holder = emulated_spawn("hold");
    static unsigned char bytes[8 << 20];
    CUdeviceptr address = 0;

    CHECK(emulated_hear(&holder) == 'h');
    (void)emulated_end(&holder, SIGKILL);
    (void)emulated_context();
    address = emulated_alloc(900 * MIB);
    for (uint64_t at = 0; at < 900 * MIB; at += sizeof(bytes)) {
        const uint64_t now = 900 * MIB - at < sizeof(bytes) ? 900 * MIB - at : sizeof(bytes);
        CHECK_CU(CU(cuMemcpyDtoH_v2)(bytes, address + at, now));
        for (size_t i = 0; i < now; i += 512)
            CHECK(bytes[i] == 0);
    }
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_a_process_pays_for_its_first_context_once(void)
{
    CUcontext own = NULL, popped = NULL;
    unsigned int flags = 9;
    int is_active = 9;

    CHECK_EQ_U64(emulated_stats().used_bytes, 0);
    CHECK_CU(CU(cuInit)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, 0);
    CUcontext primary = emulated_context();
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK(emulated_context() == primary);
    CHECK_CU(CU(cuCtxCreate_v2)(&own, 0, 0));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    (void)emulated_alloc(10 * MIB); /* in own */
    CHECK_CU(CU(cuCtxDestroy_v2)(own));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_CU_IS(CU(cuCtxPushCurrent_v2)(own), CUDA_ERROR_INVALID_CONTEXT);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
    CHECK_CU(CU(cuDevicePrimaryCtxGetState)(0, &flags, &is_active));
    CHECK(is_active == 1 && flags == 0);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
    CHECK_CU_IS(CU(cuDevicePrimaryCtxRelease_v2)(0), CUDA_ERROR_INVALID_CONTEXT);
    CHECK_CU_IS(CU(cuCtxSynchronize)(), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    CHECK_CU(CU(cuCtxPopCurrent_v2)(&popped));
    CHECK(popped == primary);
    CHECK_CU_IS(CU(cuCtxSynchronize)(), CUDA_ERROR_INVALID_CONTEXT);
    CHECK_EQ_U64(emulated_stats().used_bytes, 0);
}

static void test_a_forked_child_cannot_use_its_parents_driver(void)
{
    CUdeviceptr address = 0;
    int status = -1, count = 0;

    (void)emulated_context();
    (void)fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0)
        _exit(CU(cuMemAlloc_v2)(&address, MIB) == CUDA_ERROR_NOT_INITIALIZED &&
                      CU(cuDeviceGetCount)(&count) == CUDA_ERROR_NOT_INITIALIZED &&
                      CU(cuInit)(0) == CUDA_ERROR_NOT_INITIALIZED
                  ? 0
                  : 1);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    address = emulated_alloc(MIB); /* the child's end took nothing from the parent */
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_a_device_address_faults_on_the_host(void)
{
    struct emulated_child toucher = emulated_spawn("touch");
    const int status = emulated_end(&toucher, 0);

    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void see_one(const char *visible, const CUuuid *wanted)
{
    CUuuid uuid = { 0 };

    CHECK(setenv("CUDA_VISIBLE_DEVICES", visible, 1) == 0);
    struct emulated_child child = emulated_spawn("see");
    CHECK(unsetenv("CUDA_VISIBLE_DEVICES") == 0);
    CHECK(read(child.out, uuid.bytes, sizeof(uuid.bytes)) == sizeof(uuid.bytes));
    CHECK(memcmp(&uuid, wanted, sizeof(uuid)) == 0);
    CHECK(emulated_end(&child, 0) == 0);
}

static void test_visible_devices_are_chosen_by_index_and_uuid(void)
{
    CUuuid first = { 0 }, second = { 0 };
    char text[64] = "GPU-";

    CHECK_CU(CU(cuInit)(0));
    CHECK_CU(CU(cuDeviceGetUuid)(&first, 0));
    CHECK_CU(CU(cuDeviceGetUuid)(&second, 1));
    see_one("1", &second);
    for (int i = 0; i < 16; i++) {
        const char *const dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
        const size_t used = strlen(text);
        (void)snprintf(text + used, sizeof(text) - used, "%s%02x", dash,
                       (unsigned char)first.bytes[i]);
    }
    see_one(text, &first);
    see_one("0,nonsense,1", &first);
}

static void test_emulators_side_by_side_never_meet(void)
{
    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc(600 * MIB);

    /* The other one has a whole card, and its processes' ends are its own affair. */
    CHECK(run_nested("--free-lag=60", "late") == 0);
    CHECK_CU(CU(cuMemFree_v2)(address));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static int connect_raw(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", getenv("BRIM_EMU_SOCKET"));
    CHECK(fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* A packet of any size and content; some begin like real ones, with any number behind. */
static void send_garbage(int fd, uint64_t *seed, int round)
{
    static unsigned char packet[4096];

    for (size_t i = 0; i < sizeof(packet); i += 8) {
        *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
        memcpy(packet + i, seed, 8);
    }
    if (round % 4 == 0) {
        const uint32_t head[2] = { (uint32_t)(*seed % 16), (uint32_t)(*seed >> 8 & 1) };
        memcpy(packet, head, sizeof(head));
    }
    const size_t bytes = round % 3 == 0 ? 24 : (size_t)(*seed % sizeof(packet));
    (void)send(fd, packet, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void test_hostile_clients_do_not_kill_the_server(void)
{
    static const uint64_t hello[3] = { 1, 1, 1 };
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);

    for (int round = 0; round < 400; round++) {
        const int fd = connect_raw();
        if (round % 2 == 0)
            (void)send(fd, hello, sizeof(hello), MSG_NOSIGNAL);
        for (int i = 0; i < 8; i++)
            send_garbage(fd, &seed, round);
        (void)close(fd);
    }
    (void)emulated_context();
    CHECK_EQ_U64(emulated_free_bytes(), EMULATED_CARD_BYTES - EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_a_thousand_connections_find_a_place(void)
{
    static int fds[1000];
    size_t count = 0;

    for (; count < sizeof(fds) / sizeof(fds[0]); count++)
        fds[count] = connect_raw();
    while (count > 0)
        (void)close(fds[--count]);
    (void)emulated_context();
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

int main(int argc, char **argv)
{
    static const char *const options[] = { EMULATED_CARD, EMULATED_CARD, NULL };
    static const struct test_case cases[] = {
        TEST(test_capacity_is_shared_and_a_killed_process_gives_back),
        TEST(test_what_a_killed_process_wrote_is_not_read_by_the_next),
        TEST(test_a_process_pays_for_its_first_context_once),
        TEST(test_a_forked_child_cannot_use_its_parents_driver),
        TEST(test_a_device_address_faults_on_the_host),
        TEST(test_visible_devices_are_chosen_by_index_and_uuid),
        TEST(test_emulators_side_by_side_never_meet),
        TEST(test_hostile_clients_do_not_kill_the_server),
        TEST(test_a_thousand_connections_find_a_place),
    };
    static const struct test_case parts[] = {
        { "hold", part_hold },
        { "touch", part_touch },
        { "see", part_see },
        { "late", part_late },
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
