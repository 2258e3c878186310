/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BUDGET_CLAIM_H
#define BUDGET_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A claim is what a holder asks for, on one gpu, on any, or on several at once. All bytes are what
 * the driver shows for the process tree, the CUDA context inside them.
 */

#define CLAIM_NAME_BYTES 64
#define CLAIM_PART_MAX   8
#define CLAIM_GPU_ANY    UINT32_MAX

enum claim_priority {
    CLAIM_PRIORITY_BACKGROUND = 0,
    CLAIM_PRIORITY_NORMAL = 1,
    CLAIM_PRIORITY_INTERACTIVE = 2,
};
#define CLAIM_PRIORITY_COUNT 3

struct claim_part {
    uint32_t gpu; /* index in the budget, or CLAIM_GPU_ANY (then it is the only part) */
    uint64_t resident_bytes;
    uint64_t burst_bytes;
    uint64_t load_peak_bytes; /* 0: resident_bytes */
};

struct claim {
    char name[CLAIM_NAME_BYTES];
    enum claim_priority priority;
    bool is_pinned;      /* never a victim */
    bool is_load_alone;  /* needs the gpu to itself while it loads */
    bool is_always_busy; /* charged resident + burst from the grant on */
    uint32_t part_count; /* 1 .. CLAIM_PART_MAX */
    struct claim_part parts[CLAIM_PART_MAX];
};

#endif
