/* SPDX-License-Identifier: Apache-2.0 */

/* Memory on the host at the device's addresses, and what peers are told. */

#include <unistd.h>

#include "conform.h"
#include "cuda/context.h"

#define GRANULE (2 * MIB)

static const CUmemAllocationProp on_gpu = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                            .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 } };
static const CUmemAllocationProp on_host = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                             .location = { CU_MEM_LOCATION_TYPE_HOST_NUMA, 0 } };
static const CUmemAccessDesc by_gpu = { { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
                                        CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
static const CUmemAccessDesc by_host = { { CU_MEM_LOCATION_TYPE_HOST_NUMA, 0 },
                                         CU_MEM_ACCESS_FLAGS_PROT_READWRITE };

static void check_arguments(void)
{
    CUmemAllocationProp wrong = on_host;
    CUmemGenericAllocationHandle handle = 0;
    CUdeviceptr address = 0;

    wrong.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
    conform_status(DRV(cuMemCreate)(&handle, GRANULE, &wrong, 0), CUDA_ERROR_INVALID_VALUE,
                   "creating on the current node is an invalid value");
    wrong.location.type = CU_MEM_LOCATION_TYPE_HOST;
    wrong.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    conform_status(DRV(cuMemCreate)(&handle, GRANULE, &wrong, 0), CUDA_ERROR_INVALID_VALUE,
                   "creating on the host for export is an invalid value");
    conform_status(DRV(cuMemCreate)(&handle, GRANULE, &on_gpu, 0), CUDA_SUCCESS, "cuMemCreate");
    conform_status(DRV(cuMemAddressReserve)(&address, GRANULE, 0, 0, 0), CUDA_SUCCESS,
                   "cuMemAddressReserve");
    conform_status(DRV(cuMemMap)(address, GRANULE, 0, handle, 0), CUDA_SUCCESS, "cuMemMap");
    conform_holds(DRV(cuMemSetAccess)(address, GRANULE, &by_host, 1) != CUDA_SUCCESS,
                  "the host gets no access to memory of a gpu");
    conform_status(DRV(cuMemUnmap)(address, GRANULE), CUDA_SUCCESS, "cuMemUnmap");
    conform_status(DRV(cuMemAddressFree)(address, GRANULE), CUDA_SUCCESS, "cuMemAddressFree");
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS, "cuMemRelease");
}

/* What was on the gpu goes on at the same address on the host: slower, and off the card. */
static void check_demotion(void)
{
    const uint64_t free_before = conform_free_bytes();
    const CUmemAccessDesc both[] = { by_gpu, by_host };
    CUmemGenericAllocationHandle handle = 0;
    unsigned long long flags = 0;
    CUdeviceptr address = 0;
    unsigned char byte = 0;

    conform_status(DRV(cuMemAddressReserve)(&address, GRANULE, 0, 0, 0), CUDA_SUCCESS,
                   "cuMemAddressReserve");
    conform_status(DRV(cuMemCreate)(&handle, GRANULE, &on_gpu, 0), CUDA_SUCCESS, "on the gpu");
    conform_status(DRV(cuMemMap)(address, GRANULE, 0, handle, 0), CUDA_SUCCESS, "cuMemMap");
    conform_status(DRV(cuMemUnmap)(address, GRANULE), CUDA_SUCCESS, "cuMemUnmap");
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS, "cuMemRelease");
    conform_status(DRV(cuMemCreate)(&handle, GRANULE, &on_host, 0), CUDA_SUCCESS, "on the host");
    conform_number(conform_free_bytes(), free_before, "the card has all its bytes");
    conform_status(DRV(cuMemMap)(address, GRANULE, 0, handle, 0), CUDA_SUCCESS,
                   "cuMemMap at the same address");
    conform_status(DRV(cuMemSetAccess)(address, GRANULE, both, 2), CUDA_SUCCESS,
                   "cuMemSetAccess for gpu and host");
    conform_status(DRV(cuMemGetAccess)(&flags, &by_host.location, address), CUDA_SUCCESS,
                   "cuMemGetAccess of the host");
    conform_number(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "it may read and write");
    conform_status(DRV(cuMemsetD8_v2)(address, 0x19, GRANULE), CUDA_SUCCESS, "the gpu writes");
    conform_status(DRV(cuCtxSynchronize)(), CUDA_SUCCESS, "cuCtxSynchronize");
    volatile unsigned char *const bytes =
        (volatile unsigned char *)(uintptr_t)address; /* NOLINT: it is both */
    conform_number(bytes[GRANULE - 1], 0x19, "the host reads it there");
    bytes[7] = 0x23;
    conform_status(DRV(cuMemcpyDtoH_v2)(&byte, address + 7, 1), CUDA_SUCCESS, "the gpu reads");
    conform_number(byte, 0x23, "what the host has written");
    conform_status(DRV(cuMemUnmap)(address, GRANULE), CUDA_SUCCESS, "cuMemUnmap");
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS, "cuMemRelease");
    conform_status(DRV(cuMemAddressFree)(address, GRANULE), CUDA_SUCCESS, "cuMemAddressFree");
}

