/* SPDX-License-Identifier: Apache-2.0 */

/* The stream-ordered allocator: what a pool holds, gives back, and tells. */

#include "conform.h"
#include "cuda/pool.h"

static uint64_t attribute(CUmemoryPool pool, CUmemPool_attribute which)
{
    uint64_t value = UINT64_MAX;

    conform_status(DRV(cuMemPoolGetAttribute)(pool, which, &value), CUDA_SUCCESS,
                   "cuMemPoolGetAttribute");
    return value;
}

static void check_arguments(CUmemoryPool pool, CUstream stream)
{
    CUdeviceptr address = 0;
    uint64_t one = 1;

    conform_status(DRV(cuMemAllocAsync)(&address, 0, stream), CUDA_ERROR_INVALID_VALUE,
                   "cuMemAllocAsync of 0 bytes is an invalid value");
    conform_status(DRV(cuMemAllocAsync)(&address, (size_t)1 << 46, stream),
                   CUDA_ERROR_OUT_OF_MEMORY, "cuMemAllocAsync of 64 TiB is out of memory");
    conform_status(DRV(cuMemPoolSetAttribute)(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &one),
                   CUDA_ERROR_INVALID_VALUE, "a high mark set to 1 is an invalid value");
    conform_number(attribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD), 0,
                   "the threshold is 0 at first");
}

static void check_release(CUmemoryPool pool, CUstream stream)
{
    const uint64_t free_before = conform_free_bytes();
    uint64_t threshold = UINT64_MAX;
    CUdeviceptr address = 0;
    unsigned char byte = 9;

    conform_status(DRV(cuMemPoolSetAttribute)(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold),
                   CUDA_SUCCESS, "the threshold is set");
    conform_status(DRV(cuMemAllocFromPoolAsync)(&address, 64 * MIB, pool, stream), CUDA_SUCCESS,
                   "cuMemAllocFromPoolAsync");
    conform_number(attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 64 * MIB, "64 MiB are used");
    conform_holds(attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) >= 64 * MIB,
                  "at least as much is reserved");
    conform_status(DRV(cuMemsetD8Async)(address, 7, 64 * MIB, stream), CUDA_SUCCESS,
                   "the memory is used in its stream");
    conform_status(DRV(cuMemcpyDtoHAsync_v2)(&byte, address + MIB, 1, stream), CUDA_SUCCESS,
                   "and copied from");
    conform_status(DRV(cuMemFreeAsync)(address, stream), CUDA_SUCCESS, "cuMemFreeAsync");
    conform_status(DRV(cuStreamSynchronize)(stream), CUDA_SUCCESS, "cuStreamSynchronize");
    conform_number(byte, 7, "the work before the free was done");
    conform_number(attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 0, "nothing is used");
    conform_number(attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH), 64 * MIB,
                   "the high mark remembers");
    conform_holds(free_before - conform_free_bytes() >= 64 * MIB,
                  "below the threshold the pool keeps its memory");
    conform_status(DRV(cuMemPoolTrimTo)(pool, 0), CUDA_SUCCESS, "cuMemPoolTrimTo");
    conform_number(attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0,
                   "a trimmed pool reserves nothing");
    conform_number(conform_free_bytes(), free_before, "the card has it back");
}

static void check_threshold(CUmemoryPool pool, CUstream stream)
{
    uint64_t threshold = 0;
    CUdeviceptr address = 0;

    conform_status(DRV(cuMemPoolSetAttribute)(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold),
                   CUDA_SUCCESS, "the threshold is 0");
    conform_status(DRV(cuMemAllocFromPoolAsync)(&address, 1000, pool, stream), CUDA_SUCCESS,
                   "a small allocation");
    conform_status(DRV(cuMemFreeAsync)(address, stream), CUDA_SUCCESS, "cuMemFreeAsync");
    conform_status(DRV(cuStreamSynchronize)(stream), CUDA_SUCCESS, "cuStreamSynchronize");
    conform_number(attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0,
                   "above the threshold a synchronisation gives back");
}

void conform_pool(void)
{
    const CUmemPoolProps properties = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                        .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 } };
    CUmemoryPool pool = NULL, standard = NULL, current = NULL;
    CUstream stream = NULL;

    conform_status(DRV(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS,
                   "cuStreamCreate");
    conform_status(DRV(cuMemPoolCreate)(&pool, &properties), CUDA_SUCCESS, "cuMemPoolCreate");
    conform_status(DRV(cuDeviceGetDefaultMemPool)(&standard, 0), CUDA_SUCCESS,
                   "cuDeviceGetDefaultMemPool");
    conform_status(DRV(cuDeviceGetMemPool)(&current, 0), CUDA_SUCCESS, "cuDeviceGetMemPool");
    conform_holds(standard == current, "the current pool is the default one at first");
    conform_status(DRV(cuMemPoolDestroy)(standard), CUDA_ERROR_INVALID_VALUE,
                   "destroying the default pool is an invalid value");
    conform_status(DRV(cuDeviceSetMemPool)(0, pool), CUDA_SUCCESS, "cuDeviceSetMemPool");
    check_arguments(pool, stream);
    check_release(pool, stream);
    check_threshold(pool, stream);
    conform_status(DRV(cuMemPoolDestroy)(pool), CUDA_SUCCESS, "cuMemPoolDestroy");
    conform_status(DRV(cuDeviceGetMemPool)(&current, 0), CUDA_SUCCESS, "cuDeviceGetMemPool");
    conform_holds(standard == current, "without it the default one is current again");
    conform_status(DRV(cuStreamDestroy_v2)(stream), CUDA_SUCCESS, "cuStreamDestroy");
}
