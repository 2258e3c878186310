/* SPDX-License-Identifier: Apache-2.0 */

/* Contexts: the stack, what belongs to one, what it can be set to, and the primary one. */

#include <pthread.h>

#include "conform.h"
#include "cuda/context.h"

static void check_creation(void)
{
    CUcontext context = NULL, current = NULL;
    CUdevice device = 77;
    unsigned int flags = 77, version = 0;

    conform_status(DRV(cuCtxCreate_v2)(&context, 3, 0), CUDA_ERROR_INVALID_VALUE,
                   "a context with two ways of scheduling is an invalid value");
    conform_status(DRV(cuCtxCreate_v2)(&context, 0, 4711), CUDA_ERROR_INVALID_DEVICE,
                   "a context on no device is an invalid device");
    conform_status(DRV(cuCtxCreate_v2)(&context, 4, 0), CUDA_SUCCESS, "cuCtxCreate");
    conform_status(DRV(cuCtxGetCurrent)(&current), CUDA_SUCCESS, "cuCtxGetCurrent");
    conform_holds(current == context, "a new context is current");
    conform_status(DRV(cuCtxGetDevice)(&device), CUDA_SUCCESS, "cuCtxGetDevice");
    conform_number((uint64_t)device, 0, "it is the device that it was created on");
    conform_status(DRV(cuCtxGetFlags)(&flags), CUDA_SUCCESS, "cuCtxGetFlags");
    conform_number(flags & 7, 4, "its scheduling is as it was asked for");
    conform_status(DRV(cuCtxGetApiVersion)(context, &version), CUDA_SUCCESS, "cuCtxGetApiVersion");
    conform_number(version, 3020, "cuCtxCreate_v2 makes a context of 3.2");
    conform_status(DRV(cuCtxPopCurrent_v2)(&current), CUDA_SUCCESS, "cuCtxPopCurrent");
    conform_holds(current == context, "the context that was current is popped");
    conform_status(DRV(cuCtxPushCurrent_v2)(context), CUDA_SUCCESS, "cuCtxPushCurrent");
    conform_status(DRV(cuCtxDestroy_v2)(context), CUDA_SUCCESS, "cuCtxDestroy");
    conform_status(DRV(cuCtxGetCurrent)(&current), CUDA_SUCCESS, "cuCtxGetCurrent");
    conform_holds(current != context && current != NULL,
                  "a destroyed context that was current is popped");
}

static void check_without(void)
{
    CUcontext before = NULL, current = NULL;
    CUdeviceptr address = 0;
    CUdevice device = 0;

    conform_status(DRV(cuCtxGetCurrent)(&before), CUDA_SUCCESS, "cuCtxGetCurrent");
    conform_status(DRV(cuCtxSetCurrent)(NULL), CUDA_SUCCESS, "cuCtxSetCurrent of none");
    current = before;
    conform_status(DRV(cuCtxGetCurrent)(&current), CUDA_SUCCESS, "cuCtxGetCurrent without any");
    conform_holds(current == NULL, "none is current");
    conform_status(DRV(cuMemAlloc_v2)(&address, 512), CUDA_ERROR_INVALID_CONTEXT,
                   "cuMemAlloc without a context is an invalid context");
    conform_status(DRV(cuCtxGetDevice)(&device), CUDA_ERROR_INVALID_CONTEXT,
                   "cuCtxGetDevice without a context is an invalid context");
    conform_status(DRV(cuCtxSynchronize)(), CUDA_ERROR_INVALID_CONTEXT,
                   "cuCtxSynchronize without a context is an invalid context");
    conform_status(DRV(cuCtxPopCurrent_v2)(&current), CUDA_ERROR_INVALID_CONTEXT,
                   "cuCtxPopCurrent without a context is an invalid context");
    conform_status(DRV(cuCtxSetCurrent)(before), CUDA_SUCCESS, "cuCtxSetCurrent");
}

struct visit {
    CUcontext context;
    pthread_barrier_t barrier;
    CUresult before, after;
};

