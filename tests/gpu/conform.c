/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The suite's frame. TAP on standard output; without a gpu the suite is skipped and says which call
 * failed, unless BRIM_REQUIRE_GPU=1 makes that a failure.
 */

#include "conform.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/cuda.h"

static struct driver_cuda driver;
static unsigned check_count, difference_count;

static void answer(bool is_same, const char *what)
{
    check_count++;
    difference_count += is_same ? 0 : 1;
    printf("%s %u - %s\n", is_same ? "ok" : "not ok", check_count, what);
}

void *conform_symbol(const char *name)
{
    void *const symbol = dlsym(driver.library, name);

    if (!symbol) {
        printf("Bail out! the driver has no %s\n", name);
        exit(EXIT_FAILURE);
    }
    return symbol;
}

bool conform_has(const char *name)
{
    return dlsym(driver.library, name) != NULL;
}

static const char *result_name(CUresult result)
{
    const char *name = NULL;

    return driver.error_name(result, &name) == CUDA_SUCCESS && name ? name : "an unnamed error";
}

void conform_status(CUresult got, CUresult wanted, const char *what)
{
    answer(got == wanted, what);
    if (got != wanted)
        printf("#   wanted %s (%d), the driver answers %s (%d)\n", result_name(wanted), (int)wanted,
               result_name(got), (int)got);
}

void conform_number(uint64_t got, uint64_t wanted, const char *what)
{
    answer(got == wanted, what);
    if (got != wanted)
        printf("#   wanted %" PRIu64 ", the driver answers %" PRIu64 "\n", wanted, got);
}

void conform_holds(bool holds, const char *what)
{
    answer(holds, what);
}

uint64_t conform_free_bytes(void)
{
    size_t free_bytes = 0, total_bytes = 0;

    return driver.memory_info(&free_bytes, &total_bytes) == CUDA_SUCCESS ? free_bytes : 0;
}

/* A context on gpu 0. */
static int open_gpu(bool is_quiet, struct error *err)
{
    CUcontext context = NULL;
    CUdevice device = 0;
    char name[128] = "";
    int version = 0;
    int r = driver_cuda_open(&driver, err);

    if (r == 0)
        r = driver_cuda_check(&driver, driver.device_get(&device, 0), "cuDeviceGet", err);
    if (r == 0)
        r = driver_cuda_check(&driver, driver.primary_retain(&context, device),
                              "cuDevicePrimaryCtxRetain", err);
    if (r == 0)
        r = driver_cuda_check(&driver, driver.context_set(context), "cuCtxSetCurrent", err);
    if (r < 0)
        return r;
    if (is_quiet)
        return 0;
    (void)driver.device_name(name, sizeof(name), device);
    (void)driver.driver_version(&version);
    printf("# %s, CUDA %d.%d\n", name, version / 1000, version % 1000 / 10);
    return 0;
}

int main(int argc, char **argv)
{
    const bool is_other = argc == 2 && strcmp(argv[1], CONFORM_OTHER) == 0;
    const bool is_target = argc == 2 && strcmp(argv[1], CONFORM_TARGET) == 0;
    const char *const require = getenv("BRIM_REQUIRE_GPU"); /* NOLINT(concurrency-mt-unsafe) */
    struct error err = { 0 };

    if (open_gpu(is_other || is_target, &err) < 0) {
        const bool is_required = require && strcmp(require, "1") == 0;
        printf(is_required ? "Bail out! %s\n" : "1..0 # SKIP %s\n", err.message);
        return is_required ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    if (is_other)
        return conform_ipc_other();
    if (is_target)
        return conform_checkpoint_target();
    conform_device();
    conform_memory();
    conform_vmm();
    conform_vmm_host();
    conform_peer();
    conform_pool();
    conform_array();
    conform_graph();
    conform_ipc();
    conform_managed();
    conform_rect();
    conform_stream();
    conform_names();
    conform_checkpoint();
    conform_context();
    (void)driver.primary_release(0);
    printf("1..%u\n# %u checks, %u differences\n", check_count, check_count, difference_count);
    return difference_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
