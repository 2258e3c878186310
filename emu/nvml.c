/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The emulated libnvidia-ml: initialisation, the devices and who they are. nvml_use.c and
 * nvml_monitor.c tell what is going on on them. A device handle is a number, its index + 1.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "driver.h"
#include "nvml_state.h"

struct nvml nvml = { .lock = PTHREAD_MUTEX_INITIALIZER, .link = LINK_CLOSED };

bool nvml_has_mode(uint32_t mode)
{
    return nvml.link.orders && (nvml.link.orders->modes & mode) != 0;
}

/* The driver's own hang takes no lock of ours with it. */
nvmlReturn_t nvml_enter_call(const char *call)
{
    const int32_t ordered = nvml.init_count > 0 ? orders_check(nvml.link.orders, call) : 0;

    if (ordered != 0)
        return (nvmlReturn_t)ordered;
    (void)pthread_mutex_lock(&nvml.lock);
    if (nvml.init_count > 0 && !link_is_inherited(&nvml.link))
        return NVML_SUCCESS;
    (void)pthread_mutex_unlock(&nvml.lock);
    return NVML_ERROR_UNINITIALIZED;
}

bool nvml_is_lost(uint32_t gpu)
{
    return nvml.link.orders && (atomic_load(&nvml.link.orders->lost_gpus) >> gpu & 1) != 0;
}

nvmlReturn_t nvml_enter_device_call(const char *call, nvmlDevice_t device, uint32_t *ret_gpu)
{
    const uintptr_t number = (uintptr_t)device;
    const nvmlReturn_t status = nvml_enter_call(call);

    if (status != NVML_SUCCESS)
        return status;
    if (number == 0 || number > nvml.gpu_count)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    *ret_gpu = (uint32_t)number - 1;
    if (nvml_is_lost(*ret_gpu))
        return nvml_leave(NVML_ERROR_GPU_IS_LOST);
    return NVML_SUCCESS;
}

nvmlReturn_t nvml_leave(nvmlReturn_t status)
{
    (void)pthread_mutex_unlock(&nvml.lock);
    return status;
}

static nvmlReturn_t open_link(void)
{
    struct emu_reply hello = { 0 }, reply = { 0 };

    if (link_open(&nvml.link, EMU_ROLE_NVML, &hello) != 0)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    nvml.gpu_count = (uint32_t)hello.values[0];
    for (uint32_t i = 0; i < nvml.gpu_count && i < EMU_GPU_MAX; i++) {
        const struct emu_request request = { .op = EMU_GPU_INFO, .gpu = i };
        if (link_call_payload(&nvml.link, &request, &reply, &nvml.gpus[i], sizeof(nvml.gpus[i]),
                              NULL) != 0) {
            link_close(&nvml.link);
            return NVML_ERROR_UNKNOWN;
        }
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void)
{
    nvmlReturn_t status = NVML_SUCCESS;

    (void)pthread_mutex_lock(&nvml.lock);
    if (link_is_inherited(&nvml.link)) {
        /* NVML, unlike CUDA, may be initialised anew in a child. */
        link_close(&nvml.link);
        nvml.init_count = 0;
    }
    if (nvml.init_count == 0)
        status = open_link();
    if (status == NVML_SUCCESS)
        nvml.init_count++;
    (void)nvml_leave(status);
    if (status != NVML_SUCCESS)
        return status;
    status = (nvmlReturn_t)orders_check(nvml.link.orders, "nvmlInit");
    if (status != NVML_SUCCESS)
        (void)nvmlShutdown();
    return status;
}

nvmlReturn_t nvmlInit(void)
{
    return nvmlInit_v2();
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
    (void)flags; /* allow no gpus, do not attach: both are as they are here */
    return nvmlInit_v2();
}

nvmlReturn_t nvmlShutdown(void)
{
    const nvmlReturn_t status = nvml_enter();

    if (status != NVML_SUCCESS)
        return status;
    if (--nvml.init_count == 0)
        link_close(&nvml.link);
    return nvml_leave(NVML_SUCCESS);
}

/* The library is unloaded, or the process ends. Whoever is in the middle of a call is not waited
 * for. */
__attribute__((destructor)) static void on_unload(void)
{
    const struct emu_request gone = { .op = EMU_NVML_GONE };
    struct emu_reply reply = { 0 };

    if (pthread_mutex_trylock(&nvml.lock) != 0)
        return;
    if (nvml.init_count > 0 && !link_is_inherited(&nvml.link))
        (void)link_call(&nvml.link, &gone, &reply);
    (void)pthread_mutex_unlock(&nvml.lock);
}

const char *nvmlErrorString(nvmlReturn_t result)
{
    static const struct {
        nvmlReturn_t code;
        const char *text;
    } results[] = {
#define X(name, value, text) { name, text },
        NVML_RETURN_MAP(X)
#undef X
    };

    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        if (results[i].code == result)
            return results[i].text;
    }
    return "Unknown Error";
}

nvmlReturn_t nvml_text(char *out, unsigned int out_bytes, const char *text)
{
    if (!out)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) >= out_bytes)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    (void)snprintf(out, out_bytes, "%s", text);
    return NVML_SUCCESS;
}

