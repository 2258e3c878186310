/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cuGetProcAddress: a name without suffix, a version and flags lead to an entry point. Callers give
 * the version in which the form that they were built for came up; the newest form that is not newer
 * than that is theirs. Names that are not in the table are unknown, as newer names are to an older
 * driver.
 */

#include <string.h>

#include "cuda/array.h"
#include "cuda/capture.h"
#include "cuda/checkpoint.h"
#include "cuda/context.h"
#include "cuda/graph.h"
#include "cuda/ipc.h"
#include "cuda/managed.h"
#include "cuda/refused.h"
#include "cuda_state.h"
#include "driver.h"

struct entry {
    const char *name;
    int since;
    void (*plain)(void);
    void (*per_thread)(void); /* NULL: the same */
};

/* Forms for the thread's own stream came with CUDA 7; who asks for an older one gets the other. */
#define PER_THREAD_SINCE 7000

#define FUNCTION(symbol)            ((void (*)(void))(symbol))
#define PLAIN(name, since)          { #name, since, FUNCTION(name), NULL },
#define FORM(name, since, symbol)   { #name, since, FUNCTION(symbol), NULL },
#define THREAD(name, since)         { #name, since, FUNCTION(name), FUNCTION(name##_ptsz) },
#define COPY(name, since, symbol)   { #name, since, FUNCTION(symbol), FUNCTION(symbol##_ptds) },
#define COPY_V2(name, since)        COPY(name, since, name##_v2)
#define STREAM(name, since, symbol) { #name, since, FUNCTION(symbol), FUNCTION(symbol##_ptsz) },

