/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NARRATOR_CANARY_H
#define NARRATOR_CANARY_H

#include <stddef.h>
#include <stdint.h>

#include "gpu.h"

/*
 * Device memory that proves it is ours: one allocation with a page of known words at the start of
 * each 2 MiB. Two programs that were given the same bytes, or bytes that a free took away, show up
 * at the next check. The rest stays untouched, so an emulated card costs next to no host memory.
 */

#define CANARY_STEP_BYTES (UINT64_C(2) << 20)
#define CANARY_PAGE_BYTES 4096

struct canary_block {
    uint64_t address; /* 0: none */
    uint64_t bytes;
    uint64_t seed; /* what its pages are made from */
};

/* Allocate (0, GPU_REFUSED or negative; refused means that nothing was taken), and free; freeing
 * nothing is fine. */
int canary_alloc(struct gpu *gpu, uint64_t bytes, uint64_t seed, struct canary_block *ret_block,
                 struct error *err) __attribute__((warn_unused_result));
int canary_free(struct gpu *gpu, struct canary_block *block, struct error *err);

/* Write all pages, or check all; -EBADMSG, with a message, where a page is not as it was written.
 */
int canary_write(struct gpu *gpu, const struct canary_block *block, struct error *err);
int canary_check(struct gpu *gpu, const struct canary_block *block, struct error *err);

/* The pages of a block, one behind the other, between device and host: canary_pages_bytes() of
 * them. */
size_t canary_pages_bytes(const struct canary_block *block);
int canary_save(struct gpu *gpu, const struct canary_block *block, void *ret_pages,
                struct error *err);
int canary_restore(struct gpu *gpu, const struct canary_block *block, const void *pages,
                   struct error *err);

#endif
