/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The processes on a device: one list in the forms that NVML has had for it. Everything on an
 * emulated card is compute, and computes nothing, so the other lists are empty and no process has
 * used the card lately.
 */

#include "nvml_state.h"

/* A list as a caller wants it: how many it has room for, and are there; where entry i goes. */
struct wanted {
    unsigned int *count;
    void *infos;
    void (*write_one)(void *infos, uint32_t i, const struct emu_process *process);
};

/* The lock is held, and given back. */
static nvmlReturn_t list_processes(uint32_t gpu, const struct wanted *wanted)
{
    static struct emu_process list[EMU_PROCESS_MAX]; /* under the lock */
    const struct emu_request request = { .op = EMU_PROCESSES, .gpu = gpu };
    struct emu_reply reply = { 0 };

    if (!wanted->count || (*wanted->count > 0 && !wanted->infos))
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    if (link_call_payload(&nvml.link, &request, &reply, list, sizeof(list), NULL) != 0 ||
        reply.count > EMU_PROCESS_MAX)
        return nvml_leave(NVML_ERROR_GPU_IS_LOST);
    const unsigned int room = *wanted->count;
    *wanted->count = reply.count;
    if (reply.count > room)
        return nvml_leave(NVML_ERROR_INSUFFICIENT_SIZE);
    for (uint32_t i = 0; i < reply.count; i++) {
        if (nvml_has_mode(EMU_MODE_WSL))
            list[i].used_bytes = NVML_VALUE_NOT_AVAILABLE;
        wanted->write_one(wanted->infos, i, &list[i]);
    }
    return nvml_leave(NVML_SUCCESS);
}

static nvmlReturn_t list_compute_call(const char *call, nvmlDevice_t device,
                                      const struct wanted *wanted)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device_call(call, device, &gpu);

    return status == NVML_SUCCESS ? list_processes(gpu, wanted) : status;
}

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

static void write_detail(void *infos, uint32_t i, const struct emu_process *process)
{
    ((nvmlProcessDetail_v1_t *)infos)[i] =
        (nvmlProcessDetail_v1_t){ .pid = process->pid,
                                  .usedGpuMemory = process->used_bytes,
                                  .gpuInstanceId = UINT32_MAX,
                                  .computeInstanceId = UINT32_MAX };
}

#define COMPUTE_LIST(name, type, write)                                                            \
    nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, type *infos)                       \
    {                                                                                              \
        return list_compute_call(#name, device, &(struct wanted){ count, infos, write });          \
    }
#define EMPTY_LIST(name, type)                                                                     \
    nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, type *infos)                       \
    {                                                                                              \
        (void)infos;                                                                               \
        return list_none_call(#name, device, count);                                               \
    }

COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t, write_v1)
COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_t, write_v2)
COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, write_v2)
EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_t)
EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t)
EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_t)
EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t)

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
                                                   nvmlProcessDetailList_t *list)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device(device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (!list)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    if (list->version != NVML_PROCESS_DETAIL_LIST_V1)
        return nvml_leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    if (list->mode > NVML_PROCESS_MODE_MPS)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    if (list->mode == NVML_PROCESS_MODE_COMPUTE)
        return list_processes(
            gpu, &(struct wanted){ &list->numProcArrayEntries, list->procArray, write_detail });
    list->numProcArrayEntries = 0;
    return nvml_leave(NVML_SUCCESS);
}

/* Processes that have used the card since then: none. Without an array, how long it may have to
 * be. */
static nvmlReturn_t answer_utilization(unsigned int *count, const void *samples)
{
    if (!count)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    if (samples)
        return nvml_leave(NVML_ERROR_NOT_FOUND);
    *count = EMU_PROCESS_MAX;
    return nvml_leave(NVML_ERROR_INSUFFICIENT_SIZE);
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
                                             nvmlProcessUtilizationSample_t *samples,
                                             unsigned int *count, unsigned long long since_us)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device(device, &gpu);

    (void)since_us;
    return status == NVML_SUCCESS ? answer_utilization(count, samples) : status;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                   nvmlProcessesUtilizationInfo_t *info)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device(device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (!info)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    if (info->version != NVML_PROCESSES_UTILIZATION_INFO_V1)
        return nvml_leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    return answer_utilization(&info->processSamplesCount, info->procUtilArray);
}
