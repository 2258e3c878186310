/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "client/lease.h"

#define KNOWN_FLAGS                                                                                \
    (BRIM_CLAIM_HELD_BY_PROCESS | BRIM_CLAIM_ALWAYS_BUSY | BRIM_CLAIM_ADOPT | BRIM_CLAIM_LOAD_ALONE)

/* A caller that was built with a later header may send a longer struct, as long as it does not use
 * what we do not know. */
static int copy_claim(const struct brim_claim *claim, struct brim_claim *copy)
{
    const unsigned char *bytes = (const unsigned char *)claim;

    if (claim->struct_bytes < sizeof(*claim) || claim->struct_bytes > 4096)
        return BRIM_ERR_INVALID;
    for (size_t i = sizeof(*claim); i < claim->struct_bytes; i++) {
        if (bytes[i] != 0)
            return BRIM_ERR_INVALID;
    }
    memcpy(copy, claim, sizeof(*copy));
    return 0;
}

static int copy_text(const char *text, char *to, size_t to_bytes)
{
    const size_t length = strnlen(text, to_bytes);

    if (length >= to_bytes)
        return BRIM_ERR_INVALID;
    memcpy(to, text, length + 1);
    return 0;
}

static bool is_in_range(const struct brim_claim *claim)
{
    uint64_t peak_bytes = 0;

    return claim->reserved == 0 && (claim->flags & ~KNOWN_FLAGS) == 0 &&
           claim->priority <= BRIM_PRIORITY_BACKGROUND && claim->max_wait_ms >= BRIM_WAIT_FOREVER &&
           claim->pid <= INT32_MAX &&
           !__builtin_add_overflow(claim->resident_bytes, claim->burst_bytes, &peak_bytes) &&
           (peak_bytes > 0 || claim->load_peak_bytes > 0 || (claim->flags & BRIM_CLAIM_ADOPT) != 0);
}

int lease_check_claim(const struct brim_claim *claim, struct message_claim *ret_claim)
{
    struct brim_claim copy = { 0 };
    struct message_claim checked = { 0 };

    if (!claim || copy_claim(claim, &copy) < 0 || !is_in_range(&copy))
        return BRIM_ERR_INVALID;
    checked.resident_bytes = copy.resident_bytes;
    checked.burst_bytes = copy.burst_bytes;
    checked.load_peak_bytes = copy.load_peak_bytes;
    checked.max_wait_ms =
        copy.max_wait_ms == BRIM_WAIT_FOREVER ? UINT64_MAX : (uint64_t)copy.max_wait_ms;
    checked.pid = (uint32_t)copy.pid;
    checked.priority = copy.priority;
    checked.flags = copy.flags;
    if (copy.name && copy_text(copy.name, checked.name, sizeof(checked.name)) < 0)
        return BRIM_ERR_INVALID;
    if (!copy.name || copy.name[0] == '\0')
        (void)strncat(checked.name, program_invocation_short_name, sizeof(checked.name) - 1);
    if (copy.gpu && copy_text(copy.gpu, checked.gpu, sizeof(checked.gpu)) < 0)
        return BRIM_ERR_INVALID;
    *ret_claim = checked;
    return 0;
}
