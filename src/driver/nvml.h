/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DRIVER_NVML_H
#define DRIVER_NVML_H

#include "base/error.h"
#include "cuda/nvml.h"

/*
 * libnvidia-ml, loaded at run time: what the driver says of the gpus from outside. Any call may
 * hang when the driver does, so only helper processes with a deadline use it.
 */

/* What every driver that we support has. */
#define DRIVER_NVML_MAP(X)                                                                         \
    X(init, nvmlInit_v2)                                                                           \
    X(shutdown, nvmlShutdown)                                                                      \
    X(error_text, nvmlErrorString)                                                                 \
    X(driver_version, nvmlSystemGetDriverVersion)                                                  \
    X(device_count, nvmlDeviceGetCount_v2)                                                         \
    X(device_by_index, nvmlDeviceGetHandleByIndex_v2)                                              \
    X(device_name, nvmlDeviceGetName)                                                              \
    X(device_uuid, nvmlDeviceGetUUID)                                                              \
    X(memory_v1, nvmlDeviceGetMemoryInfo)

/* NULL where the driver is older. */
#define DRIVER_NVML_OPTIONAL_MAP(X)                                                                \
    X(memory_v2, nvmlDeviceGetMemoryInfo_v2)                                                       \
    X(compute_v3, nvmlDeviceGetComputeRunningProcesses_v3)                                         \
    X(compute_v2, nvmlDeviceGetComputeRunningProcesses_v2)                                         \
    X(graphics_v3, nvmlDeviceGetGraphicsRunningProcesses_v3)                                       \
    X(graphics_v2, nvmlDeviceGetGraphicsRunningProcesses_v2)

struct driver_nvml {
    void *library; /* owned */
#define X(member, symbol) __typeof__(&symbol) member;
    DRIVER_NVML_MAP(X)
    DRIVER_NVML_OPTIONAL_MAP(X)
#undef X
};

/* Load, resolve, nvmlInit. -ENOENT: no such library, or its driver is not loaded; -ENOSYS: it lacks
 * an entry point; -EIO: nvmlInit failed otherwise. */
int driver_nvml_open(struct driver_nvml *ret_driver, struct error *err)
    __attribute__((warn_unused_result));
/* Shut down and unload; a zeroed or closed one is fine. */
void driver_nvml_close(struct driver_nvml *driver);

/* 0 for NVML_SUCCESS; else fills err with "what: text". -ENODEV for a lost gpu, -EIO for the rest.
 */
int driver_nvml_check(const struct driver_nvml *driver, nvmlReturn_t status, const char *what,
                      struct error *err);

#endif
