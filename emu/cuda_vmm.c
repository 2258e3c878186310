/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reserved addresses, what is mapped there, and who may touch it.
 */

#include <stdlib.h>

#include "stream.h"
#include "vmm.h"

#define HOST_PAGE_BYTES UINT64_C(4096)

static bool is_granular(uint64_t number)
{
    return number % EMU_PAGE_BYTES == 0;
}

struct reservation *vmm_reservation(CUdeviceptr address, uint64_t bytes)
{
    struct reservation *it = cuda.reservations;

    while (it && (address < it->address || address - it->address >= it->bytes ||
                  bytes > it->bytes - (address - it->address)))
        it = it->next;
    return it;
}

static CUresult reserve(uint64_t bytes, uint64_t alignment, CUdeviceptr *ret_address)
{
    const uint64_t page_count = bytes / EMU_PAGE_BYTES + (bytes % EMU_PAGE_BYTES != 0);
    const uint64_t slack = alignment > EMU_PAGE_BYTES ? alignment / EMU_PAGE_BYTES - 1 : 0;
    struct reservation *const made = calloc(1, sizeof(*made));

    if (!made || space_reserve(page_count + slack, &made->start) < 0) {
        free(made);
        return cuda_count_oom(&cuda.gpus[0]);
    }
    made->page_count = page_count + slack;
    made->address =
        alignment > EMU_PAGE_BYTES ? (made->start + alignment - 1) & ~(alignment - 1) : made->start;
    made->bytes = bytes;
    made->id = ++cuda.next_id;
    made->next = cuda.reservations;
    cuda.reservations = made;
    *ret_address = made->address;
    return CUDA_SUCCESS;
}

/* The hint is one: the addresses come from where the process has room. */
CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr hint,
                             unsigned long long flags)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!address || bytes == 0 || bytes % HOST_PAGE_BYTES != 0 || hint % HOST_PAGE_BYTES != 0 ||
        (alignment & (alignment - 1)) != 0 || flags != 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = reserve(bytes, alignment, address);
    return cuda_leave(status);
}

static bool is_empty(const struct reservation *reservation)
{
    for (uint64_t at = 0; at < reservation->bytes; at += EMU_PAGE_BYTES) {
        if (space_range(reservation->address + at))
            return false;
    }
    return true;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes)
{
    struct reservation **link = &cuda.reservations;
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    while (*link && ((*link)->address != address || (*link)->bytes != bytes))
        link = &(*link)->next;
    struct reservation *const found = *link;
    if (!found || !is_empty(found))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *link = found->next;
    space_unreserve(found->start, found->page_count);
    free(found);
    return cuda_leave(CUDA_SUCCESS);
}

static CUresult map(CUdeviceptr address, uint64_t bytes, struct memory *memory)
{
    struct reservation *const reservation = vmm_reservation(address, bytes);

    if (!reservation)
        return CUDA_ERROR_INVALID_VALUE;
    for (uint64_t at = 0; at < bytes; at += EMU_PAGE_BYTES) {
        if (space_range(address + at))
            return CUDA_ERROR_INVALID_VALUE;
    }
    struct mapping *const made = calloc(1, sizeof(*made));
    if (!made)
        return cuda_count_oom(&cuda.gpus[memory->gpu]);
    made->range = (struct range){ .base = address,
                                  .bytes = bytes,
                                  .page_count = bytes / EMU_PAGE_BYTES,
                                  .offset = memory->offset,
                                  .id = ++cuda.next_id,
                                  .gpu = memory->gpu,
                                  .mapping = made };
    made->memory = memory;
    made->reservation = reservation;
    made->next = reservation->mappings;
    if (made->next)
        made->next->previous = made;
    reservation->mappings = made;
    memory->mapping_count++;
    space_set(address, made->range.page_count, &made->range);
    return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
                  CUmemGenericAllocationHandle handle, unsigned long long flags)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct memory *const memory = vmm_memory(handle);
    if (!memory || !is_granular(address) || offset != 0 || bytes != memory->bytes || flags != 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = map(address, bytes, memory);
    return cuda_leave(status);
}

