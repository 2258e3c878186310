/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_CUDA_H
#define CUDA_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "cuda/result.h"

/*
 * The CUDA driver's ABI, in our own declarations: the entry points that we call or emulate, under
 * their exported (versioned) names, with the names and values of NVIDIA's documentation. No CUDA
 * toolkit is needed to build or run. driver/ takes the types by __typeof__, emu/ defines the
 * functions; nobody links libcuda.
 */

/* NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's */

#define CUDA_API __attribute__((visibility("default")))

typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;

typedef struct {
    char bytes[16];
} CUuuid;

#define CU_STREAM_LEGACY     ((CUstream)0x1)
#define CU_STREAM_PER_THREAD ((CUstream)0x2)

#define CU_STREAM_DEFAULT      0U
#define CU_STREAM_NON_BLOCKING 1U

#define CU_EVENT_BLOCKING_SYNC  1U
#define CU_EVENT_DISABLE_TIMING 2U
#define CU_EVENT_INTERPROCESS   4U

#define CU_CTX_SCHED_MASK 0x07U
#define CU_CTX_MAP_HOST   0x08U
#define CU_CTX_FLAGS_MASK 0xffU

#define CU_MEMHOSTALLOC_MASK    0x07U
#define CU_MEMHOSTREGISTER_MASK 0x0fU

#define CU_GET_PROC_ADDRESS_LEGACY_STREAM             UINT64_C(1)
#define CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM UINT64_C(2)

typedef enum {
    CU_GET_PROC_ADDRESS_SUCCESS = 0,
    CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND = 1,
    CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT = 2,
} CUdriverProcAddressQueryResult;

/* Those that a caller of ours asks for; others are passed as plain numbers. */
typedef enum {
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1,
    CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X = 2,
    CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y = 3,
    CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z = 4,
    CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X = 5,
    CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y = 6,
    CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z = 7,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK = 8,
    CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY = 9,
    CU_DEVICE_ATTRIBUTE_WARP_SIZE = 10,
    CU_DEVICE_ATTRIBUTE_MAX_PITCH = 11,
    CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK = 12,
    CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13,
    CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT = 14,
    CU_DEVICE_ATTRIBUTE_GPU_OVERLAP = 15,
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
    CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT = 17,
    CU_DEVICE_ATTRIBUTE_INTEGRATED = 18,
    CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY = 19,
    CU_DEVICE_ATTRIBUTE_COMPUTE_MODE = 20,
    CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS = 31,
    CU_DEVICE_ATTRIBUTE_ECC_ENABLED = 32,
    CU_DEVICE_ATTRIBUTE_PCI_BUS_ID = 33,
    CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID = 34,
    CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE = 36,
    CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH = 37,
    CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE = 38,
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR = 39,
    CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT = 40,
    CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING = 41,
    CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID = 50,
    CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT = 51,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81,
    CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR = 82,
    CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY = 83,
    CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS = 89,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
    CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 102,
    CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED = 103,
    CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED = 115,
    CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES = 119,
    CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED = 125,
    CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 141,
    CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 145,
    CU_DEVICE_ATTRIBUTE_MAX = 150,
} CUdevice_attribute;

typedef enum {
    CU_MEMORYTYPE_HOST = 1,
    CU_MEMORYTYPE_DEVICE = 2,
} CUmemorytype;

typedef enum {
    CU_POINTER_ATTRIBUTE_CONTEXT = 1,
    CU_POINTER_ATTRIBUTE_MEMORY_TYPE = 2,
    CU_POINTER_ATTRIBUTE_DEVICE_POINTER = 3,
    CU_POINTER_ATTRIBUTE_HOST_POINTER = 4,
    CU_POINTER_ATTRIBUTE_SYNC_MEMOPS = 6,
    CU_POINTER_ATTRIBUTE_BUFFER_ID = 7,
    CU_POINTER_ATTRIBUTE_IS_MANAGED = 8,
    CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9,
    CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE = 10,
    CU_POINTER_ATTRIBUTE_RANGE_START_ADDR = 11,
    CU_POINTER_ATTRIBUTE_RANGE_SIZE = 12,
    CU_POINTER_ATTRIBUTE_MAPPED = 13,
    CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES = 14,
    CU_POINTER_ATTRIBUTE_ACCESS_FLAGS = 16,
    CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE = 17,
    CU_POINTER_ATTRIBUTE_MAPPING_SIZE = 18,
    CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR = 19,
} CUpointer_attribute;

