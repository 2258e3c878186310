/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_IPC_H
#define CUDA_IPC_H

#include "cuda/pool.h"

/* Memory and events that processes share: by handles that are plain bytes (cuIpc…), and by pools.
 * As cuda.h: our own declarations of NVIDIA's names. */

/* NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's */

#define CU_IPC_HANDLE_SIZE                 64
#define CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS 1U

typedef struct {
    char reserved[CU_IPC_HANDLE_SIZE];
} CUipcEventHandle;

typedef struct {
    char reserved[CU_IPC_HANDLE_SIZE];
} CUipcMemHandle;

typedef struct {
    unsigned char reserved[64];
} CUmemPoolPtrExportData;

CUDA_API CUresult cuIpcGetEventHandle(CUipcEventHandle *handle, CUevent event);
CUDA_API CUresult cuIpcOpenEventHandle(CUevent *event, CUipcEventHandle handle);
CUDA_API CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address);
CUDA_API CUresult cuIpcOpenMemHandle(CUdeviceptr *address, CUipcMemHandle handle,
                                     unsigned int flags);
CUDA_API CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle handle,
                                        unsigned int flags);
CUDA_API CUresult cuIpcCloseMemHandle(CUdeviceptr address);

CUDA_API CUresult cuMemPoolExportToShareableHandle(void *shareable, CUmemoryPool pool,
                                                   CUmemAllocationHandleType type,
                                                   unsigned long long flags);
CUDA_API CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *shareable,
                                                     CUmemAllocationHandleType type,
                                                     unsigned long long flags);
CUDA_API CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData *data, CUdeviceptr address);
CUDA_API CUresult cuMemPoolImportPointer(CUdeviceptr *address, CUmemoryPool pool,
                                         CUmemPoolPtrExportData *data);
CUDA_API CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *accesses,
                                     size_t count);
CUDA_API CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool pool,
                                     CUmemLocation *location);

/* NOLINTEND(readability-identifier-naming) */

#endif
