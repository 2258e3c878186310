/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/terms.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <brim/brim.h>

#define FLAGS_KNOWN                                                                                \
    (BRIM_CLAIM_HELD_BY_PROCESS | BRIM_CLAIM_ALWAYS_BUSY | BRIM_CLAIM_ADOPT | BRIM_CLAIM_LOAD_ALONE)

static int priority_of(uint32_t priority, enum claim_priority *ret_priority)
{
    switch (priority) {
    case BRIM_PRIORITY_NORMAL:
        *ret_priority = CLAIM_PRIORITY_NORMAL;
        return 0;
    case BRIM_PRIORITY_INTERACTIVE:
        *ret_priority = CLAIM_PRIORITY_INTERACTIVE;
        return 0;
    case BRIM_PRIORITY_BACKGROUND:
        *ret_priority = CLAIM_PRIORITY_BACKGROUND;
        return 0;
    default:
        return -EINVAL;
    }
}

static int add_part(const struct gpus *gpus, const char *name, struct claim *claim, char *why,
                    size_t why_bytes)
{
    struct claim_part *part = NULL;

    if (claim->part_count >= CLAIM_PART_MAX) {
        (void)snprintf(why, why_bytes, "a claim names at most %d gpus", CLAIM_PART_MAX);
        return -EINVAL;
    }
    part = &claim->parts[claim->part_count];
    if (gpu_find(gpus, name, &part->gpu) < 0) {
        (void)snprintf(why, why_bytes, "there is no gpu \"%s\" here; brim ps shows what there is",
                       name);
        return -ENOENT;
    }
    for (uint32_t i = 0; i < claim->part_count; i++) {
        if (claim->parts[i].gpu == part->gpu) {
            (void)snprintf(why, why_bytes, "gpu \"%s\" is named twice", name);
            return -EINVAL;
        }
    }
    claim->part_count++;
    return 0;
}

static int add_parts(const struct gpus *gpus, const char *names, struct claim *claim, char *why,
                     size_t why_bytes)
{
    char text[MESSAGE_UUID_BYTES * MESSAGE_PART_MAX];
    char *rest = text;
    const char *name = NULL;

    if (names[0] == '\0') {
        claim->part_count = 1;
        claim->parts[0].gpu = CLAIM_GPU_ANY;
        return 0;
    }
    (void)snprintf(text, sizeof(text), "%s", names);
    while ((name = strsep(&rest, ","))) {
        const int r = add_part(gpus, name, claim, why, why_bytes);
        if (r < 0)
            return r;
    }
    return 0;
}

int terms_to_claim(const struct gpus *gpus, const struct message_claim *message,
                   struct claim *ret_claim, char *why, size_t why_bytes)
{
    struct claim claim = {
        .is_load_alone = (message->flags & BRIM_CLAIM_LOAD_ALONE) != 0,
        .is_always_busy = (message->flags & BRIM_CLAIM_ALWAYS_BUSY) != 0,
    };
    int r = 0;

    if ((message->flags & ~FLAGS_KNOWN) != 0 ||
        priority_of(message->priority, &claim.priority) < 0) {
        (void)snprintf(why, why_bytes,
                       "the claim has flags or a priority that this brimd (%s) "
                       "does not know",
                       BRIM_VERSION);
        return -EINVAL;
    }
    r = add_parts(gpus, message->gpu, &claim, why, why_bytes);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < claim.part_count; i++) {
        claim.parts[i].resident_bytes = message->resident_bytes;
        claim.parts[i].burst_bytes = message->burst_bytes;
        claim.parts[i].load_peak_bytes = message->load_peak_bytes;
    }
    (void)snprintf(claim.name, sizeof(claim.name), "%s", message->name);
    *ret_claim = claim;
    return 0;
}