static nvmlReturn_t system_text_call(const char *call, char *out, unsigned int out_bytes,
                                     const char *text)
{
    const nvmlReturn_t status = nvml_enter_call(call);

    return status == NVML_SUCCESS ? nvml_leave(nvml_text(out, out_bytes, text)) : status;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *text, unsigned int text_bytes)
{
    return system_text_call(__func__, text, text_bytes, driver_own()->version);
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *text, unsigned int text_bytes)
{
    const struct emu_driver *const driver = driver_own();
    char own[64];

    (void)snprintf(own, sizeof(own), "%d.%s", driver->cuda_version / 1000, driver->version);
    return system_text_call(__func__, text, text_bytes, own);
}

/* Needs no nvmlInit. */
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    const int32_t ordered = orders_check(nvml.link.orders, __func__);

    if (ordered != 0)
        return (nvmlReturn_t)ordered;
    if (!version)
        return NVML_ERROR_INVALID_ARGUMENT;
    *version = driver_own()->cuda_version;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int name_bytes)
{
    char path[64], text[4096];
    const int saved_errno = errno;
    const nvmlReturn_t status = nvml_enter();

    if (status != NVML_SUCCESS)
        return status;
    (void)nvml_leave(status);
    if (!name)
        return NVML_ERROR_INVALID_ARGUMENT;
    (void)snprintf(path, sizeof(path), "/proc/%u/cmdline", pid);
    FILE *const file = fopen(path, "re");
    const size_t got = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    if (file)
        (void)fclose(file);
    errno = saved_errno;
    text[got] = '\0'; /* the first argument ends at its own NUL */
    return got > 0 ? nvml_text(name, name_bytes, text) : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
    const nvmlReturn_t status = nvml_enter();

    if (status != NVML_SUCCESS)
        return status;
    if (!count)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    *count = nvml.gpu_count;
    return nvml_leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *count)
{
    return nvmlDeviceGetCount_v2(count);
}

static nvmlDevice_t make_handle(uint32_t gpu)
{
    return (nvmlDevice_t)(uintptr_t)(gpu + 1); /* NOLINT: a number, not an address */
}

/* A lost gpu has none to give; one that was given before stays a handle of it. */
static nvmlReturn_t give_handle(uint32_t gpu, nvmlDevice_t *device)
{
    if (nvml_is_lost(gpu))
        return NVML_ERROR_GPU_IS_LOST;
    *device = make_handle(gpu);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
    const nvmlReturn_t status = nvml_enter();

    if (status != NVML_SUCCESS)
        return status;
    if (!device || index >= nvml.gpu_count)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    return nvml_leave(give_handle(index, device));
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

static void uuid_text(uint32_t gpu, char text[48])
{
    const unsigned char *const id = nvml.gpus[gpu].uuid;

    (void)snprintf(text, 48,
                   "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                   id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7], id[8], id[9], id[10],
                   id[11], id[12], id[13], id[14], id[15]);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    nvmlReturn_t status = nvml_enter();
    char text[48];

    if (status != NVML_SUCCESS)
        return status;
    if (!uuid || !device)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    status = NVML_ERROR_NOT_FOUND;
    for (uint32_t i = 0; i < nvml.gpu_count; i++) {
        uuid_text(i, text);
        if (strcmp(text, uuid) == 0)
            status = give_handle(i, device);
    }
    return nvml_leave(status);
}

/* "00000000:01:00.0", with a domain of four or eight digits. */
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *id, nvmlDevice_t *device)
{
    nvmlReturn_t status = nvml_enter();
    char text[32];

    if (status != NVML_SUCCESS)
        return status;
    if (!id || !device)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    status = NVML_ERROR_NOT_FOUND;
    for (uint32_t i = 0; i < nvml.gpu_count; i++) {
        (void)snprintf(text, sizeof(text), "00000000:%02X:00.0", i + 1);
        if (strcasecmp(text, id) == 0 || strcasecmp(text + 4, id) == 0)
            status = give_handle(i, device);
    }
    return nvml_leave(status);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *id, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByPciBusId_v2(id, device);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int name_bytes)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device(device, &gpu);

    return status == NVML_SUCCESS ? nvml_leave(nvml_text(name, name_bytes, nvml.gpus[gpu].product))
                                  : status;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int uuid_bytes)
{
    uint32_t gpu = 0;
    char text[48];
    const nvmlReturn_t status = nvml_enter_device(device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    uuid_text(gpu, text);
    return nvml_leave(nvml_text(uuid, uuid_bytes, text));
}

static nvmlReturn_t answer_index_call(const char *call, nvmlDevice_t device, unsigned int *index)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device_call(call, device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (!index)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    *index = gpu;
    return nvml_leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
    return answer_index_call(__func__, device, index);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor)
{
    return answer_index_call(__func__, device, minor);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device(device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (!info)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    *info = (nvmlPciInfo_t){ .bus = gpu + 1, .pciDeviceId = 0x278210de };
    (void)snprintf(info->busIdLegacy, sizeof(info->busIdLegacy), "0000:%02X:00.0",
                   (gpu + 1) & 0xffU);
    (void)snprintf(info->busId, sizeof(info->busId), "00000000:%02X:00.0", gpu + 1);
    return nvml_leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *info)
{
    return nvmlDeviceGetPciInfo_v3(device, info);
}

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *info)
{
    return nvmlDeviceGetPciInfo_v3(device, info);
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device(device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (!major || !minor)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    *major = (int)nvml.gpus[gpu].compute_major;
    *minor = (int)nvml.gpus[gpu].compute_minor;
    return nvml_leave(NVML_SUCCESS);
}
