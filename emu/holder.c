/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The foreign process of --leave: a program like any other, that loads the (emulated) driver, takes
 * memory, says so with one byte on its standard output, and stays until its standard input ends.
 */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cuda/cuda.h"
#include "server.h"

static int take_memory(void *library, int gpu, size_t bytes)
{
    CUcontext context = NULL;
    CUdeviceptr address = 0;
    CUdevice device = 0;
    const __typeof__(&cuInit) init = (__typeof__(&cuInit))dlsym(library, "cuInit");
    const __typeof__(&cuDeviceGet) get = (__typeof__(&cuDeviceGet))dlsym(library, "cuDeviceGet");
    const __typeof__(&cuCtxCreate_v2) create =
        (__typeof__(&cuCtxCreate_v2))dlsym(library, "cuCtxCreate_v2");
    const __typeof__(&cuMemAlloc_v2) alloc =
        (__typeof__(&cuMemAlloc_v2))dlsym(library, "cuMemAlloc_v2");

    if (!init || !get || !create || !alloc)
        return -1;
    if (init(0) != CUDA_SUCCESS || get(&device, gpu) != CUDA_SUCCESS ||
        create(&context, 0, device) != CUDA_SUCCESS)
        return -1;
    return bytes == 0 || alloc(&address, bytes) == CUDA_SUCCESS ? 0 : -1;
}

int holder_run(const char *gpu_text, const char *bytes_text)
{
    const int gpu = (int)strtol(gpu_text, NULL, 10);
    const size_t bytes = (size_t)strtoull(bytes_text, NULL, 10);
    void *const library = dlopen("libcuda.so.1", RTLD_NOW);
    char byte = '!';

    (void)prctl(PR_SET_NAME, "foreign");
    if (!library || take_memory(library, gpu, bytes) < 0)
        return 1;
    if (write(STDOUT_FILENO, &byte, 1) != 1)
        return 1;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    return 0;
}
