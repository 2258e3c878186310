/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The devices' properties: what the profile says, and for the rest what cards of its generation
 * answer. Attributes that nobody has asked for yet are 0.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "managed.h"

struct gpu *device_get(CUdevice device)
{
    return device >= 0 && (uint32_t)device < cuda.gpu_count ? &cuda.gpus[device] : NULL;
}

struct gpu *device_of_server(uint64_t server_index)
{
    for (uint32_t i = 0; i < cuda.gpu_count; i++) {
        if (cuda.gpus[i].server_index == server_index)
            return &cuda.gpus[i];
    }
    return NULL;
}

static CUresult enter_device_call(const char *call, CUdevice device, struct gpu **ret_gpu)
{
    const CUresult status = cuda_enter_call(call);

    if (status != CUDA_SUCCESS)
        return status;
    *ret_gpu = device_get(device);
    return *ret_gpu ? CUDA_SUCCESS : cuda_leave(CUDA_ERROR_INVALID_DEVICE);
}
#define enter_device(...) enter_device_call(__func__, __VA_ARGS__)

CUresult cuDeviceGetCount(int *count)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!count)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *count = (int)cuda.gpu_count;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    struct gpu *gpu = NULL;
    const CUresult status = enter_device(ordinal, &gpu);

    if (status != CUDA_SUCCESS)
        return status;
    if (!device)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *device = ordinal;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetName(char *name, int name_bytes, CUdevice device)
{
    struct gpu *gpu = NULL;
    const CUresult status = enter_device(device, &gpu);

    if (status != CUDA_SUCCESS)
        return status;
    if (!name || name_bytes <= 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    (void)snprintf(name, (size_t)name_bytes, "%s", gpu->info.product);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    struct gpu *gpu = NULL;
    const CUresult status = enter_device(device, &gpu);

    if (status != CUDA_SUCCESS)
        return status;
    if (!uuid)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    memcpy(uuid->bytes, gpu->info.uuid, sizeof(uuid->bytes));
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
    return cuDeviceGetUuid_v2(uuid, device);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    struct gpu *gpu = NULL;
    const CUresult status = enter_device(device, &gpu);

    if (status != CUDA_SUCCESS)
        return status;
    if (!bytes)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *bytes = gpu->info.capacity_bytes;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
    struct gpu *gpu = NULL;
    const CUresult status = enter_device(device, &gpu);

    if (status != CUDA_SUCCESS)
        return status;
    if (!major || !minor)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *major = (int)gpu->info.compute_major;
    *minor = (int)gpu->info.compute_minor;
    return cuda_leave(CUDA_SUCCESS);
}

static int gpu_attribute(const struct gpu *gpu, CUdevice_attribute attribute)
{
    static const struct {
        CUdevice_attribute attribute;
        int value;
    } common[] = {
        { CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024 },
        { CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024 },
        { CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024 },
        { CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64 },
        { CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 2147483647 },
        { CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535 },
        { CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535 },
        { CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 49152 },
        { CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65536 },
        { CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32 },
        { CU_DEVICE_ATTRIBUTE_MAX_PITCH, 2147483647 },
        { CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536 },
        { CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 2610000 },
        { CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512 },
        { CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32 },
        { CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 1 },
        { CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1 },
        { CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1 },
        { CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 10501000 },
        { CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 192 },
        { CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 50331648 },
        { CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 1536 },
        { CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2 },
        { CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1 },
        { CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 102400 },
        { CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536 },
        { CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 101376 },
        { CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1 },
        { CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES, 1 }, /* file descriptors */
        { CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED, 1 },
        { CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1 },
        { CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1 },
        { CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1 },
        { CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1 },
        { CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 1 },
    };

    if (attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        return (int)gpu->info.multiprocessor_count;
    if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        return (int)gpu->info.compute_major;
    if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
        return (int)gpu->info.compute_minor;
    if (attribute == CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS)
        return managed_is_concurrent();
    if (attribute == CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)
        return (int)gpu->server_index + 1;
    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++) {
        if (common[i].attribute == attribute)
            return common[i].value;
    }
    return array_limit((int)attribute);
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    struct gpu *gpu = NULL;
    const CUresult status = enter_device(device, &gpu);

    if (status != CUDA_SUCCESS)
        return status;
    if (!value || (int)attribute < 1 || attribute >= CU_DEVICE_ATTRIBUTE_MAX)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *value = gpu_attribute(gpu, attribute);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetPCIBusId(char *text, int text_bytes, CUdevice device)
{
    struct gpu *gpu = NULL;
    const CUresult status = enter_device(device, &gpu);

    if (status != CUDA_SUCCESS)
        return status;
    if (!text || text_bytes < 13)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    (void)snprintf(text, (size_t)text_bytes, "0000:%02x:00.0", gpu->server_index + 1);
    return cuda_leave(CUDA_SUCCESS);
}

/* "[domain]:bus:device.[function]", of which only the bus differs between emulated cards. */
CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *text)
{
    CUresult status = cuda_enter();
    char own[16];

    if (status != CUDA_SUCCESS)
        return status;
    if (!device || !text)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = CUDA_ERROR_INVALID_DEVICE;
    for (uint32_t i = 0; i < cuda.gpu_count; i++) {
        (void)snprintf(own, sizeof(own), "0000:%02x:00.0", cuda.gpus[i].server_index + 1);
        if (strcmp(own, text) == 0 || strcmp(own + 5, text) == 0) {
            *device = (CUdevice)i;
            status = CUDA_SUCCESS;
        }
    }
    return cuda_leave(status);
}

CUresult cuDeviceCanAccessPeer(int *can_access, CUdevice device, CUdevice peer)
{
    struct gpu *gpu = NULL;
    const CUresult status = enter_device(device, &gpu);

    if (status != CUDA_SUCCESS)
        return status;
    if (!device_get(peer))
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    if (!can_access)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *can_access = 0;
    return cuda_leave(CUDA_SUCCESS);
}
