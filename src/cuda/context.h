/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_CONTEXT_H
#define CUDA_CONTEXT_H

#include "cuda/cuda.h"

/* What contexts can be set to and asked for, beside what cuda.h has. Our own declarations of
 * NVIDIA's names. */

/* NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's */

typedef enum {
    CU_LIMIT_STACK_SIZE = 0,
    CU_LIMIT_PRINTF_FIFO_SIZE = 1,
    CU_LIMIT_MALLOC_HEAP_SIZE = 2,
    CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH = 3,
    CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT = 4,
    CU_LIMIT_MAX_L2_FETCH_GRANULARITY = 5,
    CU_LIMIT_PERSISTING_L2_CACHE_SIZE = 6,
} CUlimit;

/* CUfunc_cache: none, shared, L1, equal */
#define CU_FUNC_CACHE_MAX 3U
/* CUsharedconfig: default, four, eight bytes a bank */
#define CU_SHARED_MEM_CONFIG_MAX 2U

/* CUdevice_P2PAttribute */
#define CU_DEVICE_P2P_ATTRIBUTE_FIRST            1
#define CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED 2
#define CU_DEVICE_P2P_ATTRIBUTE_LAST             5

CUDA_API CUresult cuCtxCreate(CUcontext *context, unsigned int flags, CUdevice device);
CUDA_API CUresult cuCtxAttach(CUcontext *context, unsigned int flags);
CUDA_API CUresult cuCtxDetach(CUcontext context);
CUDA_API CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext context);
CUDA_API CUresult cuCtxSynchronize_v2(CUcontext context);
CUDA_API CUresult cuCtxSetFlags(unsigned int flags);
CUDA_API CUresult cuCtxGetId(CUcontext context, unsigned long long *id);
CUDA_API CUresult cuCtxSetLimit(CUlimit limit, size_t value);
CUDA_API CUresult cuCtxGetLimit(size_t *value, CUlimit limit);
CUDA_API CUresult cuCtxGetCacheConfig(unsigned int *config);
CUDA_API CUresult cuCtxSetCacheConfig(unsigned int config);
CUDA_API CUresult cuCtxGetSharedMemConfig(unsigned int *config);
CUDA_API CUresult cuCtxSetSharedMemConfig(unsigned int config);
CUDA_API CUresult cuCtxResetPersistingL2Cache(void);
CUDA_API CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags);
CUDA_API CUresult cuCtxDisablePeerAccess(CUcontext peer);
CUDA_API CUresult cuDeviceGetP2PAttribute(int *value, int attribute, CUdevice from, CUdevice to);

CUDA_API CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                               CUcontext from_context, size_t bytes);
CUDA_API CUresult cuMemcpyPeer_ptds(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                                    CUcontext from_context, size_t bytes);
CUDA_API CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                                    CUcontext from_context, size_t bytes, CUstream stream);
CUDA_API CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                                         CUcontext from_context, size_t bytes, CUstream stream);

CUDA_API CUresult cuStreamDestroy(CUstream stream);
CUDA_API CUresult cuEventDestroy(CUevent event);
CUDA_API CUresult cuMemHostRegister(void *memory, size_t bytes, unsigned int flags);
CUDA_API CUresult cuStreamGetDevice(CUstream stream, CUdevice *device);
CUDA_API CUresult cuStreamGetDevice_ptsz(CUstream stream, CUdevice *device);
CUDA_API CUresult cuStreamGetCtx_v2(CUstream stream, CUcontext *context, void **green);
CUDA_API CUresult cuStreamGetCtx_v2_ptsz(CUstream stream, CUcontext *context, void **green);
CUDA_API CUresult cuStreamAddCallback(CUstream stream, void (*function)(CUstream, CUresult, void *),
                                      void *data, unsigned int flags);
CUDA_API CUresult cuStreamAddCallback_ptsz(CUstream stream,
                                           void (*function)(CUstream, CUresult, void *), void *data,
                                           unsigned int flags);

/* NOLINTEND(readability-identifier-naming) */

#endif
