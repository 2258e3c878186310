/* SPDX-License-Identifier: Apache-2.0 */

#include "gpus/gpus.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/size.h"
#include "base/suggest.h"

#define SMALLEST_BYTES (512 * MIB)
#define LARGEST_BYTES  (1024 * GIB)

/* clang-format off */
static const struct gpu_profile profiles[] = {
    /* name         product                        capacity     context   mem  pcie  cc     SMs */
    { "rtx3060",    "NVIDIA GeForce RTX 3060",     12288 * MIB, 256 * MIB,  360, 32,  8, 6,  28 },
    { "rtx4060",    "NVIDIA GeForce RTX 4060",      8188 * MIB, 256 * MIB,  272, 16,  8, 9,  24 },
    { "rtx4070ti",  "NVIDIA GeForce RTX 4070 Ti",  12282 * MIB, 256 * MIB,  504, 32,  8, 9,  60 },
    { "rtx4080",    "NVIDIA GeForce RTX 4080",     16376 * MIB, 256 * MIB,  717, 32,  8, 9,  76 },
    { "rtx4090",    "NVIDIA GeForce RTX 4090",     24564 * MIB, 256 * MIB, 1008, 32,  8, 9, 128 },
    { "rtx5070ti",  "NVIDIA GeForce RTX 5070 Ti",  16303 * MIB, 256 * MIB,  896, 64, 12, 0,  70 },
    { "rtx5090",    "NVIDIA GeForce RTX 5090",     32607 * MIB, 256 * MIB, 1792, 64, 12, 0, 170 },
    { "rtxpro6000", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
                                                   97251 * MIB, 256 * MIB, 1792, 64, 12, 0, 188 },
    { "a100-80g",   "NVIDIA A100-SXM4-80GB",       81920 * MIB, 512 * MIB, 2039, 32,  8, 0, 108 },
    { "h100",       "NVIDIA H100 80GB HBM3",       81559 * MIB, 512 * MIB, 3350, 64,  9, 0, 132 },
    { "h200",       "NVIDIA H200",                143771 * MIB, 512 * MIB, 4800, 64,  9, 0, 132 },
};
/* clang-format on */

#define PROFILE_COUNT (sizeof(profiles) / sizeof(profiles[0]))

const struct gpu_profile *gpu_profiles(size_t *ret_count)
{
    *ret_count = PROFILE_COUNT;
    return profiles;
}

static const char *nearest_name(const char *text)
{
    const char *names[PROFILE_COUNT];

    for (size_t i = 0; i < PROFILE_COUNT; i++)
        names[i] = profiles[i].name;
    return suggest_nearest(text, names, PROFILE_COUNT);
}

static int generic_card(const char *text, struct gpu_profile *ret_profile, struct error *err)
{
    struct gpu_profile card = { .context_bytes = 256 * MIB,
                                .memory_gbps = 500,
                                .pcie_gbps = 32,
                                .compute_major = 8,
                                .compute_minor = 9,
                                .multiprocessor_count = 60 };
    uint64_t bytes = 0;
    const int r = size_parse(text, &bytes, err);

    if (r < 0)
        return r;
    if (bytes < SMALLEST_BYTES || bytes > LARGEST_BYTES)
        return error_set(err, -EINVAL, "a gpu of %s: give a size from 512MiB to 1024GiB", text);
    if (strlen(text) >= sizeof(card.name))
        return error_set(err, -EINVAL, "a gpu of %.40s…: write the size with fewer digits", text);
    (void)snprintf(card.name, sizeof(card.name), "%s", text);
    (void)snprintf(card.product, sizeof(card.product), "Emulated GPU %s", text);
    card.capacity_bytes = bytes / (2 * MIB) * (2 * MIB); /* the driver hands out 2 MiB pages */
    *ret_profile = card;
    return 0;
}

int gpu_profile_parse(const char *text, struct gpu_profile *ret_profile, struct error *err)
{
    for (size_t i = 0; i < PROFILE_COUNT; i++) {
        if (strcasecmp(text, profiles[i].name) == 0) {
            *ret_profile = profiles[i];
            return 0;
        }
    }
    if (isdigit((unsigned char)text[0]))
        return generic_card(text, ret_profile, err);

    const char *near = nearest_name(text);
    if (near)
        return error_set(err, -EINVAL, "unknown gpu '%s'; did you mean %s?", text, near);
    return error_set(err, -EINVAL,
                     "unknown gpu '%.64s'; name a known card or give a size like 6GiB", text);
}