/* Initialisation, devices */
CUDA_API CUresult cuInit(unsigned int flags);
CUDA_API CUresult cuDriverGetVersion(int *version);
CUDA_API CUresult cuGetErrorName(CUresult error, const char **text);
CUDA_API CUresult cuGetErrorString(CUresult error, const char **text);
CUDA_API CUresult cuGetProcAddress(const char *symbol, void **pfn, int version, uint64_t flags);
CUDA_API CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int version, uint64_t flags,
                                      CUdriverProcAddressQueryResult *status);
CUDA_API CUresult cuGetExportTable(const void **table, const CUuuid *id);
CUDA_API CUresult cuDeviceGetCount(int *count);
CUDA_API CUresult cuDeviceGet(CUdevice *device, int ordinal);
CUDA_API CUresult cuDeviceGetName(char *name, int name_bytes, CUdevice device);
CUDA_API CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device);
CUDA_API CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device);
CUDA_API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device);
CUDA_API CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device);
CUDA_API CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device);
CUDA_API CUresult cuDeviceGetPCIBusId(char *text, int text_bytes, CUdevice device);
CUDA_API CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *text);
CUDA_API CUresult cuDeviceCanAccessPeer(int *can_access, CUdevice device, CUdevice peer);

/* Contexts */
CUDA_API CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
CUDA_API CUresult cuDevicePrimaryCtxRelease(CUdevice device);
CUDA_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device);
CUDA_API CUresult cuDevicePrimaryCtxReset(CUdevice device);
CUDA_API CUresult cuDevicePrimaryCtxReset_v2(CUdevice device);
CUDA_API CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags);
CUDA_API CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags);
CUDA_API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active);
CUDA_API CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device);
CUDA_API CUresult cuCtxCreate_v3(CUcontext *context, void *affinity, int affinity_count,
                                 unsigned int flags, CUdevice device);
CUDA_API CUresult cuCtxCreate_v4(CUcontext *context, void *params, unsigned int flags,
                                 CUdevice device);
CUDA_API CUresult cuCtxDestroy(CUcontext context);
CUDA_API CUresult cuCtxDestroy_v2(CUcontext context);
CUDA_API CUresult cuCtxPushCurrent(CUcontext context);
CUDA_API CUresult cuCtxPushCurrent_v2(CUcontext context);
CUDA_API CUresult cuCtxPopCurrent(CUcontext *context);
CUDA_API CUresult cuCtxPopCurrent_v2(CUcontext *context);
CUDA_API CUresult cuCtxSetCurrent(CUcontext context);
CUDA_API CUresult cuCtxGetCurrent(CUcontext *context);
CUDA_API CUresult cuCtxGetDevice(CUdevice *device);
CUDA_API CUresult cuCtxGetFlags(unsigned int *flags);
CUDA_API CUresult cuCtxGetApiVersion(CUcontext context, unsigned int *version);
CUDA_API CUresult cuCtxSynchronize(void);

/* Memory */
CUDA_API CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes);
CUDA_API CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes);
CUDA_API CUresult cuMemFree_v2(CUdeviceptr address);
CUDA_API CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address);
CUDA_API CUresult cuMemAllocHost_v2(void **memory, size_t bytes);
CUDA_API CUresult cuMemFreeHost(void *memory);
CUDA_API CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned int flags);
CUDA_API CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *memory,
                                               unsigned int flags);
CUDA_API CUresult cuMemHostGetFlags(unsigned int *flags, void *memory);
CUDA_API CUresult cuMemHostRegister_v2(void *memory, size_t bytes, unsigned int flags);
CUDA_API CUresult cuMemHostUnregister(void *memory);
CUDA_API CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute,
                                        CUdeviceptr address);