/* clang-format off */
static const struct entry entries[] = {
    PLAIN(cuInit, 2000)
    PLAIN(cuDriverGetVersion, 2020)
    PLAIN(cuGetErrorName, 6000)
    PLAIN(cuGetErrorString, 6000)
    PLAIN(cuGetProcAddress, 11030)
    FORM(cuGetProcAddress, 12000, cuGetProcAddress_v2)
    PLAIN(cuGetExportTable, 3000)
    PLAIN(cuDeviceGetCount, 2000)
    PLAIN(cuDeviceGet, 2000)
    PLAIN(cuDeviceGetName, 2000)
    PLAIN(cuDeviceGetUuid, 9020)
    FORM(cuDeviceGetUuid, 11040, cuDeviceGetUuid_v2)
    FORM(cuDeviceTotalMem, 3020, cuDeviceTotalMem_v2)
    PLAIN(cuDeviceGetAttribute, 2000)
    PLAIN(cuDeviceComputeCapability, 2000)
    PLAIN(cuDeviceGetPCIBusId, 4010)
    PLAIN(cuDeviceGetByPCIBusId, 4010)
    PLAIN(cuDeviceCanAccessPeer, 4000)
    PLAIN(cuDevicePrimaryCtxRetain, 7000)
    PLAIN(cuDevicePrimaryCtxRelease, 7000)
    FORM(cuDevicePrimaryCtxRelease, 11000, cuDevicePrimaryCtxRelease_v2)
    PLAIN(cuDevicePrimaryCtxReset, 7000)
    FORM(cuDevicePrimaryCtxReset, 11000, cuDevicePrimaryCtxReset_v2)
    PLAIN(cuDevicePrimaryCtxSetFlags, 7000)
    FORM(cuDevicePrimaryCtxSetFlags, 11000, cuDevicePrimaryCtxSetFlags_v2)
    PLAIN(cuDevicePrimaryCtxGetState, 7000)
    PLAIN(cuCtxCreate, 2000)
    FORM(cuCtxCreate, 3020, cuCtxCreate_v2)
    FORM(cuCtxCreate, 11040, cuCtxCreate_v3)
    FORM(cuCtxCreate, 12050, cuCtxCreate_v4)
    PLAIN(cuCtxDestroy, 2000)
    FORM(cuCtxDestroy, 4000, cuCtxDestroy_v2)
    PLAIN(cuCtxPushCurrent, 2000)
    FORM(cuCtxPushCurrent, 4000, cuCtxPushCurrent_v2)
    PLAIN(cuCtxPopCurrent, 2000)
    FORM(cuCtxPopCurrent, 4000, cuCtxPopCurrent_v2)
    PLAIN(cuCtxSetCurrent, 4000)
    PLAIN(cuCtxGetCurrent, 4000)
    PLAIN(cuCtxGetDevice, 2000)
    FORM(cuCtxGetDevice, 13000, cuCtxGetDevice_v2)
    PLAIN(cuCtxAttach, 2000)
    PLAIN(cuCtxDetach, 2000)
    PLAIN(cuCtxSetFlags, 12010)
    PLAIN(cuCtxGetId, 12000)
    PLAIN(cuCtxSetLimit, 3010)
    PLAIN(cuCtxGetLimit, 3010)
    PLAIN(cuCtxGetCacheConfig, 3020)
    PLAIN(cuCtxSetCacheConfig, 3020)
    PLAIN(cuCtxGetSharedMemConfig, 4020)
    PLAIN(cuCtxSetSharedMemConfig, 4020)
    PLAIN(cuCtxResetPersistingL2Cache, 11000)
    PLAIN(cuCtxEnablePeerAccess, 4000)
    PLAIN(cuCtxDisablePeerAccess, 4000)
    PLAIN(cuDeviceGetP2PAttribute, 8000)
    PLAIN(cuCtxGetFlags, 7000)
    PLAIN(cuCtxGetApiVersion, 3020)
    PLAIN(cuCtxSynchronize, 2000)
    FORM(cuCtxSynchronize, 13000, cuCtxSynchronize_v2)
    PLAIN(cuCtxGetStreamPriorityRange, 5050)
    FORM(cuMemGetInfo, 3020, cuMemGetInfo_v2)
    FORM(cuMemAlloc, 3020, cuMemAlloc_v2)
    FORM(cuMemFree, 3020, cuMemFree_v2)
    FORM(cuMemGetAddressRange, 3020, cuMemGetAddressRange_v2)
    FORM(cuMemAllocHost, 3020, cuMemAllocHost_v2)
    PLAIN(cuMemFreeHost, 2000)
    PLAIN(cuMemHostAlloc, 2020)
    FORM(cuMemHostGetDevicePointer, 3020, cuMemHostGetDevicePointer_v2)
    PLAIN(cuMemHostGetFlags, 2030)
    PLAIN(cuMemHostRegister, 4000)
    FORM(cuMemHostRegister, 6050, cuMemHostRegister_v2)
    PLAIN(cuMemHostUnregister, 4000)
    PLAIN(cuPointerGetAttribute, 4000)
    PLAIN(cuPointerGetAttributes, 7000)
    THREAD(cuMemAllocAsync, 11020)
    THREAD(cuMemAllocFromPoolAsync, 11020)
    THREAD(cuMemFreeAsync, 11020)
    PLAIN(cuMemPoolCreate, 11020)
    PLAIN(cuMemPoolDestroy, 11020)
    PLAIN(cuMemPoolTrimTo, 11020)
    PLAIN(cuMemPoolSetAttribute, 11020)
    PLAIN(cuMemPoolGetAttribute, 11020)
    PLAIN(cuMemPoolExportToShareableHandle, 11020)
    PLAIN(cuMemPoolImportFromShareableHandle, 11020)
    PLAIN(cuMemPoolExportPointer, 11020)
    PLAIN(cuMemPoolImportPointer, 11020)
    PLAIN(cuMemPoolSetAccess, 11020)
    PLAIN(cuMemPoolGetAccess, 11020)
    PLAIN(cuDeviceGetDefaultMemPool, 11020)
    PLAIN(cuDeviceGetMemPool, 11020)
    PLAIN(cuDeviceSetMemPool, 11020)
    PLAIN(cuMemGetDefaultMemPool, 13000)
    PLAIN(cuMemGetMemPool, 13000)
    PLAIN(cuMemSetMemPool, 13000)
    PLAIN(cuGraphCreate, 10000)
    PLAIN(cuGraphDestroy, 10000)
    PLAIN(cuGraphAddEmptyNode, 10000)
    PLAIN(cuGraphAddMemcpyNode, 10000)
    PLAIN(cuGraphAddMemsetNode, 10000)
    PLAIN(cuGraphAddHostNode, 10000)
    PLAIN(cuGraphAddKernelNode, 10000)
    FORM(cuGraphAddKernelNode, 12000, cuGraphAddKernelNode_v2)
    PLAIN(cuGraphAddMemAllocNode, 11040)
    PLAIN(cuGraphAddMemFreeNode, 11040)
    PLAIN(cuGraphMemAllocNodeGetParams, 11040)
    PLAIN(cuGraphMemFreeNodeGetParams, 11040)
    PLAIN(cuGraphAddNode, 12020)
    FORM(cuGraphAddNode, 12030, cuGraphAddNode_v2)
    PLAIN(cuGraphAddDependencies, 10000)
    FORM(cuGraphAddDependencies, 12030, cuGraphAddDependencies_v2)
    PLAIN(cuGraphDestroyNode, 10000)
    PLAIN(cuGraphGetNodes, 10000)
    PLAIN(cuGraphNodeGetType, 10000)
    PLAIN(cuGraphClone, 10000)
    PLAIN(cuGraphInstantiate, 10000)
    FORM(cuGraphInstantiate, 11000, cuGraphInstantiate_v2)
    FORM(cuGraphInstantiate, 12000, cuGraphInstantiateWithFlags)
    PLAIN(cuGraphInstantiateWithFlags, 11040)
    THREAD(cuGraphInstantiateWithParams, 12000)
    PLAIN(cuGraphExecGetFlags, 12000)
    THREAD(cuGraphUpload, 11010)
    THREAD(cuGraphLaunch, 10000)
    PLAIN(cuGraphExecDestroy, 10000)
    PLAIN(cuDeviceGetGraphMemAttribute, 11040)
    PLAIN(cuDeviceSetGraphMemAttribute, 11040)
    PLAIN(cuDeviceGraphMemTrim, 11040)
    PLAIN(cuMemAllocManaged, 6000)
    THREAD(cuStreamAttachMemAsync, 6000)
    THREAD(cuMemPrefetchAsync, 8000)
    STREAM(cuMemPrefetchAsync, 12020, cuMemPrefetchAsync_v2)
    PLAIN(cuMemAdvise, 8000)
    FORM(cuMemAdvise, 12020, cuMemAdvise_v2)
    PLAIN(cuMemRangeGetAttribute, 8000)
    PLAIN(cuMemRangeGetAttributes, 8000)
    PLAIN(cuIpcGetEventHandle, 4010)
    PLAIN(cuIpcOpenEventHandle, 4010)
    PLAIN(cuIpcGetMemHandle, 4010)
    PLAIN(cuIpcOpenMemHandle, 4010)
    FORM(cuIpcOpenMemHandle, 11000, cuIpcOpenMemHandle_v2)
    PLAIN(cuIpcCloseMemHandle, 4010)
    PLAIN(cuMemAddressReserve, 10020)
    PLAIN(cuMemAddressFree, 10020)
    PLAIN(cuMemCreate, 10020)
    PLAIN(cuMemRelease, 10020)
    PLAIN(cuMemMap, 10020)
    PLAIN(cuMemUnmap, 10020)
    PLAIN(cuMemSetAccess, 10020)
    PLAIN(cuMemGetAccess, 10020)
    PLAIN(cuMemGetAllocationGranularity, 10020)
    PLAIN(cuMemGetAllocationPropertiesFromHandle, 10020)
    PLAIN(cuMemRetainAllocationHandle, 11000)
    PLAIN(cuMemExportToShareableHandle, 10020)
    PLAIN(cuMemImportFromShareableHandle, 10020)
    COPY(cuMemcpy, 4000, cuMemcpy)
    COPY_V2(cuMemcpyHtoD, 3020)
    COPY_V2(cuMemcpyDtoH, 3020)
    COPY_V2(cuMemcpyDtoD, 3020)
    COPY_V2(cuMemsetD8, 3020)
    COPY_V2(cuMemsetD16, 3020)
    COPY_V2(cuMemsetD32, 3020)
    FORM(cuMemAllocPitch, 3020, cuMemAllocPitch_v2)
    FORM(cuArrayCreate, 3020, cuArrayCreate_v2)
    FORM(cuArray3DCreate, 3020, cuArray3DCreate_v2)
    FORM(cuArrayGetDescriptor, 3020, cuArrayGetDescriptor_v2)
    FORM(cuArray3DGetDescriptor, 3020, cuArray3DGetDescriptor_v2)
    PLAIN(cuArrayDestroy, 2000)
    PLAIN(cuArrayGetPlane, 11020)
    PLAIN(cuArrayGetMemoryRequirements, 11060)
    PLAIN(cuMipmappedArrayCreate, 5000)
    PLAIN(cuMipmappedArrayGetLevel, 5000)
    PLAIN(cuMipmappedArrayDestroy, 5000)
    PLAIN(cuMipmappedArrayGetMemoryRequirements, 11060)
    COPY_V2(cuMemcpy2D, 3020)
    COPY_V2(cuMemcpy2DUnaligned, 3020)
    COPY_V2(cuMemcpy3D, 3020)
    COPY_V2(cuMemcpyDtoA, 3020)
    COPY_V2(cuMemcpyAtoD, 3020)
    COPY_V2(cuMemcpyHtoA, 3020)
    COPY_V2(cuMemcpyAtoH, 3020)
    COPY_V2(cuMemcpyAtoA, 3020)
    COPY_V2(cuMemsetD2D8, 3020)
    COPY_V2(cuMemsetD2D16, 3020)
    COPY_V2(cuMemsetD2D32, 3020)
    STREAM(cuMemcpy2DAsync, 3020, cuMemcpy2DAsync_v2)
    STREAM(cuMemcpy3DAsync, 3020, cuMemcpy3DAsync_v2)
    STREAM(cuMemcpyHtoAAsync, 3020, cuMemcpyHtoAAsync_v2)
    STREAM(cuMemcpyAtoHAsync, 3020, cuMemcpyAtoHAsync_v2)
    THREAD(cuMemsetD2D8Async, 3020)
    THREAD(cuMemsetD2D16Async, 3020)
    THREAD(cuMemsetD2D32Async, 3020)
    THREAD(cuMemcpyAsync, 4000)
    STREAM(cuMemcpyHtoDAsync, 3020, cuMemcpyHtoDAsync_v2)
    STREAM(cuMemcpyDtoHAsync, 3020, cuMemcpyDtoHAsync_v2)
    STREAM(cuMemcpyDtoDAsync, 3020, cuMemcpyDtoDAsync_v2)
    THREAD(cuMemsetD8Async, 3020)
    THREAD(cuMemsetD16Async, 3020)
    THREAD(cuMemsetD32Async, 3020)
    COPY(cuMemcpyPeer, 4000, cuMemcpyPeer)
    THREAD(cuMemcpyPeerAsync, 4000)
    PLAIN(cuStreamCreate, 2000)
    PLAIN(cuStreamCreateWithPriority, 5050)
    PLAIN(cuStreamDestroy, 2000)
    FORM(cuStreamDestroy, 4000, cuStreamDestroy_v2)
    THREAD(cuStreamGetPriority, 5050)
    THREAD(cuStreamGetFlags, 5050)
    THREAD(cuStreamGetId, 12000)
    THREAD(cuStreamGetCtx, 9020)
    STREAM(cuStreamGetCtx, 12050, cuStreamGetCtx_v2)
    THREAD(cuStreamGetDevice, 12080)
    THREAD(cuStreamAddCallback, 5000)
    THREAD(cuStreamWaitEvent, 3020)
    THREAD(cuStreamSynchronize, 2000)
    THREAD(cuStreamQuery, 2000)
    THREAD(cuLaunchHostFunc, 10000)
    PLAIN(cuEventCreate, 2000)
    PLAIN(cuEventDestroy, 2000)
    FORM(cuEventDestroy, 4000, cuEventDestroy_v2)
    PLAIN(cuEventQuery, 2000)
    PLAIN(cuEventSynchronize, 2000)
    THREAD(cuEventRecord, 2000)
    THREAD(cuEventRecordWithFlags, 11010)
    PLAIN(cuEventElapsedTime, 2000)
    FORM(cuEventElapsedTime, 12080, cuEventElapsedTime_v2)
    PLAIN(cuModuleLoad, 2000)
    PLAIN(cuModuleLoadData, 2000)
    PLAIN(cuModuleLoadDataEx, 2010)
    PLAIN(cuModuleUnload, 2000)
    PLAIN(cuModuleGetFunction, 2000)
    PLAIN(cuModuleGetLoadingMode, 11070)
    THREAD(cuLaunchKernel, 4000)
    THREAD(cuStreamIsCapturing, 10000)
    THREAD(cuStreamGetCaptureInfo, 10010)
    STREAM(cuStreamGetCaptureInfo, 11030, cuStreamGetCaptureInfo_v2)
    STREAM(cuStreamGetCaptureInfo, 12030, cuStreamGetCaptureInfo_v3)
    PLAIN(cuThreadExchangeStreamCaptureMode, 10010)
    PLAIN(cuProfilerStart, 4000)
    PLAIN(cuProfilerStop, 4000)
    CUDA_REFUSED_MAP(FORM)
#define X(name, since, symbol, per_thread) { #name, since, FUNCTION(symbol), FUNCTION(per_thread) },
    CUDA_REFUSED_STREAM_MAP(X)
#undef X
    PLAIN(cuCheckpointProcessGetState, 12080)
    PLAIN(cuCheckpointProcessGetRestoreThreadId, 12080)
    PLAIN(cuCheckpointProcessLock, 12080)
    PLAIN(cuCheckpointProcessCheckpoint, 12080)
    PLAIN(cuCheckpointProcessRestore, 12080)
    PLAIN(cuCheckpointProcessUnlock, 12080)
};
/* clang-format on */

