/* SPDX-License-Identifier: Apache-2.0 */

/* Managed memory: the host's and the card's at one address, and what is said and asked of it. */

#include <string.h>

#include "conform.h"
#include "cuda/managed.h"

#define CHUNK (4 * MIB)

static int attribute(CUdeviceptr address, uint64_t bytes, CUmem_range_attribute which)
{
    int value = 12345;

    conform_status(DRV(cuMemRangeGetAttribute)(&value, sizeof(value), which, address, bytes),
                   CUDA_SUCCESS, "cuMemRangeGetAttribute");
    return value;
}

static void check_arguments(void)
{
    CUdeviceptr address = 0;
    int value = 0;

    conform_status(DRV(cuMemAllocManaged)(&address, 0, CU_MEM_ATTACH_GLOBAL),
                   CUDA_ERROR_INVALID_VALUE, "cuMemAllocManaged of 0 bytes is an invalid value");
    conform_status(DRV(cuMemAllocManaged)(&address, MIB, 0), CUDA_ERROR_INVALID_VALUE,
                   "cuMemAllocManaged without flags is an invalid value");
    conform_status(DRV(cuMemAllocManaged)(&address, MIB, CU_MEM_ATTACH_SINGLE),
                   CUDA_ERROR_INVALID_VALUE,
                   "cuMemAllocManaged for a single stream is an invalid value");
    conform_status(DRV(cuMemAlloc_v2)(&address, MIB), CUDA_SUCCESS, "cuMemAlloc");
    conform_status(DRV(cuMemRangeGetAttribute)(&value, sizeof(value),
                                               CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, address, MIB),
                   CUDA_ERROR_INVALID_VALUE, "asking about memory that is not managed");
    conform_status(DRV(cuMemAdvise)(address, MIB, CU_MEM_ADVISE_SET_READ_MOSTLY, 0),
                   CUDA_ERROR_INVALID_VALUE, "advice about memory that is not managed");
    conform_status(DRV(cuMemFree_v2)(address), CUDA_SUCCESS, "cuMemFree");
}

static void check_pointer(CUdeviceptr address)
{
    CUdeviceptr device = 0;
    unsigned int number = 9;
    void *host = NULL;

    conform_status(DRV(cuPointerGetAttribute)(&number, CU_POINTER_ATTRIBUTE_IS_MANAGED, address),
                   CUDA_SUCCESS, "whether it is managed");
    conform_number(number, 1, "it is");
    conform_status(DRV(cuPointerGetAttribute)(&number, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address),
                   CUDA_SUCCESS, "its memory type");
    conform_number(number, CU_MEMORYTYPE_DEVICE, "is the device's");
    conform_status(
        DRV(cuPointerGetAttribute)(&device, CU_POINTER_ATTRIBUTE_DEVICE_POINTER, address + 7),
        CUDA_SUCCESS, "its address on the device");
    conform_number(device, address + 7, "is the one that it has");
    conform_status(
        DRV(cuPointerGetAttribute)(&host, CU_POINTER_ATTRIBUTE_HOST_POINTER, address + 7),
        CUDA_SUCCESS, "and on the host");
    conform_number((uint64_t)(uintptr_t)host, address + 7, "is it too");
}

static void check_bytes(CUdeviceptr address)
{
    unsigned char *const host = (unsigned char *)(uintptr_t)address; /* NOLINT: it is both */
    static unsigned char out[3000], back[3000];

    memset(out, 0x42, sizeof(out));
    host[100] = 0x17;
    conform_status(DRV(cuMemcpyDtoH_v2)(back, address + 100, 1), CUDA_SUCCESS,
                   "a copy of what the host has written");
    conform_number(back[0], 0x17, "has it");
    conform_status(DRV(cuMemcpyHtoD_v2)(address + 5000, out, sizeof(out)), CUDA_SUCCESS,
                   "a copy to managed memory");
    conform_status(DRV(cuMemsetD32_v2)(address + MIB, 0x01020304, 1000), CUDA_SUCCESS,
                   "a set of managed memory");
    conform_status(DRV(cuCtxSynchronize)(), CUDA_SUCCESS, "cuCtxSynchronize");
    conform_holds(memcmp(host + 5000, out, sizeof(out)) == 0, "the host reads the copy");
    conform_holds(host[MIB] == 4 && host[MIB + 3999] == 1, "and the set");
}

