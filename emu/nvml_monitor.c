/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The figures that monitors show beside memory. An emulated card does no work: it is idle and cool.
 */

#include <stdint.h>

#include "nvml_state.h"

static nvmlReturn_t answer_number_call(const char *call, nvmlDevice_t device, unsigned int *out,
                                       unsigned int number)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device_call(call, device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    if (!out)
        return nvml_leave(NVML_ERROR_INVALID_ARGUMENT);
    *out = number;
    return nvml_leave(NVML_SUCCESS);
}

#define answer_number(...) answer_number_call(__func__, __VA_ARGS__)

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates)
{
    if (!rates)
        return NVML_ERROR_INVALID_ARGUMENT;
    rates->memory = 0;
    return answer_number(device, &rates->gpu, 0);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *celsius)
{
    return sensor == 0 ? answer_number(device, celsius, 40) : NVML_ERROR_INVALID_ARGUMENT;
}

/* Shutdown, slowdown, memory, gpu. */
nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, int threshold,
                                               unsigned int *celsius)
{
    static const unsigned int thresholds[] = { 100, 95, 95, 90 };

    return threshold >= 0 && threshold < 4 ? answer_number(device, celsius, thresholds[threshold])
                                           : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int *pct,
                                             unsigned int *period_us)
{
    const nvmlReturn_t status = answer_number(device, pct, 0);

    return status == NVML_SUCCESS ? answer_number(device, period_us, 167000) : status;
}

nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int *pct,
                                             unsigned int *period_us)
{
    return nvmlDeviceGetEncoderUtilization(device, pct, period_us);
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
                                        : NVML_ERROR_INVALID_ARGUMENT;
}

/* NVML's numbers of the generations: Ampere 7, Ada 8, Hopper 9, Blackwell 10. */
nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned int *architecture)
{
    uint32_t gpu = 0;
    const nvmlReturn_t status = nvml_enter_device(device, &gpu);

    if (status != NVML_SUCCESS)
        return status;
    const uint32_t major = nvml.gpus[gpu].compute_major, minor = nvml.gpus[gpu].compute_minor;
    (void)nvml_leave(status);
    return answer_number(device, architecture,
                         major >= 10  ? 10
                         : major == 9 ? 9
                         : minor == 9 ? 8
                                      : 7);
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
                                  : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, int type, unsigned int *mhz)
{
    return type >= 0 && type <= 3 ? answer_number(device, mhz, type == 2 ? 10501 : 2610)
                                  : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned int *pct)
{
    (void)device;
    (void)pct;
    return NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, int *mode)
{
    unsigned int number = 0;
    const nvmlReturn_t status = answer_number(device, &number, 0);

    if (status == NVML_SUCCESS && mode)
        *mode = (int)number;
    return mode ? status : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, int *mode)
{
    return nvmlDeviceGetPersistenceMode(device, mode); /* 0: default */
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
    (void)device;
    (void)current;
    (void)pending;
    return NVML_ERROR_NOT_SUPPORTED;
}