static void *visit(void *data)
{
    struct visit *const it = data;
    CUdevice device = 0;

    (void)DRV(cuCtxSetCurrent)(it->context);
    it->before = DRV(cuCtxGetDevice)(&device);
    (void)pthread_barrier_wait(&it->barrier);
    (void)pthread_barrier_wait(&it->barrier); /* destroyed meanwhile */
    it->after = DRV(cuCtxGetDevice)(&device);
    return NULL;
}

static void check_destruction(void)
{
    struct visit it = { .before = CUDA_ERROR_UNKNOWN, .after = CUDA_ERROR_UNKNOWN };
    CUdeviceptr address = 0, base = 0;
    size_t bytes = 0;
    pthread_t thread;

    conform_status(DRV(cuCtxCreate_v2)(&it.context, 0, 0), CUDA_SUCCESS, "cuCtxCreate");
    conform_status(DRV(cuMemAlloc_v2)(&address, 4 * MIB), CUDA_SUCCESS, "cuMemAlloc in it");
    (void)pthread_barrier_init(&it.barrier, NULL, 2);
    conform_number((uint64_t)pthread_create(&thread, NULL, visit, &it), 0, "a thread that uses it");
    (void)pthread_barrier_wait(&it.barrier);
    conform_status(DRV(cuCtxDestroy_v2)(it.context), CUDA_SUCCESS, "cuCtxDestroy");
    (void)pthread_barrier_wait(&it.barrier);
    (void)pthread_join(thread, NULL);
    (void)pthread_barrier_destroy(&it.barrier);
    conform_status(it.before, CUDA_SUCCESS, "another thread can use the context");
    conform_status(it.after, CUDA_ERROR_CONTEXT_IS_DESTROYED,
                   "where it is current it is a destroyed context now");
    conform_status(DRV(cuMemGetAddressRange_v2)(&base, &bytes, address), CUDA_ERROR_NOT_FOUND,
                   "its memory has gone with it");
}

static void check_settings(void)
{
    CUcontext context = NULL;
    unsigned int config = 77;
    size_t value = 0;
    int major = 0, number = 0;

    conform_status(DRV(cuCtxGetLimit)(&value, CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT),
                   CUDA_SUCCESS, "the limit of pending launches");
    conform_number(value, 2048, "it is 2048 at first");
    conform_status(DRV(cuCtxSetLimit)(CU_LIMIT_STACK_SIZE, 4096), CUDA_SUCCESS, "a stack of 4 KiB");
    conform_status(DRV(cuCtxGetLimit)(&value, CU_LIMIT_STACK_SIZE), CUDA_SUCCESS, "the stack");
    conform_holds(value >= 4096, "it is at least as large as asked for");
    conform_status(DRV(cuCtxGetLimit)(&value, (CUlimit)99), CUDA_ERROR_UNSUPPORTED_LIMIT,
                   "an unknown limit is an unsupported one");
    (void)DRV(cuDeviceGetAttribute)(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0);
    conform_status(DRV(cuCtxSetLimit)(CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH, 2),
                   major >= 9 ? CUDA_ERROR_UNSUPPORTED_LIMIT : CUDA_SUCCESS,
                   "the depth of synchronisation is a limit below 9.0 only");
    conform_status(DRV(cuCtxSetCacheConfig)(9), CUDA_ERROR_INVALID_VALUE,
                   "an unknown cache configuration is an invalid value");
    conform_status(DRV(cuCtxGetCacheConfig)(&config), CUDA_SUCCESS, "cuCtxGetCacheConfig");
    conform_status(DRV(cuCtxGetCurrent)(&context), CUDA_SUCCESS, "cuCtxGetCurrent");
    conform_status(DRV(cuCtxEnablePeerAccess)(context, 0), CUDA_ERROR_INVALID_CONTEXT,
                   "a context is no peer of its own");
    conform_status(DRV(cuDeviceGetP2PAttribute)(&number, 1, 0, 0), CUDA_ERROR_INVALID_DEVICE,
                   "a device has no link to itself");
}

