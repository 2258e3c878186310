/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The memory of the devices, which is the server's fact.
 */

#include "nvml_state.h"

/* A lost or hanging gpu is one whatever else is wrong with the call. */
static nvmlReturn_t ask_memory_call(const char *call, nvmlDevice_t device, nvmlReturn_t otherwise,
                                    struct emu_reply *ret_reply)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device_call(call, device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (otherwise != NVML_SUCCESS)
        return nvml_leave(otherwise);
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
    const nvmlReturn_t status =
        ask_memory(device, memory ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT, &reply);

    if (status == NVML_SUCCESS)
        *memory = (nvmlMemory_t){ .total = reply.values[0],
                                  .free = reply.values[0] - reply.values[1],
                                  .used = reply.values[1] };
    return status;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    struct emu_reply reply = { 0 };
    const nvmlReturn_t status =
        ask_memory(device,
                   !memory                             ? NVML_ERROR_INVALID_ARGUMENT
                   : memory->version != NVML_MEMORY_V2 ? NVML_ERROR_ARGUMENT_VERSION_MISMATCH
                                                       : NVML_SUCCESS,
                   &reply);

    if (status == NVML_SUCCESS)
        *memory = (nvmlMemory_v2_t){ .version = NVML_MEMORY_V2,
                                     .total = reply.values[0],
                                     .free = reply.values[0] - reply.values[1],
                                     .used = reply.values[1] };
    return status;
}
