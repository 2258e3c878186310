/* SPDX-License-Identifier: Apache-2.0 */

#include "device/device.h"

#include <errno.h>

/* What one list of the driver may hold; compute and graphics are asked for one after the other. */
#define LIST_MAX   2048
#define READ_TURNS 6 /* for a figure and a list of one moment */

typedef __typeof__(&nvmlDeviceGetComputeRunningProcesses_v3) list_call;

/* Where the gpu's memory is the machine's (unified memory) the driver has no figure for it. */
static int check_memory(const struct devices *devices, const struct device *device, uint32_t index,
                        struct error *err)
{
    const struct driver_nvml *const nvml = &devices->nvml;
    nvmlMemory_t memory = { 0 };

    if (nvml->memory_v1(device->handle, &memory) != NVML_ERROR_NOT_SUPPORTED)
        return 0;
    return error_set(err, -ENODEV,
                     "gpu %u (%s) shares the machine's memory: its driver tells no memory of its "
                     "own, so there is nothing that could be managed",
                     index, device->name);
}

static int find_device(struct devices *devices, uint32_t index, struct error *err)
{
    const struct driver_nvml *const nvml = &devices->nvml;
    struct device *const device = &devices->items[devices->count];
    int r = driver_nvml_check(nvml, nvml->device_by_index(index, &device->handle),
                              "nvmlDeviceGetHandleByIndex", err);

    if (r == 0)
        r = driver_nvml_check(nvml,
                              nvml->device_uuid(device->handle, device->uuid, sizeof(device->uuid)),
                              "nvmlDeviceGetUUID", err);
    if (r == 0)
        r = driver_nvml_check(nvml,
                              nvml->device_name(device->handle, device->name, sizeof(device->name)),
                              "nvmlDeviceGetName", err);
    if (r == 0)
        r = check_memory(devices, device, index, err);
    if (r < 0)
        return r;
    device->index = index;
    devices->count++;
    return 0;
}

/* A gpu that has fallen off the bus or has no memory of its own is none that can be managed; the
 * others can, and without any others its reason is the answer. */
static int find_devices(struct devices *devices, uint32_t count, struct error *err)
{
    int r = 0;

    for (uint32_t i = 0; i < count && i < DEVICE_MAX; i++) {
        r = find_device(devices, i, err);
        if (r < 0 && r != -ENODEV)
            return r;
    }
    return devices->count > 0 ? 0 : r;
}

int devices_open(struct devices *devices, struct error *err)
{
    unsigned int count = 0;

    *devices = (struct devices){ 0 };
    int r = driver_nvml_open(&devices->nvml, err);
    if (r < 0)
        return r;
    const struct driver_nvml *const nvml = &devices->nvml;
    if (nvml->driver_version(devices->driver_version, sizeof(devices->driver_version)) !=
        NVML_SUCCESS)
        devices->driver_version[0] = '\0'; /* only ever shown */
    r = driver_nvml_check(nvml, nvml->device_count(&count), "nvmlDeviceGetCount", err);
    if (r == 0)
        r = find_devices(devices, count, err);
    if (r < 0)
        devices_close(devices);
    return r;
}

void devices_close(struct devices *devices)
{
    driver_nvml_close(&devices->nvml);
    devices->count = 0;
}

static int read_memory(const struct devices *devices, const struct device *device,
                       struct device_usage *usage, struct error *err)
{
    const struct driver_nvml *const nvml = &devices->nvml;
    nvmlMemory_v2_t v2 = { .version = NVML_MEMORY_V2 };
    nvmlMemory_t v1 = { 0 };

    if (nvml->memory_v2 && nvml->memory_v2(device->handle, &v2) == NVML_SUCCESS) {
        usage->capacity_bytes = v2.total;
        usage->used_bytes = v2.used;
        return 0;
    }
    const int r = driver_nvml_check(nvml, nvml->memory_v1(device->handle, &v1),
                                    "nvmlDeviceGetMemoryInfo", err);
    if (r < 0)
        return r;
    usage->capacity_bytes = v1.total;
    usage->used_bytes = v1.used;
    return 0;
}

