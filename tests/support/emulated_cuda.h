/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_EMULATED_CUDA_H
#define TESTS_EMULATED_CUDA_H

#include <dlfcn.h>

#include "check.h"
#include "cuda/cuda.h"
#include "emulated.h"

/* The emulated driver as any program has it: CU(cuMemAlloc_v2)(&address, bytes). */

static inline void *emulated_symbol(const char *name)
{
    static void *library;

    if (!library)
        library = dlopen("libcuda.so.1", RTLD_NOW);
    void *const symbol = library ? dlsym(library, name) : NULL;
    if (!symbol) {
        printf("Bail out! no %s: %s\n", name, dlerror());
        exit(EXIT_FAILURE);
    }
    return symbol;
}

#define CU(name) ((__typeof__(&name))emulated_symbol(#name))

/* What the emulator has counted on its first card. */
struct emulated_stats {
    unsigned long long used_bytes, peak_bytes, oom_count, async_faults, allocations;
};

static inline struct emulated_stats emulated_stats(void)
{
    struct emulated_stats stats = { 0 };
    char text[4096];
    struct emulated_child asked = emulated_exec(EMULATOR_PATH, "--stats");
    size_t used = 0;
    ssize_t got = 0;

    while ((got = read(asked.out, text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = '\0';
    const char *const start = strstr(text, "\"used_bytes\"");
    CHECK(emulated_end(&asked, 0) == 0 && start);
    CHECK(sscanf(start, /* NOLINT(cert-err34-c): written by the emulator */
                 "\"used_bytes\": %llu, \"peak_bytes\": %llu, \"oom_count\": %llu, "
                 "\"async_faults\": %llu, \"allocations\": %llu",
                 &stats.used_bytes, &stats.peak_bytes, &stats.oom_count, &stats.async_faults,
                 &stats.allocations) == 5);
    return stats;
}

#define CHECK_CU(call)            CHECK_EQ_U64((call), CUDA_SUCCESS)
#define CHECK_CU_IS(call, wanted) CHECK_EQ_U64((call), (wanted))

/* The thread's context on gpu 0, which is retained once more by each call. */
static inline CUcontext emulated_context(void)
{
    CUcontext context = NULL;

    CHECK_CU(CU(cuInit)(0));
    CHECK_CU(CU(cuDevicePrimaryCtxRetain)(&context, 0));
    CHECK_CU(CU(cuCtxSetCurrent)(context));
    return context;
}

static inline uint64_t emulated_free_bytes(void)
{
    size_t free_bytes = 0, total_bytes = 0;

    CHECK_CU(CU(cuMemGetInfo_v2)(&free_bytes, &total_bytes));
    return free_bytes;
}

static inline CUdeviceptr emulated_alloc(size_t bytes)
{
    CUdeviceptr address = 0;

    CHECK_CU(CU(cuMemAlloc_v2)(&address, bytes));
    return address;
}

#endif