static void check_named(void)
{
    CUcontext current = NULL, other = NULL;
    CUdevice device = 77;
    unsigned long long id = 0, other_id = 0;

    conform_status(DRV(cuCtxGetCurrent)(&current), CUDA_SUCCESS, "cuCtxGetCurrent");
    conform_status(DRV(cuCtxCreate_v2)(&other, 0, 0), CUDA_SUCCESS, "cuCtxCreate");
    conform_status(DRV(cuCtxGetId)(current, &id), CUDA_SUCCESS, "cuCtxGetId");
    conform_status(DRV(cuCtxGetId)(NULL, &other_id), CUDA_SUCCESS, "of the current context");
    conform_holds(id != other_id, "two contexts have two ids");
    if (conform_has("cuCtxGetDevice_v2")) {
        conform_status(DRV(cuCtxGetDevice_v2)(&device, current), CUDA_SUCCESS,
                       "cuCtxGetDevice of a context that is not current");
        conform_number((uint64_t)device, 0, "its device");
        conform_status(DRV(cuCtxSynchronize_v2)(current), CUDA_SUCCESS,
                       "cuCtxSynchronize of a context that is not current");
    }
    conform_status(DRV(cuCtxDestroy_v2)(other), CUDA_SUCCESS, "cuCtxDestroy");
}

static void check_primary(void)
{
    const CUmemAllocationProp properties = {
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
    };
    CUmemGenericAllocationHandle handle = 0;
    CUcontext context = NULL;
    CUdeviceptr address = 0;
    unsigned int flags = 77;
    int active = 77;

    conform_status(DRV(cuDevicePrimaryCtxRetain)(&context, 0), CUDA_SUCCESS,
                   "cuDevicePrimaryCtxRetain");
    conform_status(DRV(cuDevicePrimaryCtxSetFlags_v2)(0, 3), CUDA_ERROR_INVALID_VALUE,
                   "two ways of scheduling are an invalid value");
    conform_status(DRV(cuDevicePrimaryCtxSetFlags_v2)(0, 4), CUDA_SUCCESS,
                   "flags can be set while it is active");
    conform_status(DRV(cuDevicePrimaryCtxGetState)(0, &flags, &active), CUDA_SUCCESS,
                   "cuDevicePrimaryCtxGetState");
    conform_number(flags & 7, 4, "it has the flags that were set");
    conform_number((uint64_t)active, 1, "it is active");
    conform_status(DRV(cuMemCreate)(&handle, 32 * MIB, &properties, 0), CUDA_SUCCESS,
                   "cuMemCreate");
    conform_status(DRV(cuDevicePrimaryCtxReset_v2)(0), CUDA_SUCCESS, "cuDevicePrimaryCtxReset");
    conform_status(DRV(cuDevicePrimaryCtxGetState)(0, &flags, &active), CUDA_SUCCESS,
                   "cuDevicePrimaryCtxGetState");
    conform_number((uint64_t)active, 0, "a reset makes it inactive");
    conform_status(DRV(cuMemAlloc_v2)(&address, 512), CUDA_ERROR_CONTEXT_IS_DESTROYED,
                   "an inactive primary context that is current is a destroyed one");
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS,
                   "what belongs to no context survives a reset");
    conform_status(DRV(cuDevicePrimaryCtxRelease_v2)(0), CUDA_SUCCESS,
                   "what was retained is released after a reset");
    conform_status(DRV(cuDevicePrimaryCtxRetain)(&context, 0), CUDA_SUCCESS,
                   "cuDevicePrimaryCtxRetain makes it active again");
    conform_status(DRV(cuCtxSetCurrent)(context), CUDA_SUCCESS, "cuCtxSetCurrent");
    conform_status(DRV(cuDevicePrimaryCtxRelease_v2)(0), CUDA_SUCCESS, "cuDevicePrimaryCtxRelease");
    conform_status(DRV(cuMemAlloc_v2)(&address, 512), CUDA_SUCCESS,
                   "it lives while one more has retained it");
    conform_status(DRV(cuMemFree_v2)(address), CUDA_SUCCESS, "cuMemFree");
}

void conform_context(void)
{
    check_creation();
    check_without();
    check_destruction();
    check_settings();
    check_named();
    check_primary();
}
