/* SPDX-License-Identifier: Apache-2.0 */

#include "driver/nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static const struct {
    const char *symbol;
    size_t offset;
    bool is_optional;
} entries[] = {
#define X(member, symbol) { #symbol, offsetof(struct driver_nvml, member), false },
    DRIVER_NVML_MAP(X)
#undef X
#define X(member, symbol) { #symbol, offsetof(struct driver_nvml, member), true },
        DRIVER_NVML_OPTIONAL_MAP(X)
#undef X
};

static int resolve(struct driver_nvml *driver, struct error *err)
{
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        void *const function = dlsym(driver->library, entries[i].symbol);
        if (!function && !entries[i].is_optional)
            return error_set(err, -ENOSYS,
                             "libnvidia-ml.so.1 has no %s; the NVIDIA driver is too old",
                             entries[i].symbol);
        memcpy((char *)driver + entries[i].offset, &function, sizeof(function));
    }
    return 0;
}

int driver_nvml_open(struct driver_nvml *ret_driver, struct error *err)
{
    struct driver_nvml driver = { .library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL) };

    if (!driver.library)
        return error_set(
            err, -ENOENT,
            "no NVIDIA driver: %s; install it, or try `brim emulate --gpu rtx4070ti -- "
            "COMMAND`",
            dlerror()); /* NOLINT(concurrency-mt-unsafe): glibc keeps it per thread */
    int r = resolve(&driver, err);
    if (r == 0)
        /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): set by resolve() */
        r = driver_nvml_check(&driver, driver.init(), "nvmlInit", err);
    if (r < 0) {
        (void)dlclose(driver.library);
        return r;
    }
    *ret_driver = driver;
    return 0;
}

void driver_nvml_close(struct driver_nvml *driver)
{
    if (!driver->library)
        return;
    (void)driver->shutdown();
    (void)dlclose(driver->library);
    *driver = (struct driver_nvml){ 0 };
}

int driver_nvml_check(const struct driver_nvml *driver, nvmlReturn_t status, const char *what,
                      struct error *err)
{
    const char *text = NULL;
    int code = -EIO;

    if (status == NVML_SUCCESS)
        return 0;
    if (status == NVML_ERROR_DRIVER_NOT_LOADED)
        code = -ENOENT;
    else if (status == NVML_ERROR_GPU_IS_LOST || status == NVML_ERROR_NOT_FOUND)
        code = -ENODEV;
    text = driver->error_text(status);
    return error_set(err, code, "%s: %s (%d)", what, text ? text : "unknown", (int)status);
}
