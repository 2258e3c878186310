/* SPDX-License-Identifier: Apache-2.0 */

/* Virtual memory management: each rule of its documentation, and what an allocation costs when. */

#include <string.h>
#include <unistd.h>

#include "conform.h"
#include "cuda/ipc.h"

static const CUmemAllocationProp plain = {
    .type = CU_MEM_ALLOCATION_TYPE_PINNED,
    .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
};
static const CUmemAllocationProp exportable = {
    .type = CU_MEM_ALLOCATION_TYPE_PINNED,
    .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
    .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
};
static const CUmemAccessDesc read_write = { { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
                                            CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
static const CUmemAccessDesc read_only = { { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
                                           CU_MEM_ACCESS_FLAGS_PROT_READ };
static uint64_t granule;

static CUmemGenericAllocationHandle create(uint64_t bytes, const CUmemAllocationProp *properties)
{
    CUmemGenericAllocationHandle handle = 0;

    conform_status(DRV(cuMemCreate)(&handle, bytes, properties, 0), CUDA_SUCCESS, "cuMemCreate");
    return handle;
}

static CUdeviceptr reserve(uint64_t bytes)
{
    CUdeviceptr address = 0;

    conform_status(DRV(cuMemAddressReserve)(&address, bytes, 0, 0, 0), CUDA_SUCCESS,
                   "cuMemAddressReserve");
    return address;
}

static void map(CUdeviceptr address, uint64_t bytes, CUmemGenericAllocationHandle handle)
{
    conform_status(DRV(cuMemMap)(address, bytes, 0, handle, 0), CUDA_SUCCESS, "cuMemMap");
}

static void check_granularity(void)
{
    CUmemAllocationProp wrong = plain;
    size_t bytes = 0;

    conform_status(
        DRV(cuMemGetAllocationGranularity)(&bytes, &plain, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
        CUDA_SUCCESS, "cuMemGetAllocationGranularity");
    conform_number(bytes, 2 * MIB, "the granularity is 2 MiB");
    granule = bytes;
    conform_status(
        DRV(cuMemGetAllocationGranularity)(NULL, &plain, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
        CUDA_ERROR_INVALID_VALUE, "granularity without a place for it is an invalid value");
    conform_status(
        DRV(cuMemGetAllocationGranularity)(&bytes, &plain, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
        CUDA_SUCCESS, "the recommended granularity");
    conform_holds(bytes >= granule && bytes % granule == 0, "is a multiple of the least");
    conform_status(
        DRV(cuMemGetAllocationGranularity)(&bytes, &plain, (CUmemAllocationGranularity_flags)7),
        CUDA_ERROR_INVALID_VALUE, "granularity of a third kind is an invalid value");
    wrong.type = CU_MEM_ALLOCATION_TYPE_INVALID;
    conform_status(
        DRV(cuMemGetAllocationGranularity)(&bytes, &wrong, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
        CUDA_ERROR_INVALID_VALUE, "granularity of an invalid type is an invalid value");
}

static void check_reserve(void)
{
    CUdeviceptr address = 0;

    conform_status(DRV(cuMemAddressReserve)(&address, 0, 0, 0, 0), CUDA_ERROR_INVALID_VALUE,
                   "reserving 0 bytes is an invalid value");
    conform_status(DRV(cuMemAddressReserve)(&address, 1000, 0, 0, 0), CUDA_ERROR_INVALID_VALUE,
                   "reserving no multiple of a host page is an invalid value");
    conform_status(DRV(cuMemAddressReserve)(&address, granule, 3, 0, 0), CUDA_ERROR_INVALID_VALUE,
                   "an alignment that is no power of two is an invalid value");
    conform_status(DRV(cuMemAddressReserve)(&address, granule, 0, 0, 1), CUDA_ERROR_INVALID_VALUE,
                   "reserving with flags is an invalid value");
    conform_status(DRV(cuMemAddressReserve)(&address, granule, 64 * MIB, 0, 0), CUDA_SUCCESS,
                   "reserving with an alignment of 64 MiB");
    conform_number(address % (64 * MIB), 0, "the alignment is kept");
    conform_status(DRV(cuMemAddressFree)(address, 2 * granule), CUDA_ERROR_INVALID_VALUE,
                   "freeing another size is an invalid value");
    conform_status(DRV(cuMemAddressFree)(address, granule), CUDA_SUCCESS, "cuMemAddressFree");
    conform_status(DRV(cuMemAddressFree)(address, granule), CUDA_ERROR_INVALID_VALUE,
                   "freeing it again is an invalid value");
}

static void check_create(void)
{
    const uint64_t free_before = conform_free_bytes();
    CUmemGenericAllocationHandle handle = 0;
    CUmemAllocationProp wrong = plain;

    conform_status(DRV(cuMemCreate)(&handle, granule + 4096, &plain, 0), CUDA_ERROR_INVALID_VALUE,
                   "creating no multiple of the granularity is an invalid value");
    conform_status(DRV(cuMemCreate)(&handle, 0, &plain, 0), CUDA_ERROR_INVALID_VALUE,
                   "creating 0 bytes is an invalid value");
    conform_status(DRV(cuMemCreate)(&handle, granule, &plain, 1), CUDA_ERROR_INVALID_VALUE,
                   "creating with flags is an invalid value");
    wrong.location.id = 9999;
    conform_status(DRV(cuMemCreate)(&handle, granule, &wrong, 0), CUDA_ERROR_INVALID_DEVICE,
                   "creating on gpu 9999 is an invalid device");
    conform_status(DRV(cuMemCreate)(&handle, (size_t)1 << 46, &plain, 0), CUDA_ERROR_OUT_OF_MEMORY,
                   "creating 64 TiB is out of memory");
    handle = create(16 * granule, &plain);
    conform_number(free_before - conform_free_bytes(), 16 * granule,
                   "the card gives its bytes at cuMemCreate");
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS, "cuMemRelease");
    conform_number(conform_free_bytes(), free_before, "without a mapping it takes them back");
}

static void check_map_arguments(CUdeviceptr address, CUmemGenericAllocationHandle handle)
{
    conform_status(DRV(cuMemMap)(address, granule, granule, handle, 0), CUDA_ERROR_INVALID_VALUE,
                   "mapping from an offset is an invalid value");
    conform_status(DRV(cuMemMap)(address, 4096, 0, handle, 0), CUDA_ERROR_INVALID_VALUE,
                   "mapping no multiple of the granularity is an invalid value");
    conform_status(DRV(cuMemMap)(address + 4096, granule, 0, handle, 0), CUDA_ERROR_INVALID_VALUE,
                   "mapping to an unaligned address is an invalid value");
    conform_status(DRV(cuMemMap)(address, 3 * granule, 0, handle, 0), CUDA_ERROR_INVALID_VALUE,
                   "mapping more than there is is an invalid value");
    conform_status(DRV(cuMemMap)(address + 7 * granule, 2 * granule, 0, handle, 0),
                   CUDA_ERROR_INVALID_VALUE,
                   "mapping over the reservation's end is an invalid "
                   "value");
    conform_status(DRV(cuMemMap)(address, granule, 0, handle, 0), CUDA_ERROR_INVALID_VALUE,
                   "mapping less than there is is an invalid value");
    conform_status(DRV(cuMemMap)(address, 0, 0, handle, 0), CUDA_ERROR_INVALID_VALUE,
                   "mapping 0 bytes is an invalid value");
    conform_status(DRV(cuMemMap)(address, 2 * granule, 0, handle, 1), CUDA_ERROR_INVALID_VALUE,
                   "mapping with flags is an invalid value");
}

static void check_map(void)
{
    const CUdeviceptr address = reserve(8 * granule);
    const CUmemGenericAllocationHandle first = create(2 * granule, &plain);
    const CUmemGenericAllocationHandle second = create(granule, &plain);

    check_map_arguments(address, first);
    map(address, 2 * granule, first);
    conform_status(DRV(cuMemMap)(address + granule, granule, 0, second, 0),
                   CUDA_ERROR_INVALID_VALUE, "mapping where something is is an invalid value");
    map(address + 2 * granule, granule, second);
    conform_status(DRV(cuMemUnmap)(address, granule), CUDA_ERROR_INVALID_VALUE,
                   "unmapping part of a mapping is an invalid value");
    conform_status(DRV(cuMemUnmap)(address, 4 * granule), CUDA_ERROR_INVALID_VALUE,
                   "unmapping more than is mapped is an invalid value");
    conform_status(DRV(cuMemAddressFree)(address, 8 * granule), CUDA_ERROR_INVALID_VALUE,
                   "freeing addresses with mappings is an invalid value");
    conform_status(DRV(cuMemUnmap)(address, 3 * granule), CUDA_SUCCESS,
                   "unmapping two whole mappings at once");
    conform_status(DRV(cuMemUnmap)(address, 3 * granule), CUDA_ERROR_INVALID_VALUE,
                   "unmapping them again is an invalid value");
    conform_status(DRV(cuMemRelease)(first), CUDA_SUCCESS, "cuMemRelease");
    conform_status(DRV(cuMemRelease)(second), CUDA_SUCCESS, "cuMemRelease");
    conform_status(DRV(cuMemAddressFree)(address, 8 * granule), CUDA_SUCCESS, "cuMemAddressFree");
}

static void check_access(void)
{
    static unsigned char out[4096], back[4096];
    const CUdeviceptr address = reserve(2 * granule);
    const CUmemGenericAllocationHandle first = create(granule, &plain);
    const CUmemGenericAllocationHandle second = create(granule, &plain);
    const CUdeviceptr middle = address + granule - sizeof(out) / 2;
    unsigned long long flags = 9;

    memset(out, 0x5a, sizeof(out));
    map(address, granule, first);
    conform_status(DRV(cuMemSetAccess)(address, 2 * granule, &read_write, 1),
                   CUDA_ERROR_INVALID_VALUE,
                   "access to addresses without memory is an invalid "
                   "value");
    map(address + granule, granule, second);
    conform_status(DRV(cuMemGetAccess)(&flags, &read_write.location, address), CUDA_SUCCESS,
                   "cuMemGetAccess");
    conform_number(flags, CU_MEM_ACCESS_FLAGS_PROT_NONE, "a new mapping can not be touched");
    conform_status(DRV(cuMemcpyHtoD_v2)(address, out, sizeof(out)), CUDA_ERROR_INVALID_VALUE,
                   "a copy to where there is no access is an invalid value");
    conform_status(DRV(cuMemSetAccess)(address, 2 * granule, &read_write, 1), CUDA_SUCCESS,
                   "cuMemSetAccess over two mappings");
    conform_status(DRV(cuMemGetAccess)(&flags, &read_write.location, address + granule + 5),
                   CUDA_SUCCESS, "cuMemGetAccess inside a mapping");
    conform_number(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "access is as it was set");
    conform_status(DRV(cuMemcpyHtoD_v2)(middle, out, sizeof(out)), CUDA_SUCCESS,
                   "a copy over two mappings");
    conform_status(DRV(cuMemcpyDtoH_v2)(back, middle, sizeof(back)), CUDA_SUCCESS, "and back");
    conform_holds(memcmp(out, back, sizeof(out)) == 0, "the bytes come back");
    conform_status(DRV(cuMemSetAccess)(address, 2 * granule, &read_only, 1), CUDA_SUCCESS,
                   "access to read only");
    conform_status(DRV(cuMemcpyHtoD_v2)(middle, out, sizeof(out)), CUDA_ERROR_INVALID_VALUE,
                   "a copy to where only reading is allowed is an invalid value");
    conform_status(DRV(cuMemcpyDtoH_v2)(back, middle, sizeof(back)), CUDA_SUCCESS,
                   "reading is allowed");
    conform_status(DRV(cuMemUnmap)(address, 2 * granule), CUDA_SUCCESS, "cuMemUnmap");
    conform_status(DRV(cuMemcpyDtoH_v2)(back, address, 16), CUDA_ERROR_INVALID_VALUE,
                   "a copy from addresses without memory is an invalid value");
    conform_status(DRV(cuMemRelease)(first), CUDA_SUCCESS, "cuMemRelease");
    conform_status(DRV(cuMemRelease)(second), CUDA_SUCCESS, "cuMemRelease");
    conform_status(DRV(cuMemAddressFree)(address, 2 * granule), CUDA_SUCCESS, "cuMemAddressFree");
}

/* One memory at two addresses, and access that is none. */
static void check_aliases(void)
{
    const CUdeviceptr address = reserve(3 * granule);
    const CUmemGenericAllocationHandle handle = create(granule, &plain);
    CUmemAccessDesc wrong = read_write;
    unsigned long long flags = 0;
    unsigned char byte = 0;

    map(address, granule, handle);
    map(address + 2 * granule, granule, handle);
    conform_status(DRV(cuMemSetAccess)(address, 3 * granule, &read_write, 1),
                   CUDA_ERROR_INVALID_VALUE, "access over a gap is an invalid value");
    conform_status(DRV(cuMemUnmap)(address, 3 * granule), CUDA_ERROR_INVALID_VALUE,
                   "unmapping over a gap is an invalid value");
    conform_status(DRV(cuMemSetAccess)(address, granule, &read_write, 1), CUDA_SUCCESS,
                   "access to the first mapping of it");
    conform_status(DRV(cuMemGetAccess)(&flags, &read_write.location, address + 2 * granule),
                   CUDA_SUCCESS, "cuMemGetAccess of the second");
    conform_number(flags, CU_MEM_ACCESS_FLAGS_PROT_NONE, "each mapping has its own access");
    conform_status(DRV(cuMemSetAccess)(address + 2 * granule, granule, &read_only, 1), CUDA_SUCCESS,
                   "access to the second");
    conform_status(DRV(cuMemsetD8_v2)(address, 0x3d, granule), CUDA_SUCCESS, "a set of the first");
    conform_status(DRV(cuMemcpyDtoH_v2)(&byte, address + 2 * granule, 1), CUDA_SUCCESS,
                   "a copy from the second");
    conform_number(byte, 0x3d, "is of the same memory");
    wrong.flags = (CUmemAccess_flags)2;
    conform_status(DRV(cuMemSetAccess)(address, granule, &wrong, 1), CUDA_ERROR_INVALID_VALUE,
                   "access that is none of the three is an invalid value");
    wrong.location.id = 9999;
    conform_status(DRV(cuMemGetAccess)(&flags, &wrong.location, address), CUDA_ERROR_INVALID_DEVICE,
                   "access of gpu 9999 is an invalid device");
    conform_status(DRV(cuMemUnmap)(address, granule), CUDA_SUCCESS, "cuMemUnmap of the first");
    conform_status(DRV(cuMemcpyDtoH_v2)(&byte, address + 2 * granule, 1), CUDA_SUCCESS,
                   "the second is as before");
    conform_status(DRV(cuMemUnmap)(address + 2 * granule, granule), CUDA_SUCCESS, "cuMemUnmap");
    map(address, granule, handle);
    conform_status(DRV(cuMemGetAccess)(&flags, &read_write.location, address), CUDA_SUCCESS,
                   "cuMemGetAccess of a new mapping");
    conform_number(flags, CU_MEM_ACCESS_FLAGS_PROT_NONE, "it has no access of the one before it");
    conform_status(DRV(cuMemUnmap)(address, granule), CUDA_SUCCESS, "cuMemUnmap");
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS, "cuMemRelease");
    conform_status(DRV(cuMemAddressFree)(address, 3 * granule), CUDA_SUCCESS, "cuMemAddressFree");
}

static void check_references(void)
{
    const uint64_t free_before = conform_free_bytes();
    const CUdeviceptr address = reserve(granule);
    const CUmemGenericAllocationHandle handle = create(granule, &plain);
    CUmemGenericAllocationHandle again = 0;

    map(address, granule, handle);
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS, "cuMemRelease with a mapping");
    conform_number(free_before - conform_free_bytes(), granule, "the mapping keeps the memory");
    conform_status(DRV(cuMemRetainAllocationHandle)(&again, (void *)(uintptr_t)(address + 77)),
                   CUDA_SUCCESS,
                   "cuMemRetainAllocationHandle inside a mapping"); /* NOLINT: a device address */
    conform_number(again, handle, "the handle is the one that it was mapped by");
    conform_status(DRV(cuMemUnmap)(address, granule), CUDA_SUCCESS, "cuMemUnmap");
    conform_number(free_before - conform_free_bytes(), granule, "the handle keeps the memory");
    conform_status(DRV(cuMemRelease)(again), CUDA_SUCCESS, "cuMemRelease");
    conform_number(conform_free_bytes(), free_before, "the last reference gives it back");
    conform_status(
        DRV(cuMemRetainAllocationHandle)(&again, (void *)(uintptr_t)address),
        CUDA_ERROR_INVALID_VALUE,
        "the handle of addresses without memory is an invalid value"); /* NOLINT: as above */
    conform_status(DRV(cuMemAddressFree)(address, granule), CUDA_SUCCESS, "cuMemAddressFree");
}

static void check_properties(void)
{
    const CUmemGenericAllocationHandle handle = create(granule, &exportable);
    const CUmemGenericAllocationHandle unshared = create(granule, &plain);
    CUmemAllocationProp properties = { .type = CU_MEM_ALLOCATION_TYPE_INVALID };
    int fd = -1;

    conform_status(DRV(cuMemGetAllocationPropertiesFromHandle)(&properties, handle), CUDA_SUCCESS,
                   "cuMemGetAllocationPropertiesFromHandle");
    conform_number((uint64_t)properties.location.id, 0, "the memory's gpu");
    conform_number(properties.requestedHandleTypes, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                   "the memory's handle types");
    conform_status(DRV(cuMemExportToShareableHandle)(&fd, unshared,
                                                     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
                   CUDA_ERROR_INVALID_VALUE,
                   "exporting what was not made for it is an invalid value");
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS, "cuMemRelease");
    conform_status(DRV(cuMemRelease)(unshared), CUDA_SUCCESS, "cuMemRelease");
}

static void check_export(void)
{
    const uint64_t free_before = conform_free_bytes();
    const CUmemGenericAllocationHandle handle = create(granule, &exportable);
    CUmemGenericAllocationHandle imported = 0;
    int fd = -1;

    conform_status(
        DRV(cuMemExportToShareableHandle)(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 1),
        CUDA_ERROR_INVALID_VALUE, "exporting with flags is an invalid value");
    conform_status(
        DRV(cuMemExportToShareableHandle)(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
        CUDA_SUCCESS, "cuMemExportToShareableHandle");
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS, "cuMemRelease");
    conform_number(free_before - conform_free_bytes(), granule, "the descriptor keeps the memory");
    conform_status(DRV(cuMemImportFromShareableHandle)(&imported, (void *)(uintptr_t)(unsigned)fd,
                                                       CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
                   CUDA_SUCCESS,
                   "cuMemImportFromShareableHandle"); /* NOLINT: as the driver wants it */
    conform_number(close(fd) < 0, 0, "the descriptor is still open and the program's");
    conform_number(free_before - conform_free_bytes(), granule, "the import keeps the memory");
    conform_status(DRV(cuMemRelease)(imported), CUDA_SUCCESS, "cuMemRelease of an import");
    conform_number(conform_free_bytes(), free_before, "the last reference gives it back");
}

static void check_attributes(void)
{
    const CUdeviceptr address = reserve(4 * granule);
    const CUmemGenericAllocationHandle handle = create(granule, &plain);
    CUdeviceptr start = 0;
    size_t bytes = 0;
    unsigned char is_mapped = 9;
    CUipcMemHandle shared;

    map(address + granule, granule, handle);
    conform_status(DRV(cuPointerGetAttribute)(&start, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
                                              address + granule + 3),
                   CUDA_SUCCESS, "where the addresses around a mapping start");
    conform_number(start, address, "they start with the reservation");
    conform_status(
        DRV(cuPointerGetAttribute)(&bytes, CU_POINTER_ATTRIBUTE_RANGE_SIZE, address + granule + 3),
        CUDA_SUCCESS, "how many they are");
    conform_number(bytes, 4 * granule, "they are the reservation");
    conform_status(
        DRV(cuPointerGetAttribute)(&is_mapped, CU_POINTER_ATTRIBUTE_MAPPED, address + granule),
        CUDA_SUCCESS, "whether an address has memory");
    conform_number(is_mapped, 1, "a mapped one has");
    conform_status(DRV(cuPointerGetAttribute)(&is_mapped, CU_POINTER_ATTRIBUTE_MAPPED, address),
                   CUDA_SUCCESS, "whether a reserved address has memory");
    conform_number(is_mapped, 0, "an unmapped one has not");
    conform_status(DRV(cuMemGetAddressRange_v2)(&start, &bytes, address + granule + 3),
                   CUDA_SUCCESS, "cuMemGetAddressRange of a mapping");
    conform_number(start, address + granule, "it is the mapping's start");
    conform_number(bytes, granule, "and size");
    conform_status(DRV(cuMemFree_v2)(address + granule), CUDA_ERROR_INVALID_VALUE,
                   "cuMemFree of a mapping is an invalid value");
    conform_status(DRV(cuMemFreeAsync)(address + granule, NULL), CUDA_ERROR_INVALID_VALUE,
                   "cuMemFreeAsync of a mapping is an invalid value");
    conform_status(DRV(cuIpcGetMemHandle)(&shared, address + granule), CUDA_ERROR_INVALID_VALUE,
                   "cuIpcGetMemHandle of a mapping is an invalid value");
    conform_status(DRV(cuMemUnmap)(address + granule, granule), CUDA_SUCCESS, "cuMemUnmap");
    conform_status(DRV(cuMemRelease)(handle), CUDA_SUCCESS, "cuMemRelease");
    conform_status(DRV(cuMemAddressFree)(address, 4 * granule), CUDA_SUCCESS, "cuMemAddressFree");
}

void conform_vmm(void)
{
    check_granularity();
    check_reserve();
    check_create();
    check_map();
    check_access();
    check_aliases();
    check_references();
    check_properties();
    check_export();
    check_attributes();
}
