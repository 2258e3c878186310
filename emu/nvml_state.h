/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_NVML_STATE_H
#define EMU_NVML_STATE_H

#include <pthread.h>
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

/* Take the lock; on failure it is not taken. */
nvmlReturn_t nvml_enter(void);
nvmlReturn_t nvml_enter_device(nvmlDevice_t device, uint32_t *ret_gpu);
nvmlReturn_t nvml_leave(nvmlReturn_t status);
nvmlReturn_t nvml_text(char *out, unsigned int out_bytes, const char *text);

#endif