static void check_advice(CUdeviceptr address)
{
    const CUmemLocation gpu = { CU_MEM_LOCATION_TYPE_DEVICE, 0 };
    const CUmemLocation none = { CU_MEM_LOCATION_TYPE_DEVICE, 9999 };
    int by[3] = { 7, 7, 7 };

    conform_number((uint64_t)attribute(address, CHUNK, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION),
                   (uint64_t)CU_DEVICE_INVALID, "no location is preferred at first");
    conform_status(
        DRV(cuMemAdvise)(address, CHUNK / 2, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CU_DEVICE_CPU),
        CUDA_SUCCESS, "the first half prefers the host");
    conform_number(
        (uint64_t)attribute(address, CHUNK / 2, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION),
        (uint64_t)CU_DEVICE_CPU, "as is told of it");
    conform_number((uint64_t)attribute(address, CHUNK, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION),
                   (uint64_t)CU_DEVICE_INVALID, "the whole prefers nothing");
    conform_status(DRV(cuMemAdvise)(address, CHUNK, CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION, 0),
                   CUDA_SUCCESS, "no location is preferred any more");
    conform_status(DRV(cuMemAdvise)(address, 100, CU_MEM_ADVISE_SET_READ_MOSTLY, 0), CUDA_SUCCESS,
                   "the first bytes are mostly read");
    conform_number((uint64_t)attribute(address, 4096, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY), 1,
                   "so is their page");
    conform_number((uint64_t)attribute(address, CHUNK, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY), 0,
                   "not the whole");
    conform_status(DRV(cuMemAdvise_v2)(address, CHUNK, CU_MEM_ADVISE_SET_ACCESSED_BY, gpu),
                   CUDA_SUCCESS, "the gpu touches all of it");
    conform_status(DRV(cuMemRangeGetAttribute)(by, sizeof(by), CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY,
                                               address, CHUNK),
                   CUDA_SUCCESS, "who touches it");
    conform_holds(by[0] == 0 && by[1] == CU_DEVICE_INVALID && by[2] == CU_DEVICE_INVALID,
                  "is the gpu and nobody else");
    conform_status(DRV(cuMemAdvise_v2)(address, CHUNK, CU_MEM_ADVISE_SET_ACCESSED_BY, none),
                   CUDA_ERROR_INVALID_DEVICE, "a gpu that is none is an invalid device");
    conform_status(DRV(cuMemAdvise)(address, CHUNK, (CUmem_advise)77, 0), CUDA_ERROR_INVALID_VALUE,
                   "advice that is none is an invalid value");
    conform_status(
        DRV(cuMemRangeGetAttribute)(by, 3, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, address, CHUNK),
        CUDA_ERROR_INVALID_VALUE, "an answer of 3 bytes is an invalid value");
}

