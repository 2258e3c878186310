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
    conform_status(DRV(cuMemPoolSetAttribute)(pool, (CUmemPool_attribute)99, &one),
                   CUDA_ERROR_INVALID_VALUE, "an unknown attribute is an invalid value");
    conform_status(DRV(cuMemPoolGetAttribute)(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, NULL),
                   CUDA_ERROR_INVALID_VALUE, "an attribute to nowhere is an invalid value");
}

static void check_reuse(CUmemoryPool pool)
{
    static const CUmemPool_attribute attributes[] = {
        CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES,
        CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC,
        CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES,
    };

    for (size_t i = 0; i < 3; i++) {
        int value = 77;
        conform_status(DRV(cuMemPoolGetAttribute)(pool, attributes[i], &value), CUDA_SUCCESS,
                       "cuMemPoolGetAttribute");
        conform_number((uint64_t)value, 1, "reuse is allowed at first");
        value = 0;
        conform_status(DRV(cuMemPoolSetAttribute)(pool, attributes[i], &value), CUDA_SUCCESS,
                       "and can be forbidden");
        value = 77;
        conform_status(DRV(cuMemPoolGetAttribute)(pool, attributes[i], &value), CUDA_SUCCESS,
                       "cuMemPoolGetAttribute");
        conform_number((uint64_t)value, 0, "then it is");
        value = 1;
        conform_status(DRV(cuMemPoolSetAttribute)(pool, attributes[i], &value), CUDA_SUCCESS,
                       "and allowed again");
    }
}

/* Two allocations, one of which is freed: what a trim may take, and what it must leave. */
static void check_trim(CUmemoryPool pool, CUstream stream)
{
    uint64_t threshold = UINT64_MAX, zero = 0;
    CUdeviceptr kept = 0, freed = 0;

    conform_status(DRV(cuMemPoolSetAttribute)(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold),
                   CUDA_SUCCESS, "the threshold is set");
    conform_status(DRV(cuMemAllocFromPoolAsync)(&kept, 64 * MIB, pool, stream), CUDA_SUCCESS,
                   "cuMemAllocFromPoolAsync");
    conform_status(DRV(cuMemAllocFromPoolAsync)(&freed, 64 * MIB, pool, stream), CUDA_SUCCESS,
                   "cuMemAllocFromPoolAsync");
    conform_status(DRV(cuMemFreeAsync)(freed, stream), CUDA_SUCCESS, "cuMemFreeAsync");
    conform_status(DRV(cuStreamSynchronize)(stream), CUDA_SUCCESS, "cuStreamSynchronize");
    const uint64_t reserved = attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
    conform_holds(reserved >= 128 * MIB, "both are reserved still");
    conform_status(DRV(cuMemPoolTrimTo)(pool, reserved + 1), CUDA_SUCCESS,
                   "a trim to more than there is");
    conform_number(attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), reserved,
                   "it does nothing");
    conform_status(DRV(cuMemPoolTrimTo)(pool, 0), CUDA_SUCCESS, "a trim to nothing");
    const uint64_t left = attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
    conform_holds(left >= 64 * MIB && left < reserved, "it leaves what is used, and not much more");
    conform_number(attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 64 * MIB, "that is used");
    conform_holds(attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH) >= reserved,
                  "the high mark remembers");
    conform_status(DRV(cuMemPoolSetAttribute)(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH, &zero),
                   CUDA_SUCCESS, "a high mark is reset");
    conform_number(attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH), left,
                   "it starts from what there is");
    conform_status(DRV(cuMemPoolSetAttribute)(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &zero),
                   CUDA_ERROR_INVALID_VALUE, "what is used can not be set");
    conform_status(DRV(cuMemFreeAsync)(kept, stream), CUDA_SUCCESS, "cuMemFreeAsync");
    conform_status(DRV(cuStreamSynchronize)(stream), CUDA_SUCCESS, "cuStreamSynchronize");
    conform_status(DRV(cuMemPoolTrimTo)(pool, 0), CUDA_SUCCESS, "cuMemPoolTrimTo");
    conform_number(attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0, "nothing is left");
}

/* cuMemGetMemPool and its kin are younger than pools. */
static void check_places(CUmemoryPool standard)
{
    CUmemLocation location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 };
    CUmemoryPool pool = NULL;

    if (!conform_has("cuMemGetDefaultMemPool"))
        return;
    conform_status(DRV(cuMemGetDefaultMemPool)(&pool, &location, CU_MEM_ALLOCATION_TYPE_PINNED),
                   CUDA_SUCCESS, "cuMemGetDefaultMemPool");
    conform_holds(pool == standard, "a device's default pool is that of its location");
    conform_status(DRV(cuMemGetMemPool)(&pool, &location, CU_MEM_ALLOCATION_TYPE_INVALID),
                   CUDA_ERROR_INVALID_VALUE, "a pool of no kind is an invalid value");
    location.type = CU_MEM_LOCATION_TYPE_INVALID;
    conform_status(DRV(cuMemGetMemPool)(&pool, &location, CU_MEM_ALLOCATION_TYPE_PINNED),
                   CUDA_ERROR_INVALID_VALUE, "a pool of nowhere is an invalid value");
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
    check_reuse(pool);
    check_places(standard);
    check_release(pool, stream);
    check_threshold(pool, stream);
    check_trim(pool, stream);
    conform_status(DRV(cuMemPoolDestroy)(pool), CUDA_SUCCESS, "cuMemPoolDestroy");
    conform_status(DRV(cuDeviceGetMemPool)(&current, 0), CUDA_SUCCESS, "cuDeviceGetMemPool");
    conform_holds(standard == current, "without it the default one is current again");
    conform_status(DRV(cuStreamDestroy_v2)(stream), CUDA_SUCCESS, "cuStreamDestroy");
}
