/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_CODE_H
#define CUDA_CODE_H

#include "cuda/cuda.h"

/*
 * What has to do with code on the card, beside what cuda.h has: modules, libraries, the linker,
 * kernels, occupancy. Nobody here calls it and an emulated card answers all of it alike, so the
 * arguments, which are NVIDIA's as the names are, stand nowhere.
 */

/* NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's */

/* The documented name, the exported one, and the version of CUDA that it came with. */
#define CUDA_CODE_MAP(X)                                                                           \
    X(cuFuncGetAttribute, cuFuncGetAttribute, 2020)                                                \
    X(cuFuncGetModule, cuFuncGetModule, 11000)                                                     \
    X(cuFuncGetName, cuFuncGetName, 12030)                                                         \
    X(cuFuncGetParamInfo, cuFuncGetParamInfo, 12040)                                               \
    X(cuFuncIsLoaded, cuFuncIsLoaded, 12040)                                                       \
    X(cuFuncLoad, cuFuncLoad, 12040)                                                               \
    X(cuFuncSetAttribute, cuFuncSetAttribute, 9000)                                                \
    X(cuFuncSetCacheConfig, cuFuncSetCacheConfig, 3000)                                            \
    X(cuFuncSetSharedMemConfig, cuFuncSetSharedMemConfig, 4020)                                    \
    X(cuKernelGetAttribute, cuKernelGetAttribute, 12000)                                           \
    X(cuKernelGetFunction, cuKernelGetFunction, 12000)                                             \
    X(cuKernelGetLibrary, cuKernelGetLibrary, 12050)                                               \
    X(cuKernelGetName, cuKernelGetName, 12030)                                                     \
    X(cuKernelGetParamInfo, cuKernelGetParamInfo, 12040)                                           \
    X(cuKernelSetAttribute, cuKernelSetAttribute, 12000)                                           \
    X(cuKernelSetCacheConfig, cuKernelSetCacheConfig, 12000)                                       \
    X(cuLaunchCooperativeKernelMultiDevice, cuLaunchCooperativeKernelMultiDevice, 9000)            \
    X(cuLibraryEnumerateKernels, cuLibraryEnumerateKernels, 12040)                                 \
    X(cuLibraryGetGlobal, cuLibraryGetGlobal, 12000)                                               \
    X(cuLibraryGetKernel, cuLibraryGetKernel, 12000)                                               \
    X(cuLibraryGetKernelCount, cuLibraryGetKernelCount, 12040)                                     \
    X(cuLibraryGetManaged, cuLibraryGetManaged, 12000)                                             \
    X(cuLibraryGetModule, cuLibraryGetModule, 12000)                                               \
    X(cuLibraryGetUnifiedFunction, cuLibraryGetUnifiedFunction, 12000)                             \
    X(cuLibraryLoadData, cuLibraryLoadData, 12000)                                                 \
    X(cuLibraryLoadFromFile, cuLibraryLoadFromFile, 12000)                                         \
    X(cuLibraryUnload, cuLibraryUnload, 12000)                                                     \
    X(cuLinkAddData, cuLinkAddData_v2, 6050)                                                       \
    X(cuLinkAddFile, cuLinkAddFile_v2, 6050)                                                       \
    X(cuLinkComplete, cuLinkComplete, 5050)                                                        \
    X(cuLinkCreate, cuLinkCreate_v2, 6050)                                                         \
    X(cuLinkDestroy, cuLinkDestroy, 5050)                                                          \
    X(cuModuleEnumerateFunctions, cuModuleEnumerateFunctions, 12040)                               \
    X(cuModuleGetFunctionCount, cuModuleGetFunctionCount, 12040)                                   \
    X(cuModuleGetGlobal, cuModuleGetGlobal_v2, 3020)                                               \
    X(cuModuleLoadFatBinary, cuModuleLoadFatBinary, 2000)                                          \
    X(cuOccupancyAvailableDynamicSMemPerBlock, cuOccupancyAvailableDynamicSMemPerBlock, 10020)     \
    X(cuOccupancyMaxActiveBlocksPerMultiprocessor, cuOccupancyMaxActiveBlocksPerMultiprocessor,    \
      6050)                                                                                        \
    X(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags,                                        \
      cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, 7000)                                  \
    X(cuOccupancyMaxActiveClusters, cuOccupancyMaxActiveClusters, 11070)                           \
    X(cuOccupancyMaxPotentialBlockSize, cuOccupancyMaxPotentialBlockSize, 6050)                    \
    X(cuOccupancyMaxPotentialBlockSizeWithFlags, cuOccupancyMaxPotentialBlockSizeWithFlags, 7000)  \
    X(cuOccupancyMaxPotentialClusterSize, cuOccupancyMaxPotentialClusterSize, 11070)
/* Those that have a form for the thread's own stream too. */
#define CUDA_CODE_STREAM_MAP(X) X(cuLaunchCooperativeKernel) X(cuLaunchKernelEx)

#define X(name, symbol, since) CUDA_API CUresult symbol(void);
CUDA_CODE_MAP(X)
#undef X
#define X(name)                                                                                    \
    CUDA_API CUresult name(void);                                                                  \
    CUDA_API CUresult name##_ptsz(void);
CUDA_CODE_STREAM_MAP(X)
#undef X

/* NOLINTEND(readability-identifier-naming) */

#endif
