/* SPDX-License-Identifier: Apache-2.0 */

#include "driver/cuda.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct {
    const char *symbol;
    size_t offset;
} entries[] = {
#define X(member, symbol) { #symbol, offsetof(struct driver_cuda, member) },
    DRIVER_CUDA_MAP(X)
#undef X
};

static int resolve(struct driver_cuda *driver, struct error *err)
{
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        void *const function = dlsym(driver->library, entries[i].symbol);
        if (!function)
            return error_set(err, -ENOSYS,
                             "libcuda.so.1 has no %s; the NVIDIA driver is too old (525 or newer "
                             "is needed)",
                             entries[i].symbol);
        /* A function pointer has no portable way from void *; its bytes have. */
        memcpy((char *)driver + entries[i].offset, &function, sizeof(function));
    }
    return 0;
}

int driver_cuda_open(struct driver_cuda *ret_driver, struct error *err)
{
    struct driver_cuda driver = { .library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) };

    if (!driver.library)
        return error_set(
            err, -ENOENT,
            "no NVIDIA driver: %s; install it, or try `brim emulate --gpu rtx4070ti -- "
            "COMMAND`",
            dlerror()); /* NOLINT(concurrency-mt-unsafe): glibc keeps it per thread */
    int r = resolve(&driver, err);
    if (r == 0)
        /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): set by resolve() */
        r = driver_cuda_check(&driver, driver.init(0), "cuInit", err);
    if (r < 0) {
        (void)dlclose(driver.library);
        return r;
    }
    *ret_driver = driver;
    return 0;
}

int driver_cuda_check(const struct driver_cuda *driver, CUresult status, const char *what,
                      struct error *err)
{
    const char *name = NULL, *text = NULL;
    int code = -EIO;

    if (status == CUDA_SUCCESS)
        return 0;
    if (status == CUDA_ERROR_OUT_OF_MEMORY)
        code = -ENOMEM;
    else if (status == CUDA_ERROR_NO_DEVICE || status == CUDA_ERROR_INVALID_DEVICE ||
             status == CUDA_ERROR_DEVICE_UNAVAILABLE)
        code = -ENODEV;
    if (driver->error_name(status, &name) != CUDA_SUCCESS || !name)
        name = "an error that this driver cannot name";
    if (driver->error_text(status, &text) != CUDA_SUCCESS || !text)
        text = "";
    return error_set(err, code, "%s: %s (%d): %s", what, name, (int)status, text);
}
