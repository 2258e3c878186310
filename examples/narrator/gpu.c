/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include <errno.h>
#include <stdlib.h>

#include "driver/cuda.h"

struct gpu {
    struct driver_cuda driver;
    CUdevice device;
    int has_context;
    uint64_t refused_free_bytes;
};

static int check(struct gpu *gpu, CUresult status, const char *what, struct error *err)
{
    int r = driver_cuda_check(&gpu->driver, status, what, err);
    return r == -ENOMEM ? GPU_REFUSED : r;
}

static int context_begin(struct gpu *gpu, struct error *err)
{
    CUcontext context = NULL;
    int r = check(gpu, gpu->driver.primary_retain(&context, gpu->device),
                  "cuDevicePrimaryCtxRetain", err);
    if (r != 0)
        return r;
    gpu->has_context = 1;
    return check(gpu, gpu->driver.context_set(context), "cuCtxSetCurrent", err);
}

static int context_end(struct gpu *gpu, struct error *err)
{
    if (!gpu->has_context)
        return 0;
    gpu->has_context = 0;
    return check(gpu, gpu->driver.primary_release(gpu->device), "cuDevicePrimaryCtxRelease", err);
}

int gpu_open(struct gpu **ret_gpu, struct error *err)
{
    struct gpu *gpu = calloc(1, sizeof(*gpu));
    if (!gpu)
        return error_set(err, -ENOMEM, "out of host memory");
    int r = driver_cuda_open(&gpu->driver, err);
    if (r == 0)
        r = check(gpu, gpu->driver.device_get(&gpu->device, 0), "cuDeviceGet", err);
    if (r == 0)
        r = context_begin(gpu, err);
    if (r != 0) {
        gpu_close(gpu);
        return r;
    }
    *ret_gpu = gpu;
    return 0;
}

void gpu_close(struct gpu *gpu)
{
    if (!gpu)
        return;
    (void)context_end(gpu, NULL);
    free(gpu);
}

int gpu_alloc(struct gpu *gpu, uint64_t bytes, uint64_t *ret_address, struct error *err)
{
    CUdeviceptr address = 0;
    uint64_t before_bytes = 0, after_bytes = 0;
    int r = gpu_free_bytes(gpu, &before_bytes, err);

    if (r == 0)
        r = check(gpu, gpu->driver.alloc(&address, bytes), "cuMemAlloc", err);
    if (r == 0)
        *ret_address = address;
    /* A neighbour may have given something back since it was refused: the smaller figure is nearer
     * to what was free at that moment. */
    if (r == GPU_REFUSED && gpu_free_bytes(gpu, &after_bytes, NULL) == 0)
        gpu->refused_free_bytes = before_bytes < after_bytes ? before_bytes : after_bytes;
    return r;
}

uint64_t gpu_refused_free_bytes(const struct gpu *gpu)
{
    return gpu->refused_free_bytes;
}

int gpu_free(struct gpu *gpu, uint64_t address, struct error *err)
{
    return check(gpu, gpu->driver.free(address), "cuMemFree", err);
}

int gpu_write(struct gpu *gpu, uint64_t address, const void *data, uint64_t bytes,
              struct error *err)
{
    return check(gpu, gpu->driver.copy_to_device(address, data, bytes), "cuMemcpyHtoD", err);
}

int gpu_read(struct gpu *gpu, uint64_t address, void *ret_data, uint64_t bytes, struct error *err)
{
    return check(gpu, gpu->driver.copy_to_host(ret_data, address, bytes), "cuMemcpyDtoH", err);
}

int gpu_free_bytes(struct gpu *gpu, uint64_t *ret_bytes, struct error *err)
{
    size_t free_bytes = 0, total_bytes = 0;
    int r = check(gpu, gpu->driver.memory_info(&free_bytes, &total_bytes), "cuMemGetInfo", err);
    if (r == 0)
        *ret_bytes = free_bytes;
    return r;
}

int gpu_renew(struct gpu *gpu, struct error *err)
{
    int r = context_end(gpu, err);
    return r == 0 ? context_begin(gpu, err) : r;
}