static void check_prefetch(CUdeviceptr address)
{
    const uint64_t free_before = conform_free_bytes();
    const CUmemLocation host = { CU_MEM_LOCATION_TYPE_HOST, 0 };

    conform_number(
        (uint64_t)attribute(address, CHUNK, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION),
        (uint64_t)CU_DEVICE_INVALID, "nothing was prefetched at first");
    conform_status(DRV(cuMemPrefetchAsync)(address, CHUNK, 0, NULL), CUDA_SUCCESS,
                   "cuMemPrefetchAsync to the gpu");
    conform_status(DRV(cuCtxSynchronize)(), CUDA_SUCCESS, "cuCtxSynchronize");
    conform_holds(conform_free_bytes() <= free_before, "the gpu has no more free than before");
    conform_number(
        (uint64_t)attribute(address, CHUNK, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION), 0,
        "the last prefetch went to the gpu");
    conform_status(DRV(cuMemPrefetchAsync_v2)(address, CHUNK, host, 0, NULL), CUDA_SUCCESS,
                   "cuMemPrefetchAsync to the host");
    conform_status(DRV(cuCtxSynchronize)(), CUDA_SUCCESS, "cuCtxSynchronize");
    conform_number(
        (uint64_t)attribute(address, CHUNK, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE),
        CU_MEM_LOCATION_TYPE_HOST, "the last prefetch went to the host");
    conform_status(DRV(cuMemPrefetchAsync_v2)(address, CHUNK, host, 1, NULL),
                   CUDA_ERROR_INVALID_VALUE, "a prefetch with flags is an invalid value");
    conform_status(DRV(cuMemPrefetchAsync)(address, CHUNK, 9999, NULL), CUDA_ERROR_INVALID_DEVICE,
                   "a prefetch to a gpu that is none is an invalid device");
    conform_status(DRV(cuMemPrefetchAsync)(address, 0, 0, NULL), CUDA_ERROR_INVALID_VALUE,
                   "a prefetch of nothing is an invalid value");
}

static void check_attach(CUdeviceptr address)
{
    CUstream stream = NULL;

    conform_status(DRV(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS,
                   "cuStreamCreate");
    conform_status(DRV(cuStreamAttachMemAsync)(stream, address, 0, CU_MEM_ATTACH_SINGLE),
                   CUDA_SUCCESS, "managed memory belongs to a stream");
    conform_status(DRV(cuStreamAttachMemAsync)(NULL, address, 0, CU_MEM_ATTACH_SINGLE),
                   CUDA_ERROR_INVALID_VALUE, "to the null stream alone is an invalid value");
    conform_status(DRV(cuStreamAttachMemAsync)(stream, address, CHUNK / 2, CU_MEM_ATTACH_GLOBAL),
                   CUDA_ERROR_INVALID_VALUE, "a part of it is an invalid value");
    conform_status(DRV(cuStreamAttachMemAsync)(stream, address, CHUNK, CU_MEM_ATTACH_GLOBAL),
                   CUDA_SUCCESS, "all of it to all streams");
    conform_status(DRV(cuStreamDestroy_v2)(stream), CUDA_SUCCESS, "cuStreamDestroy");
}

/* More than the card has, of which nothing is touched. */
static void check_oversubscription(void)
{
    CUdeviceptr address = 0;
    size_t free_bytes = 0, total_bytes = 0;
    const uint64_t free_before = conform_free_bytes();

    conform_status(DRV(cuMemGetInfo_v2)(&free_bytes, &total_bytes), CUDA_SUCCESS, "cuMemGetInfo");
    conform_status(
        DRV(cuMemAllocManaged)(&address, total_bytes + total_bytes / 4, CU_MEM_ATTACH_GLOBAL),
        CUDA_SUCCESS, "more managed memory than the card has");
    conform_holds(free_before - conform_free_bytes() < 64 * MIB, "takes next to nothing of it");
    conform_status(DRV(cuMemFree_v2)(address), CUDA_SUCCESS, "cuMemFree");
}

void conform_managed(void)
{
    int is_concurrent = 0;
    CUdeviceptr address = 0;

    conform_status(
        DRV(cuDeviceGetAttribute)(&is_concurrent, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 0),
        CUDA_SUCCESS, "whether host and gpu may touch managed memory at one time");
    check_arguments();
    conform_status(DRV(cuMemAllocManaged)(&address, CHUNK, CU_MEM_ATTACH_GLOBAL), CUDA_SUCCESS,
                   "cuMemAllocManaged");
    check_pointer(address);
    check_bytes(address);
    if (is_concurrent != 0) {
        check_advice(address);
        check_prefetch(address);
        check_oversubscription();
    }
    check_attach(address);
    conform_status(DRV(cuMemFree_v2)(address), CUDA_SUCCESS, "cuMemFree of managed memory");
}