static void check_export(void)
{
    CUmemAllocationProp exportable = on_host, told = on_gpu;
    CUmemGenericAllocationHandle handle = 0, imported = 0;
    int fd = -1;

    exportable.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    conform_status(DRV(cuMemCreate)(&handle, GRANULE, &exportable, 0), CUDA_SUCCESS,
                   "memory of a node for export");
    conform_status(
        DRV(cuMemExportToShareableHandle)(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
        CUDA_SUCCESS, "is exported");
    conform_status(DRV(cuMemImportFromShareableHandle)(
                       &imported, (void *)(uintptr_t)(unsigned)fd, /* NOLINT: as it is wanted */
                       CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
                   CUDA_SUCCESS, "and imported");
    conform_status(DRV(cuMemGetAllocationPropertiesFromHandle)(&told, imported), CUDA_SUCCESS,
                   "cuMemGetAllocationPropertiesFromHandle");
    conform_number(told.location.type, CU_MEM_LOCATION_TYPE_HOST_NUMA, "it is on the host");
    conform_status(DRV(cuMemRelease)(imported), CUDA_SUCCESS, "cuMemRelease of the import");
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS, "cuMemRelease");
    conform_number(close(fd) < 0, 0, "the descriptor is the program's");
}

void conform_vmm_host(void)
{
    int has_nodes = 0, has_host = 0;

    conform_status(
        DRV(cuDeviceGetAttribute)(
            &has_nodes, CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0),
        CUDA_SUCCESS, "whether memory can be created on the host's nodes");
    conform_status(DRV(cuDeviceGetAttribute)(
                       &has_host, CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0),
                   CUDA_SUCCESS, "or on the host");
    if (has_nodes == 0 || has_host == 0)
        return;
    check_arguments();
    check_demotion();
    check_export();
}

void conform_peer(void)
{
    CUcontext context = NULL;
    int value = 7;

    conform_status(DRV(cuCtxGetCurrent)(&context), CUDA_SUCCESS, "cuCtxGetCurrent");
    conform_status(DRV(cuDeviceCanAccessPeer)(&value, 0, 9999), CUDA_ERROR_INVALID_DEVICE,
                   "access to gpu 9999 is an invalid device");
    conform_status(
        DRV(cuDeviceGetP2PAttribute)(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 0),
        CUDA_ERROR_INVALID_DEVICE, "the link of a gpu to itself is an invalid device");
    conform_status(DRV(cuCtxEnablePeerAccess)(context, 0), CUDA_ERROR_INVALID_CONTEXT,
                   "access of a context to itself is an invalid context");
    conform_status(DRV(cuCtxEnablePeerAccess)(NULL, 0), CUDA_ERROR_INVALID_CONTEXT,
                   "access to no context is an invalid context");
}