static void add_process(struct device_usage *usage, const nvmlProcessInfo_t *info)
{
    const bool has_bytes = info->usedGpuMemory != NVML_VALUE_NOT_AVAILABLE;
    size_t at = 0;

    while (at < usage->process_count && usage->processes[at].pid != info->pid)
        at++;
    if (at == DEVICE_PROCESS_MAX) {
        usage->is_truncated = true;
        return;
    }
    struct device_process *const process = &usage->processes[at];
    if (at == usage->process_count) {
        *process = (struct device_process){ .pid = info->pid };
        usage->process_count++;
    }
    if (!has_bytes)
        return;
    process->has_bytes = true;
    if (info->usedGpuMemory > process->used_bytes)
        process->used_bytes = info->usedGpuMemory;
}

/* A driver that cannot list them (NOT_SUPPORTED) tells no process bytes; that is not a failure. */
static int read_list(const struct devices *devices, const struct device *device, list_call call,
                     struct device_usage *usage, struct error *err)
{
    static nvmlProcessInfo_t infos[LIST_MAX]; /* 64 KiB; the caller has one thread */
    unsigned int count = LIST_MAX;

    if (!call)
        return 0;
    const nvmlReturn_t status = call(device->handle, &count, infos);
    if (status == NVML_ERROR_NOT_SUPPORTED || status == NVML_ERROR_NO_PERMISSION) {
        usage->has_process_bytes = false;
        return 0;
    }
    if (status == NVML_ERROR_INSUFFICIENT_SIZE) {
        usage->is_truncated = true;
        return 0;
    }
    const int r = driver_nvml_check(&devices->nvml, status, "nvmlDeviceGet…RunningProcesses", err);
    for (unsigned int i = 0; r == 0 && i < count && i < LIST_MAX; i++)
        add_process(usage, &infos[i]);
    return r;
}

static int read_lists(const struct devices *devices, const struct device *device,
                      struct device_usage *usage, struct error *err)
{
    const struct driver_nvml *const nvml = &devices->nvml;
    int r = 0;

    usage->process_count = 0;
    usage->is_truncated = false;
    usage->has_process_bytes = nvml->compute_v3 || nvml->compute_v2;
    r = read_list(devices, device, nvml->compute_v3 ? nvml->compute_v3 : nvml->compute_v2, usage,
                  err);
    if (r < 0)
        return r;
    return read_list(devices, device, nvml->graphics_v3 ? nvml->graphics_v3 : nvml->graphics_v2,
                     usage, err);
}

static bool is_any_told(const struct device_usage *usage)
{
    for (size_t i = 0; i < usage->process_count; i++) {
        if (usage->processes[i].has_bytes)
            return true;
    }
    return false;
}

static uint64_t sum_of(const struct device_usage *usage)
{
    uint64_t sum_bytes = usage->process_count;

    for (size_t i = 0; i < usage->process_count; i++)
        sum_bytes += usage->processes[i].used_bytes;
    return sum_bytes;
}

/*
 * The gpu's figure and the list of processes are calls of their own, and memory moves in between:
 * one holder's burst ends while another's begins. A list that shows more than the figure next to it
 * hides as many foreign bytes, and those would be granted to somebody. So figure and list are asked
 * for in turn until two of each in a row agree. On a gpu that never rests the largest figure is
 * told: too much is shown as foreign then, until the next sample, and nothing too much is granted.
 */
int device_read(const struct devices *devices, const struct device *device,
                struct device_usage *ret_usage, struct error *err)
{
    uint64_t last_used_bytes = 0, last_sum_bytes = 0, most_bytes = 0;
    bool is_calm = false;
    int r = 0;

    for (int turn = 0; r == 0 && !is_calm && turn < READ_TURNS; turn++) {
        r = read_memory(devices, device, ret_usage, err);
        if (r == 0)
            r = read_lists(devices, device, ret_usage, err);
        if (r < 0)
            return r;
        const uint64_t sum_bytes = sum_of(ret_usage);
        is_calm =
            turn > 0 && ret_usage->used_bytes == last_used_bytes && sum_bytes == last_sum_bytes;
        last_used_bytes = ret_usage->used_bytes;
        last_sum_bytes = sum_bytes;
        if (last_used_bytes > most_bytes)
            most_bytes = last_used_bytes;
    }
    if (!is_calm)
        ret_usage->used_bytes = most_bytes;
    /* Processes are there, and not one has its bytes told. */
    if (ret_usage->process_count > 0 && !is_any_told(ret_usage))
        ret_usage->has_process_bytes = false;
    return 0;
}
