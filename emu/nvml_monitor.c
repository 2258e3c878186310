/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The figures that monitors show beside memory. An emulated card does no work: it is idle and cool.
 */

#include <stdint.h>

#include "nvml_state.h"

/* What is asked of a lost or hanging gpu matters less than that it is one: it comes first. */
static nvmlReturn_t answer_call(const char *call, nvmlDevice_t device, nvmlReturn_t otherwise)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device_call(call, device, &gpu);

    return status == NVML_SUCCESS ? nvml_leave(otherwise) : status;
}

#define answer(...) answer_call(__func__, __VA_ARGS__)

static nvmlReturn_t answer_number_call(const char *call, nvmlDevice_t device, unsigned int *out,
                                       unsigned int number)
{
    const nvmlReturn_t status =
        answer_call(call, device, out ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT);

    if (status == NVML_SUCCESS)
        *out = number;
    return status;
}

#define answer_number(...) answer_number_call(__func__, __VA_ARGS__)

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates)
{
    const nvmlReturn_t status = answer_number(device, rates ? &rates->gpu : NULL, 0);

    if (status == NVML_SUCCESS)
        rates->memory = 0;
    return status;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *celsius)
{
    return sensor == 0 ? answer_number(device, celsius, 40)
                       : answer(device, NVML_ERROR_INVALID_ARGUMENT);
}

/* Shutdown, slowdown, memory, gpu. */
nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, int threshold,
                                               unsigned int *celsius)
{
    static const unsigned int thresholds[] = { 100, 95, 95, 90 };

    return threshold >= 0 && threshold < 4 ? answer_number(device, celsius, thresholds[threshold])
                                           : answer(device, NVML_ERROR_NOT_SUPPORTED);
}

static nvmlReturn_t answer_video_call(const char *call, nvmlDevice_t device, unsigned int *pct,
                                      unsigned int *period_us)
{
    const nvmlReturn_t status = answer_number_call(call, device, period_us ? pct : NULL, 0);

    if (status == NVML_SUCCESS)
        *period_us = 167000;
    return status;
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int *pct,
                                             unsigned int *period_us)
{
    return answer_video_call(__func__, device, pct, period_us);
}

nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int *pct,
                                             unsigned int *period_us)
{
    return answer_video_call(__func__, device, pct, period_us);
}

nvmlReturn_t nvmlDeviceGetMaxPcieLinkGeneration(nvmlDevice_t device, unsigned int *generation)
{
    return answer_number(device, generation, 4);
}

nvmlReturn_t nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t device, unsigned int *generation)
{
    return answer_number(device, generation, 1); /* idle */
}

nvmlReturn_t nvmlDeviceGetMaxPcieLinkWidth(nvmlDevice_t device, unsigned int *lanes)
{
    return answer_number(device, lanes, 16);
}

nvmlReturn_t nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t device, unsigned int *lanes)
{
    return answer_number(device, lanes, 16);
}

nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, int counter, unsigned int *kib_per_s)
{
    return counter == 0 || counter == 1 ? answer_number(device, kib_per_s, 0)
                                        : answer(device, NVML_ERROR_INVALID_ARGUMENT);
}

/* NVML's numbers of the generations: Ampere 7, Ada 8, Hopper 9, Blackwell 10. */
nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned int *architecture)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device(device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (!architecture)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    const uint32_t major = nvml.gpus[gpu].compute_major, minor = nvml.gpus[gpu].compute_minor;
    *architecture = major >= 10 ? 10 : major == 9 ? 9 : minor == 9 ? 8 : 7;
    return nvml_leave(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts)
{
    return answer_number(device, milliwatts, 20000);
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int *milliwatts)
{
    return answer_number(device, milliwatts, 285000);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int type, unsigned int *mhz)
{
    return type >= 0 && type <= 3 ? answer_number(device, mhz, type == 2 ? 405 : 210)
                                  : answer(device, NVML_ERROR_INVALID_ARGUMENT);
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, int type, unsigned int *mhz)
{
    return type >= 0 && type <= 3 ? answer_number(device, mhz, type == 2 ? 10501 : 2610)
                                  : answer(device, NVML_ERROR_INVALID_ARGUMENT);
}

nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned int *pct)
{
    (void)pct;
    return answer(device, NVML_ERROR_NOT_SUPPORTED);
}

static nvmlReturn_t answer_mode_call(const char *call, nvmlDevice_t device, int *mode)
{
    unsigned int number = 0;
    const nvmlReturn_t status = answer_number_call(call, device, mode ? &number : NULL, 0);

    if (status == NVML_SUCCESS)
        *mode = (int)number;
    return status;
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, int *mode)
{
    return answer_mode_call(__func__, device, mode);
}

nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, int *mode)
{
    return answer_mode_call(__func__, device, mode); /* 0: default */
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
    (void)current;
    (void)pending;
    return answer(device, NVML_ERROR_NOT_SUPPORTED);
}