/* The addresses are those of one or several whole mappings, without a gap. */
static bool covers_mappings(CUdeviceptr address, uint64_t bytes)
{
    uint64_t at = 0;

    if (bytes == 0 || !is_granular(address) || !is_granular(bytes) || address + bytes < address)
        return false;
    while (at < bytes) {
        const struct range *const range = space_range(address + at);
        if (!range || !range->mapping || range->base != address + at || range->bytes > bytes - at)
            return false;
        at += range->bytes;
    }
    return true;
}

static void unmap(struct mapping *mapping)
{
    struct memory *const memory = mapping->memory;
    struct end end = { .gpu = &cuda.gpus[memory->gpu], .offset = memory->offset };

    if (memory->host)
        end = (struct end){ .host = memory->host };
    if (mapping->host_access != CU_MEM_ACCESS_FLAGS_PROT_NONE)
        (void)vmm_host_set_access(mapping, CU_MEM_ACCESS_FLAGS_PROT_NONE);
    race_check_free(&end, mapping->range.bytes, "cuMemUnmap");
    space_set(mapping->range.base, mapping->range.page_count, NULL);
    memory->mapping_count--;
    vmm_settle(memory);
    if (mapping->next)
        mapping->next->previous = mapping->previous;
    if (mapping->previous)
        mapping->previous->next = mapping->next;
    else
        mapping->reservation->mappings = mapping->next;
    free(mapping);
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!covers_mappings(address, bytes))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    for (uint64_t at = 0; at < bytes;) {
        struct mapping *const mapping = space_range(address + at)->mapping;
        at += mapping->range.bytes;
        unmap(mapping);
    }
    return cuda_leave(CUDA_SUCCESS);
}

static CUresult check_access(const CUmemAccessDesc *access)
{
    const CUresult status = vmm_check_location(&access->location);

    if (status != CUDA_SUCCESS)
        return status;
    return access->flags == CU_MEM_ACCESS_FLAGS_PROT_NONE ||
                   access->flags == CU_MEM_ACCESS_FLAGS_PROT_READ ||
                   access->flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE
               ? CUDA_SUCCESS
               : CUDA_ERROR_INVALID_VALUE;
}

/* No card reaches another one's memory, for there is no peer access; and the host only its own. */
static CUresult check_reach(CUdeviceptr address, uint64_t bytes, const CUmemAccessDesc *access)
{
    for (uint64_t at = 0; at < bytes;) {
        const struct range *const range = space_range(address + at);
        const struct memory *const memory = range->mapping->memory;
        if (vmm_is_host(&access->location) && !memory->host)
            return CUDA_ERROR_INVALID_VALUE;
        if (!vmm_is_host(&access->location) && !memory->host &&
            range->gpu != (uint32_t)access->location.id &&
            access->flags != CU_MEM_ACCESS_FLAGS_PROT_NONE)
            return CUDA_ERROR_NOT_SUPPORTED;
        at += range->bytes;
    }
    return CUDA_SUCCESS;
}

static CUresult set_access(struct mapping *mapping, const CUmemAccessDesc *access)
{
    if (vmm_is_host(&access->location))
        return vmm_host_set_access(mapping, access->flags);
    mapping->access[access->location.id] = (unsigned char)access->flags;
    return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *accesses,
                        size_t count)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!accesses || count == 0 || !covers_mappings(address, bytes))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    for (size_t i = 0; i < count && status == CUDA_SUCCESS; i++) {
        status = check_access(&accesses[i]);
        if (status == CUDA_SUCCESS)
            status = check_reach(address, bytes, &accesses[i]);
    }
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    for (uint64_t at = 0; at < bytes && status == CUDA_SUCCESS;) {
        struct mapping *const mapping = space_range(address + at)->mapping;
        for (size_t i = 0; i < count && status == CUDA_SUCCESS; i++)
            status = set_access(mapping, &accesses[i]);
        at += mapping->range.bytes;
    }
    return cuda_leave(status);
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location,
                        CUdeviceptr address)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    const struct range *const range = space_range(address);
    if (!flags || !location || !range || !range->mapping)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = vmm_check_location(location);
    if (status == CUDA_SUCCESS)
        *flags = vmm_is_host(location) ? range->mapping->host_access
                                       : range->mapping->access[location->id];
    return cuda_leave(status);
}
