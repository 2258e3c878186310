/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Physical memory and its handles. Memory is this process's own until it is exported for the first
 * time; from then on the server counts the references of all processes. This process has one there
 * for each memory here, which an import makes anew.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm.h"

#define HANDLE_TYPES_MASK 0xfU

struct memory *vmm_memory(CUmemGenericAllocationHandle handle)
{
    struct memory *const memory =
        handle_get(&cuda.memories, (const void *)(uintptr_t)handle); /* NOLINT: a number */

    return memory && memory->handle_count > 0 ? memory : NULL;
}

static void give_back(struct memory *memory)
{
    struct gpu *const gpu = &cuda.gpus[memory->gpu];
    struct emu_reply reply = { 0 };

    if (memory->host)
        vmm_host_free(memory);
    else if (memory->is_shared)
        (void)cuda_ask(EMU_DROP, gpu, memory->offset, &reply);
    else
        cuda_give(gpu, memory->offset, memory->bytes);
}

void vmm_settle(struct memory *memory)
{
    if (memory->handle_count > 0 || memory->mapping_count > 0)
        return;
    give_back(memory);
    handle_free(&cuda.memories, (const void *)(uintptr_t)memory->handle); /* NOLINT: a number */
    free(memory);
}

bool vmm_is_host(const CUmemLocation *location)
{
    return location->type == CU_MEM_LOCATION_TYPE_HOST ||
           location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA;
}