static CUdriverProcAddressQueryResult find_entry(const char *name, int version, bool is_per_thread,
                                                 void **ret_function)
{
    const struct entry *best = NULL;
    bool is_known = false;

    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        if (strcmp(entries[i].name, name) != 0)
            continue;
        if (entries[i].since > driver_own()->cuda_version)
            continue; /* the driver is older */
        is_known = true;
        if (entries[i].since <= version && (!best || entries[i].since > best->since))
            best = &entries[i];
    }
    *ret_function = NULL;
    if (!best)
        return is_known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                        : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    void (*const function)(void) = is_per_thread && best->per_thread && version >= PER_THREAD_SINCE
                                       ? best->per_thread
                                       : best->plain;
    /* A function pointer has no portable way to void *; its bytes have. */
    memcpy(ret_function, &function, sizeof(function));
    return CU_GET_PROC_ADDRESS_SUCCESS;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int version, uint64_t flags,
                             CUdriverProcAddressQueryResult *status)
{
    if (!symbol || !pfn || version > driver_own()->cuda_version ||
        flags > CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)
        return CUDA_ERROR_INVALID_VALUE;
    const CUdriverProcAddressQueryResult found =
        find_entry(symbol, version, flags == CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, pfn);
    if (status)
        *status = found;
    return found == CU_GET_PROC_ADDRESS_SUCCESS || status ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

/* The first form has no status to tell by. */
CUresult cuGetProcAddress(const char *symbol, void **pfn, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(symbol, pfn, version, flags, NULL);
}

/* NVIDIA's private tables: an emulated driver has none. */
CUresult cuGetExportTable(const void **table, const CUuuid *id)
{
    if (!table || !id)
        return CUDA_ERROR_INVALID_VALUE;
    *table = NULL;
    return CUDA_ERROR_NOT_FOUND;
}
