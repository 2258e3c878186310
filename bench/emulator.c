/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What an emulated allocation costs, with nobody else on the card:
 *
 *     brim emulate --gpu rtx4070ti -- build/bench/bench_emulator
 *
 * Pairs of taking and giving back 2 MiB to 64 MiB, never touched. The reference is what a question
 * to a server would cost at least: a bare SEQPACKET round trip with a process that answers at once.
 */

#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cuda/cuda.h"
#include "cuda/vmm.h"
#include "measure.h"

#define MIB         ((uint64_t)1 << 20)
#define SIZE_COUNT  6 /* 2, 4 … 64 MiB */
#define ROUND_COUNT 4000
#define BATCH       8 /* pairs a sample: the clock is not free either */

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_emulator: %s\n", what);
    exit(EXIT_FAILURE);
}

static void *library;

static void *symbol(const char *name)
{
    void *const found = dlsym(library, name);

    if (!found)
        die(name);
    return found;
}

#define CU(name) ((__typeof__(&name))symbol(#name))

static void pair_alloc(uint64_t bytes)
{
    static __typeof__(&cuMemAlloc_v2) take;
    static __typeof__(&cuMemFree_v2) give;
    CUdeviceptr address = 0;

    if (!take) {
        take = CU(cuMemAlloc_v2);
        give = CU(cuMemFree_v2);
    }
    if (take(&address, bytes) != CUDA_SUCCESS || give(address) != CUDA_SUCCESS)
        die("cuMemAlloc or cuMemFree fails");
}

static void pair_create(uint64_t bytes)
{
    static __typeof__(&cuMemCreate) take;
    static __typeof__(&cuMemRelease) give;
    const CUmemAllocationProp properties = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                             .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 } };
    CUmemGenericAllocationHandle handle = 0;

    if (!take) {
        take = CU(cuMemCreate);
        give = CU(cuMemRelease);
    }
    if (take(&handle, bytes, &properties, 0) != CUDA_SUCCESS || give(handle) != CUDA_SUCCESS)
        die("cuMemCreate or cuMemRelease fails");
}

/* bytes is of no account. */
static void ask_free(uint64_t bytes)
{
    static __typeof__(&cuMemGetInfo_v2) ask;
    size_t free_bytes = 0, total_bytes = 0;

    (void)bytes;
    if (!ask)
        ask = CU(cuMemGetInfo_v2);
    if (ask(&free_bytes, &total_bytes) != CUDA_SUCCESS)
        die("cuMemGetInfo fails");
}

static pid_t start_echo(int *ret_fd)
{
    unsigned char packet[64] = { 0 };
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        die("no socketpair");
    const pid_t child = fork();
    if (child != 0) {
        (void)close(ends[1]);
        *ret_fd = ends[0];
        return child;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)close(ends[0]);
    while (recv(ends[1], packet, sizeof(packet), 0) > 0)
        (void)!send(ends[1], packet, sizeof(packet), MSG_NOSIGNAL);
    _exit(0);
}

static void measure(const char *key, void (*pair)(uint64_t bytes), double reference_us)
{
    struct samples samples;

    if (samples_init(&samples, (size_t)SIZE_COUNT * ROUND_COUNT) < 0)
        die("out of memory");
    for (unsigned round = 0; round < ROUND_COUNT; round++) {
        for (unsigned size = 0; size < SIZE_COUNT; size++) {
            const uint64_t start_ns = clock_now_ns();
            for (unsigned i = 0; i < BATCH; i++)
                pair(2 * MIB << size);
            samples_add(&samples, (clock_now_ns() - start_ns) / BATCH);
        }
    }
    measure_print(key, samples_percentile(&samples, 50) / 1e3, "us", reference_us, samples.count);
    samples_deinit(&samples);
}

static double round_trip_us(void)
{
    unsigned char packet[64] = { 0 };
    struct samples samples;
    int fd = -1;
    const pid_t echo = start_echo(&fd);

    if (samples_init(&samples, ROUND_COUNT) < 0)
        die("out of memory");
    for (unsigned i = 0; i < ROUND_COUNT; i++) {
        const uint64_t start_ns = clock_now_ns();
        if (send(fd, packet, sizeof(packet), MSG_NOSIGNAL) < 0 ||
            recv(fd, packet, sizeof(packet), 0) <= 0)
            die("the reference server is gone");
        samples_add(&samples, clock_now_ns() - start_ns);
    }
    const double median_us = samples_percentile(&samples, 50) / 1e3;
    samples_deinit(&samples);
    (void)close(fd);
    (void)waitpid(echo, NULL, 0);
    return median_us;
}

int main(void)
{
    CUcontext context = NULL;
    const double reference_us = round_trip_us(); /* before the driver: it does not survive a fork */

    library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library || CU(cuInit)(0) != CUDA_SUCCESS || CU(cuCtxCreate_v2)(&context, 0, 0) != 0)
        die("no emulated driver; run it under `brim emulate`");
    measure("emu_alloc_us", pair_alloc, reference_us);
    measure("emu_create_us", pair_create, reference_us);
    measure("emu_get_info_us", ask_free, reference_us);
    return 0;
}
