/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GPUS_GPUS_H
#define GPUS_GPUS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Profiles of known cards: what `brim emulate --gpu NAME` emulates and what `brim plan` plans for.
 *
 * Capacity is what nvidia-smi shows as the card's total. Bandwidths are the maker's peak figures.
 * context_bytes is what a process's first context takes on the emulated card: a documented
 * assumption, not a measurement. A real context's size depends on driver, card and program, which
 * is why Brim measures it and never computes with this number.
 */

#define GPU_PROFILE_NAME_BYTES 32

struct gpu_profile {
    char name[GPU_PROFILE_NAME_BYTES]; /* as typed: "rtx4070ti" */
    char product[64];                  /* as NVML says it: "NVIDIA GeForce RTX 4070 Ti" */
    uint64_t capacity_bytes;
    uint64_t context_bytes;
    uint32_t memory_gbps; /* device memory, 10^9 bytes a second */
    uint32_t pcie_gbps;   /* host to device, one direction, 10^9 bytes a second */
    uint32_t compute_major, compute_minor;
    uint32_t multiprocessor_count;
};

/* All known profiles, in the order they are listed to people. */
const struct gpu_profile *gpu_profiles(size_t *ret_count);

/* Resolve what a person typed: a profile's name, or a size ("6GiB": a generic card of that size).
 * -EINVAL, with a message that names the nearest profile, for anything else. */
int gpu_profile_parse(const char *text, struct gpu_profile *ret_profile, struct error *err)
    __attribute__((warn_unused_result));

#endif