CUDA_API CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes,
                                         void **data, CUdeviceptr address);

/* Copies; the _ptds and _ptsz forms take the thread's own stream where the plain ones take the
 * legacy stream. */
#define CUDA_COPY_MAP(X)                                                                           \
    X(cuMemcpy, (CUdeviceptr to, CUdeviceptr from, size_t bytes))                                  \
    X(cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t bytes))                           \
    X(cuMemcpyDtoH_v2, (void *to, CUdeviceptr from, size_t bytes))                                 \
    X(cuMemcpyDtoD_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes))                           \
    X(cuMemsetD8_v2, (CUdeviceptr to, unsigned char value, size_t count))                          \
    X(cuMemsetD16_v2, (CUdeviceptr to, unsigned short value, size_t count))                        \
    X(cuMemsetD32_v2, (CUdeviceptr to, unsigned int value, size_t count))
#define CUDA_STREAM_MAP(X)                                                                         \
    X(cuMemcpyAsync, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))            \
    X(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))     \
    X(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream))           \
    X(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))     \
    X(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t count, CUstream stream))       \
    X(cuMemsetD16Async, (CUdeviceptr to, unsigned short value, size_t count, CUstream stream))     \
    X(cuMemsetD32Async, (CUdeviceptr to, unsigned int value, size_t count, CUstream stream))       \
    X(cuStreamGetPriority, (CUstream stream, int *priority))                                       \
    X(cuStreamGetFlags, (CUstream stream, unsigned int *flags))                                    \
    X(cuStreamGetId, (CUstream stream, unsigned long long *id))                                    \
    X(cuStreamGetCtx, (CUstream stream, CUcontext * context))                                      \
    X(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned int flags))                     \
    X(cuStreamSynchronize, (CUstream stream))                                                      \
    X(cuStreamQuery, (CUstream stream))                                                            \
    X(cuEventRecord, (CUevent event, CUstream stream))                                             \
    X(cuEventRecordWithFlags, (CUevent event, CUstream stream, unsigned int flags))                \
    X(cuLaunchHostFunc, (CUstream stream, void (*function)(void *), void *data))
#define X(name, arguments)                                                                         \
    CUDA_API CUresult name arguments;                                                              \
    CUDA_API CUresult name##_ptds arguments;
CUDA_COPY_MAP(X)
#undef X
#define X(name, arguments)                                                                         \
    CUDA_API CUresult name arguments;                                                              \
    CUDA_API CUresult name##_ptsz arguments;
CUDA_STREAM_MAP(X)
#undef X

/* Streams, events */
CUDA_API CUresult cuStreamCreate(CUstream *stream, unsigned int flags);
CUDA_API CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority);
CUDA_API CUresult cuStreamDestroy_v2(CUstream stream);
CUDA_API CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest);
CUDA_API CUresult cuEventCreate(CUevent *event, unsigned int flags);
CUDA_API CUresult cuEventDestroy_v2(CUevent event);
CUDA_API CUresult cuEventQuery(CUevent event);
CUDA_API CUresult cuEventSynchronize(CUevent event);
CUDA_API CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end);
CUDA_API CUresult cuEventElapsedTime_v2(float *ms, CUevent start, CUevent end);

/* Modules and launches */
CUDA_API CUresult cuModuleLoad(CUmodule *module, const char *path);
CUDA_API CUresult cuModuleLoadData(CUmodule *module, const void *image);
CUDA_API CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int count,
                                     int *options, void **values);
CUDA_API CUresult cuModuleUnload(CUmodule module);
CUDA_API CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name);
CUDA_API CUresult cuModuleGetLoadingMode(int *mode);
CUDA_API CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                                 unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                 unsigned int block_z, unsigned int shared_bytes, CUstream stream,
                                 void **params, void **extra);
CUDA_API CUresult cuLaunchKernel_ptsz(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                                      unsigned int grid_z, unsigned int block_x,
                                      unsigned int block_y, unsigned int block_z,
                                      unsigned int shared_bytes, CUstream stream, void **params,
                                      void **extra);

/* NOLINTEND(readability-identifier-naming) */

#endif
