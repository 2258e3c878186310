/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NARRATOR_GPU_H
#define NARRATOR_GPU_H

#include <stdint.h>

#include "base/error.h"

/*
 * The first gpu that this process sees ($CUDA_VISIBLE_DEVICES), with a context of its own: the few
 * calls that a program with a model needs. Errors name the driver's call.
 */

#define GPU_REFUSED 1 /* positive: the card has no room for it */

struct gpu;

int gpu_open(struct gpu **ret_gpu, struct error *err) __attribute__((warn_unused_result));
void gpu_close(struct gpu *gpu);

/* 0, GPU_REFUSED or negative. Nothing is cleared. */
int gpu_alloc(struct gpu *gpu, uint64_t bytes, uint64_t *ret_address, struct error *err)
    __attribute__((warn_unused_result));
/* What the whole card had left when it last refused. */
uint64_t gpu_refused_free_bytes(const struct gpu *gpu);
int gpu_free(struct gpu *gpu, uint64_t address, struct error *err);

int gpu_write(struct gpu *gpu, uint64_t address, const void *data, uint64_t bytes,
              struct error *err);
int gpu_read(struct gpu *gpu, uint64_t address, void *ret_data, uint64_t bytes, struct error *err);

/* What the whole card has left, now. */
int gpu_free_bytes(struct gpu *gpu, uint64_t *ret_bytes, struct error *err);

/* Give up the context and all that is in it, and make a new one. */
int gpu_renew(struct gpu *gpu, struct error *err);

#endif
