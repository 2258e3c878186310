/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What goes on on the devices: memory and processes, which are the server's facts.
 */

#include "nvml_state.h"

static nvmlReturn_t ask_memory_call(const char *call, nvmlDevice_t device,
                                    struct emu_reply *ret_reply)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device_call(call, device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (nvml_has_mode(EMU_MODE_UNIFIED))
        return nvml_leave(NVML_ERROR_NOT_SUPPORTED);
    const struct emu_request request = { .op = EMU_MEMORY, .gpu = gpu };
    return nvml_leave(link_call(&nvml.link, &request, ret_reply) == 0 ? NVML_SUCCESS
                                                                      : NVML_ERROR_GPU_IS_LOST);
}

#define ask_memory(...) ask_memory_call(__func__, __VA_ARGS__)

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    struct emu_reply reply = { 0 };

    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    const nvmlReturn_t status = ask_memory(device, &reply);
    if (status == NVML_SUCCESS)
        *memory = (nvmlMemory_t){ .total = reply.values[0],
                                  .free = reply.values[0] - reply.values[1],
                                  .used = reply.values[1] };
    return status;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    struct emu_reply reply = { 0 };

    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != NVML_MEMORY_V2)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    const nvmlReturn_t status = ask_memory(device, &reply);
    if (status == NVML_SUCCESS)
        *memory = (nvmlMemory_v2_t){ .version = NVML_MEMORY_V2,
                                     .total = reply.values[0],
                                     .free = reply.values[0] - reply.values[1],
                                     .used = reply.values[1] };
    return status;
}

/* The processes of a gpu, for as many as *count leaves room. write_one stores entry i. */
static nvmlReturn_t
list_processes_call(const char *call, nvmlDevice_t device, unsigned int *count, void *infos,
                    void (*write_one)(void *infos, uint32_t i, const struct emu_process *process))
{
    static struct emu_process list[EMU_PROCESS_MAX]; /* under the lock */
    struct emu_reply reply = { 0 };
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device_call(call, device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (!count || (*count > 0 && !infos))
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    const struct emu_request request = { .op = EMU_PROCESSES, .gpu = gpu };
    if (link_call_payload(&nvml.link, &request, &reply, list, sizeof(list), NULL) != 0 ||
        reply.count > EMU_PROCESS_MAX)
        return nvml_leave(NVML_ERROR_GPU_IS_LOST);
    const unsigned int room = *count;
    *count = reply.count;
    if (reply.count > room)
        return nvml_leave(NVML_ERROR_INSUFFICIENT_SIZE);
    for (uint32_t i = 0; i < reply.count; i++) {
        if (nvml_has_mode(EMU_MODE_WSL))
            list[i].used_bytes = NVML_VALUE_NOT_AVAILABLE;
        write_one(infos, i, &list[i]);
    }
    return nvml_leave(NVML_SUCCESS);
}

#define list_processes(...) list_processes_call(__func__, __VA_ARGS__)

static void write_v1(void *infos, uint32_t i, const struct emu_process *process)
{
    ((nvmlProcessInfo_v1_t *)infos)[i] =
        (nvmlProcessInfo_v1_t){ .pid = process->pid, .usedGpuMemory = process->used_bytes };
}

/* No instance: all ones. */
static void write_v2(void *infos, uint32_t i, const struct emu_process *process)
{
    ((nvmlProcessInfo_t *)infos)[i] = (nvmlProcessInfo_t){ .pid = process->pid,
                                                           .usedGpuMemory = process->used_bytes,
                                                           .gpuInstanceId = UINT32_MAX,
                                                           .computeInstanceId = UINT32_MAX };
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count,
                                                  nvmlProcessInfo_v1_t *infos)
{
    return list_processes(device, count, infos, write_v1);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count,
                                                     nvmlProcessInfo_t *infos)
{
    return list_processes(device, count, infos, write_v2);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                     nvmlProcessInfo_t *infos)
{
    return list_processes(device, count, infos, write_v2);
}

/* Everything on an emulated card is compute. */
static nvmlReturn_t list_none_call(const char *call, nvmlDevice_t device, unsigned int *count)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device_call(call, device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (!count)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    *count = 0;
    return nvml_leave(NVML_SUCCESS);
}

#define list_none(...) list_none_call(__func__, __VA_ARGS__)

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, unsigned int *count,
                                                   nvmlProcessInfo_v1_t *infos)
{
    (void)infos;
    return list_none(device, count);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t device, unsigned int *count,
                                                      nvmlProcessInfo_t *infos)
{
    (void)infos;
    return list_none(device, count);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                      nvmlProcessInfo_t *infos)
{
    (void)infos;
    return list_none(device, count);
}
