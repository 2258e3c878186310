/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Code does not run on an emulated card: every way to load or launch some answers NOT_SUPPORTED, so
 * that callers take their path without a kernel.
 */

#include "cuda_state.h"

CUresult cuModuleLoad(CUmodule *module, const char *path)
{
    (void)module;
    (void)path;
    return cuda_refuse(__func__);
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    (void)module;
    (void)image;
    return cuda_refuse(__func__);
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int count, int *options,
                            void **values)
{
    (void)module;
    (void)image;
    (void)count;
    (void)options;
    (void)values;
    return cuda_refuse(__func__);
}

CUresult cuModuleUnload(CUmodule module)
{
    (void)module;
    return cuda_refuse(__func__);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    (void)function;
    (void)module;
    (void)name;
    return cuda_refuse(__func__);
}

CUresult cuModuleGetLoadingMode(int *mode)
{
    if (!mode)
        return CUDA_ERROR_INVALID_VALUE;
    *mode = 2; /* CU_MODULE_LAZY_LOADING */
    return CUDA_SUCCESS;
}

/* NOLINTBEGIN(readability-function-size): the parameters are the ABI's */
CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                        unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                        unsigned int block_z, unsigned int shared_bytes, CUstream stream,
                        void **params, void **extra)
{
    (void)function;
    (void)grid_x;
    (void)grid_y;
    (void)grid_z;
    (void)block_x;
    (void)block_y;
    (void)block_z;
    (void)shared_bytes;
    (void)stream;
    (void)params;
    (void)extra;
    return cuda_refuse(__func__);
}

CUresult cuLaunchKernel_ptsz(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                             unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                             unsigned int block_z, unsigned int shared_bytes, CUstream stream,
                             void **params, void **extra)
{
    return cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes,
                          stream, params, extra);
}
/* NOLINTEND(readability-function-size) */
