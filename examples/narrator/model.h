/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NARRATOR_MODEL_H
#define NARRATOR_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "canary.h"

/*
 * What stands for the model: device memory of its size, held in chunks as a framework's caching
 * allocator would, plus the working memory of a segment while it lasts. Both hold canaries.
 */

#define MODEL_CHUNK_BYTES (UINT64_C(128) << 20)
#define MODEL_CHUNK_MAX   1024

struct model {
    struct gpu *gpu; /* borrowed */
    size_t chunk_count;
    struct canary_block chunks[MODEL_CHUNK_MAX];
    struct canary_block work;
    uint64_t refused_bytes; /* what the card said no to, where a call returned GPU_REFUSED */
    size_t check_at;        /* the chunk whose turn it is */
};

/* Take bytes (rounded down to whole 2 MiB) and write the canaries: 0, GPU_REFUSED or negative. */
int model_load(struct model *model, struct gpu *gpu, uint64_t bytes, struct error *err)
    __attribute__((warn_unused_result));
void model_unload(struct model *model);

/* The working memory of one segment: take it and write its canaries (0, GPU_REFUSED or negative);
 * check them, and those of some chunks of the model; give it back. */
int model_work_begin(struct model *model, uint64_t bytes, struct error *err)
    __attribute__((warn_unused_result));
int model_work_check(struct model *model, struct error *err);
int model_work_end(struct model *model, struct error *err);

/* Check every canary of the model. */
int model_check(struct model *model, struct error *err);

/* Move the model to host memory, give up the context, make a new one and move it back: seed for
 * seed what it was, or an error. GPU_REFUSED where the card took the room meanwhile. */
int model_flush(struct model *model, struct error *err) __attribute__((warn_unused_result));

/* How much working memory a segment of so many characters takes: as attention does, it grows with
 * the square of the length, up to most_bytes. Always the same for the same length. */
uint64_t model_work_bytes(size_t text_bytes, uint64_t most_bytes);

#endif
