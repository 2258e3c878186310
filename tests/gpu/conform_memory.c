/* SPDX-License-Identifier: Apache-2.0 */

/* cuMemAlloc and cuMemFree, what an address is, and copies that leave their allocation. */

#include <string.h>

#include "conform.h"

static void check_arguments(void)
{
    CUdeviceptr address = 0;
    size_t bytes = 0;

    conform_status(DRV(cuMemAlloc_v2)(&address, 0), CUDA_ERROR_INVALID_VALUE,
                   "cuMemAlloc of 0 bytes is an invalid value");
    conform_status(DRV(cuMemAlloc_v2)(NULL, 512), CUDA_ERROR_INVALID_VALUE,
                   "cuMemAlloc without a place for the address is an invalid value");
    conform_status(DRV(cuMemFree_v2)(0), CUDA_SUCCESS, "cuMemFree of 0 does nothing");
    address = 0;
    conform_status(DRV(cuMemAlloc_v2)(&address, (size_t)1 << 46), CUDA_ERROR_OUT_OF_MEMORY,
                   "cuMemAlloc of 64 TiB is out of memory");
    conform_number(address, 0, "a refused cuMemAlloc leaves the address alone");
    conform_status(DRV(cuMemGetAddressRange_v2)(&address, &bytes, 4096), CUDA_ERROR_NOT_FOUND,
                   "cuMemGetAddressRange of no allocation finds nothing");
}

static void check_allocation(void)
{
    const uint64_t free_before = conform_free_bytes();
    CUdeviceptr address = 0, base = 0;
    size_t bytes = 0;
    unsigned int type = 0;

    conform_status(DRV(cuMemAlloc_v2)(&address, 64 * MIB), CUDA_SUCCESS, "cuMemAlloc of 64 MiB");
    conform_number(free_before - conform_free_bytes(), 64 * MIB, "64 MiB take 64 MiB of the card");
    conform_number(address % 256, 0, "an address is aligned to 256 bytes");
    conform_status(DRV(cuMemGetAddressRange_v2)(&base, &bytes, address + 12345), CUDA_SUCCESS,
                   "cuMemGetAddressRange inside an allocation");
    conform_number(base, address, "the range starts at the allocation");
    conform_number(bytes, 64 * MIB, "the range is as long as the allocation");
    conform_status(DRV(cuPointerGetAttribute)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address + 1),
                   CUDA_SUCCESS, "the memory type of a device address");
    conform_number(type, CU_MEMORYTYPE_DEVICE, "it is device memory");
    conform_status(DRV(cuMemFree_v2)(address + 256), CUDA_ERROR_INVALID_VALUE,
                   "cuMemFree inside an allocation is an invalid value");
    conform_status(DRV(cuMemFree_v2)(address), CUDA_SUCCESS, "cuMemFree");
    conform_status(DRV(cuMemFree_v2)(address), CUDA_ERROR_INVALID_VALUE,
                   "a second cuMemFree is an invalid value");
    conform_number(conform_free_bytes(), free_before, "what is freed is free");
}

static void check_copies(void)
{
    static unsigned char out[4096], back[4096];
    CUdeviceptr address = 0;

    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (unsigned char)(i * 7 + 3);
    conform_status(DRV(cuMemAlloc_v2)(&address, 4 * MIB), CUDA_SUCCESS, "cuMemAlloc of 4 MiB");
    conform_status(DRV(cuMemcpyHtoD_v2)(address, out, 0), CUDA_SUCCESS, "a copy of nothing");
    conform_status(DRV(cuMemcpyHtoD_v2)(address + 100, out, sizeof(out)), CUDA_SUCCESS,
                   "a copy to the device");
    conform_status(DRV(cuMemcpyDtoH_v2)(back, address + 100, sizeof(back)), CUDA_SUCCESS,
                   "a copy back");
    conform_holds(memcmp(out, back, sizeof(out)) == 0, "the bytes come back");
    conform_status(DRV(cuMemcpyDtoH_v2)(back, 4096, 16), CUDA_ERROR_INVALID_VALUE,
                   "a copy from no allocation is an invalid value");
    conform_status(DRV(cuMemsetD32_v2)(address + 2, 1, 4), CUDA_ERROR_INVALID_VALUE,
                   "cuMemsetD32 to an odd address is an invalid value");
    conform_status(DRV(cuMemFree_v2)(address), CUDA_SUCCESS, "cuMemFree");
}

void conform_memory(void)
{
    check_arguments();
    check_allocation();
    check_copies();
}
