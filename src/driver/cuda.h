/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DRIVER_CUDA_H
#define DRIVER_CUDA_H

#include "base/error.h"
#include "cuda/cuda.h"

/*
 * libcuda, loaded at run time: the one way by which our code reaches a gpu from inside a process.
 * Under `brim emulate` the loader finds the emulated library, otherwise NVIDIA's; nothing here
 * knows which. Functions are resolved under their versioned names, as programs that link the driver
 * resolve them. Errors name the call; what a person can do about it is said where it is known.
 */

#define DRIVER_CUDA_MAP(X)                                                                         \
    X(init, cuInit)                                                                                \
    X(driver_version, cuDriverGetVersion)                                                          \
    X(error_name, cuGetErrorName)                                                                  \
    X(error_text, cuGetErrorString)                                                                \
    X(device_count, cuDeviceGetCount)                                                              \
    X(device_get, cuDeviceGet)                                                                     \
    X(device_name, cuDeviceGetName)                                                                \
    X(device_uuid, cuDeviceGetUuid)                                                                \
    X(device_total, cuDeviceTotalMem_v2)                                                           \
    X(device_attribute, cuDeviceGetAttribute)                                                      \
    X(primary_retain, cuDevicePrimaryCtxRetain)                                                    \
    X(primary_release, cuDevicePrimaryCtxRelease_v2)                                               \
    X(context_set, cuCtxSetCurrent)                                                                \
    X(context_get, cuCtxGetCurrent)                                                                \
    X(context_synchronize, cuCtxSynchronize)                                                       \
    X(memory_info, cuMemGetInfo_v2)                                                                \
    X(alloc, cuMemAlloc_v2)                                                                        \
    X(free, cuMemFree_v2)                                                                          \
    X(copy_to_device, cuMemcpyHtoD_v2)                                                             \
    X(copy_to_host, cuMemcpyDtoH_v2)                                                               \
    X(copy_on_device, cuMemcpyDtoD_v2)                                                             \
    X(fill_bytes, cuMemsetD8_v2)                                                                   \
    X(fill_words, cuMemsetD32_v2)

struct driver_cuda {
    void *library; /* stays loaded: the driver does not survive being unloaded */
#define X(member, symbol) __typeof__(&symbol) member;
    DRIVER_CUDA_MAP(X)
#undef X
};

/* Load, resolve, cuInit. -ENOENT: no such library; -ENOSYS: it lacks an entry point; -ENODEV: no
 * device; -EIO: cuInit failed otherwise. */
int driver_cuda_open(struct driver_cuda *ret_driver, struct error *err)
    __attribute__((warn_unused_result));

/* 0 for CUDA_SUCCESS; else fills err with "what: NAME: text" and returns -ENOMEM for
 * CUDA_ERROR_OUT_OF_MEMORY, -ENODEV for no or a lost device, -EIO for the rest. */
int driver_cuda_check(const struct driver_cuda *driver, CUresult status, const char *what,
                      struct error *err);

#endif