CUresult vmm_check_location(const CUmemLocation *location)
{
    if (location->type == CU_MEM_LOCATION_TYPE_DEVICE)
        return device_get(location->id) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
    return vmm_is_host(location) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult check_properties(const CUmemAllocationProp *properties)
{
    if (!properties || properties->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
        properties->win32HandleMetaData ||
        ((unsigned)properties->requestedHandleTypes & ~HANDLE_TYPES_MASK) != 0)
        return CUDA_ERROR_INVALID_VALUE;
    /* The host as a whole can not be shared; the emulated machine has one node. */
    if ((properties->location.type == CU_MEM_LOCATION_TYPE_HOST &&
         properties->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE) ||
        (properties->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA &&
         properties->location.id != 0))
        return CUDA_ERROR_INVALID_VALUE;
    if (((unsigned)properties->requestedHandleTypes &
         ~(unsigned)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0 ||
        properties->allocFlags.gpuDirectRDMACapable || properties->allocFlags.usage != 0)
        return CUDA_ERROR_NOT_SUPPORTED;
    return vmm_check_location(&properties->location);
}

/* The bytes, the server's reference or the file are the new memory's, or given back. */
CUresult vmm_memory_new(const struct memory *like, struct memory **ret_memory)
{
    struct memory *const memory = malloc(sizeof(*memory));

    if (memory) {
        *memory = *like;
        memory->handle =
            (CUmemGenericAllocationHandle)(uintptr_t)handle_new(&cuda.memories, memory);
        memory->id = ++cuda.next_id;
        memory->handle_count = 1;
    }
    if (!memory || memory->handle == 0) {
        struct memory lost = *like;
        give_back(&lost);
        free(memory);
        return cuda_count_oom(&cuda.gpus[like->gpu]);
    }
    *ret_memory = memory;
    return CUDA_SUCCESS;
}

static CUresult create_on_gpu(uint64_t bytes, const CUmemAllocationProp *properties,
                              struct memory **ret_memory)
{
    struct memory memory = { .gpu = (uint32_t)properties->location.id,
                             .bytes = bytes,
                             .properties = *properties };
    const CUresult status = cuda_take(&cuda.gpus[memory.gpu], bytes, &memory.offset);

    memory.properties.allocFlags.compressionType = 0; /* a hint that is not taken */
    return status == CUDA_SUCCESS ? vmm_memory_new(&memory, ret_memory) : status;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes,
                     const CUmemAllocationProp *properties, unsigned long long flags)
{
    struct memory *made = NULL;
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!handle || bytes == 0 || bytes % EMU_PAGE_BYTES != 0 || flags != 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = check_properties(properties);
    if (status == CUDA_SUCCESS)
        status = vmm_is_host(&properties->location) ? vmm_host_create(bytes, properties, &made)
                                                    : create_on_gpu(bytes, properties, &made);
    if (status == CUDA_SUCCESS)
        *handle = made->handle;
    return cuda_leave(status);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct memory *const memory = vmm_memory(handle);
    if (!memory)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    memory->handle_count--;
    vmm_settle(memory);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    const struct range *const range = space_range((CUdeviceptr)(uintptr_t)address);
    if (!handle || !range || !range->mapping)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    range->mapping->memory->handle_count++;
    *handle = range->mapping->memory->handle;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
                                       CUmemAllocationGranularity_flags option)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!bytes || (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM &&
                   option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = check_properties(properties);
    if (status == CUDA_SUCCESS)
        *bytes = EMU_PAGE_BYTES;
    return cuda_leave(status);
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *properties,
                                                CUmemGenericAllocationHandle handle)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    const struct memory *const memory = vmm_memory(handle);
    if (!properties || !memory)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *properties = memory->properties;
    return cuda_leave(CUDA_SUCCESS);
}

static CUresult export_fd(struct memory *memory, int *ret_fd)
{
    struct gpu *const gpu = &cuda.gpus[memory->gpu];
    const struct emu_request request = { .op = EMU_EXPORT,
                                         .gpu = gpu->server_index,
                                         .args = { memory->offset } };
    struct emu_reply reply = { 0 };
    int fd = -1;

    if (!memory->is_shared) {
        const CUresult shared = cuda_share(gpu, memory->offset, memory->bytes);
        if (shared != CUDA_SUCCESS)
            return shared;
        memory->is_shared = true;
    }
    const int status = link_call_payload(&cuda.link, &request, &reply, NULL, 0, &fd);

    if (status < 0)
        return CUDA_ERROR_UNKNOWN;
    if (status == CUDA_SUCCESS && fd < 0)
        return CUDA_ERROR_OPERATING_SYSTEM; /* no room for a descriptor in this process */
    if (status == CUDA_SUCCESS)
        *ret_fd = fd;
    return (CUresult)status;
}

CUresult cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct memory *const memory = vmm_memory(handle);
    if (!shareable || !memory || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
        (memory->properties.requestedHandleTypes & type) == 0 || flags != 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = memory->host ? vmm_host_export(memory, shareable) : export_fd(memory, shareable);
    return cuda_leave(status);
}

static CUresult import_fd(int fd, struct memory **ret_memory)
{
    const struct emu_request request = { .op = EMU_IMPORT };
    struct emu_reply reply = { 0 };
    struct memory on_host = { 0 };

    if (vmm_host_import(fd, &on_host))
        return vmm_memory_new(&on_host, ret_memory);
    const int status = link_call_fd(&cuda.link, &request, fd, &reply);

    if (status != CUDA_SUCCESS)
        return status == -EBADF ? CUDA_ERROR_INVALID_VALUE
               : status < 0     ? CUDA_ERROR_UNKNOWN
                                : (CUresult)status;
    const struct gpu *const found = device_of_server(reply.values[2]);
    if (!found) {
        const struct emu_request drop = { .op = EMU_DROP,
                                          .gpu = (uint32_t)reply.values[2],
                                          .args = { reply.values[0] } };
        (void)link_call(&cuda.link, &drop, &reply);
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    const int gpu = (int)(found - cuda.gpus);
    const struct memory memory = {
        .gpu = (uint32_t)gpu,
        .offset = reply.values[0],
        .bytes = reply.values[1],
        .is_shared = true,
        .properties = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                        .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                        .location = { CU_MEM_LOCATION_TYPE_DEVICE, gpu } },
    };
    return vmm_memory_new(&memory, ret_memory);
}

/* The descriptor stays the program's, and a reference of its own until it is closed. */
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shareable,
                                        CUmemAllocationHandleType type)
{
    struct memory *made = NULL;
    const intptr_t fd = (intptr_t)shareable;
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!handle || fd < 0 || fd > INT32_MAX ||
        ((unsigned)type & HANDLE_TYPES_MASK) != (unsigned)type || type == CU_MEM_HANDLE_TYPE_NONE)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return cuda_leave(CUDA_ERROR_NOT_SUPPORTED);
    status = import_fd((int)fd, &made);
    if (status == CUDA_SUCCESS)
        *handle = made->handle;
    return cuda_leave(status);
}
