/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_NVML_STATE_H
#define EMU_NVML_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "cuda/nvml.h"
#include "link.h"

/* What one process knows inside the emulated libnvidia-ml; one lock guards it. */
struct nvml {
    pthread_mutex_t lock;
    struct link link;
    uint32_t init_count;
    uint32_t gpu_count;
    struct emu_gpu_info gpus[EMU_GPU_MAX];
};

extern struct nvml nvml;

/* Take the lock; on failure it is not taken. What a test has ordered for the call is one; helpers
 * hand the name of their caller down. */
nvmlReturn_t nvml_enter_call(const char *call);
nvmlReturn_t nvml_enter_device_call(const char *call, nvmlDevice_t device, uint32_t *ret_gpu);
#define nvml_enter()                       nvml_enter_call(__func__)
#define nvml_enter_device(device, ret_gpu) nvml_enter_device_call(__func__, device, ret_gpu)
/* The gpu has fallen off the bus. */
bool nvml_is_lost(uint32_t gpu);
/* EMU_MODE_* */
bool nvml_has_mode(uint32_t mode);
nvmlReturn_t nvml_leave(nvmlReturn_t status);
nvmlReturn_t nvml_text(char *out, unsigned int out_bytes, const char *text);

#endif
