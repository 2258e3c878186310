/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_ARRAY_H
#define EMU_ARRAY_H

#include "cuda/array.h"
#include "cuda_state.h"

/*
 * Arrays. Each is memory of its context like cuMemAlloc's, and costs as much as the hardware's
 * layout takes; what it means is rows of elements, a pitch apart, in slices. No address of it is
 * told to anybody.
 *
 * The layout is counted as Mesa's open driver has it (src/nouveau/nil/tiling.rs): the memory of an
 * image is made of blocks of 64 bytes by 8 rows, put together to tiles of up to 16 blocks in height
 * and, where there is a depth, 32 in depth, never more than the next power of two of what there is.
 *
 *   array.c       layout, arrays and levels      cuda_array.c  the entry points
 */

struct array {
    struct array *next; /* of the process */
    CUarray handle;
    const struct CUctx_st *context; /* borrowed */
    struct mipmap *mipmap;          /* borrowed: what it is a level of; NULL: none */
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    CUdeviceptr base; /* 0: nothing is mapped to it */
    uint64_t row_bytes, pitch, slice_bytes;
    uint64_t rows, slices; /* at least 1 */
};

struct mipmap {
    struct mipmap *next; /* of the process */
    CUmipmappedArray handle;
    const struct CUctx_st *context; /* borrowed */
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    CUdeviceptr base;
    uint32_t level_count;
    struct array *levels[32]; /* owned; made when they are asked for */
};

/* What it takes, and what its memory must be aligned to where it is mapped. */
#define ARRAY_ALIGNMENT UINT64_C(65536)
uint64_t array_bytes(const CUDA_ARRAY3D_DESCRIPTOR *descriptor);
uint64_t array_mipmap_bytes(const CUDA_ARRAY3D_DESCRIPTOR *descriptor, uint32_t level_count);
/* The largest extents, by the attribute of the device that tells them; 0: it tells something else.
 */
int array_limit(int attribute);
/* CUDA_ERROR_INVALID_VALUE, or _NOT_SUPPORTED for what is not emulated. */
CUresult array_check(const CUDA_ARRAY3D_DESCRIPTOR *descriptor);

CUresult array_new(struct CUctx_st *context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
                   struct array **ret_array);
CUresult array_new_mipmap(struct CUctx_st *context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
                          uint32_t level_count, struct mipmap **ret_mipmap);
CUresult array_level(struct mipmap *mipmap, uint32_t level, struct array **ret_array);
void array_free(struct array *array);
void array_free_mipmap(struct mipmap *mipmap);
/* NULL: no living array. */
struct array *array_get(CUarray handle);
struct mipmap *array_get_mipmap(CUmipmappedArray handle);
/* Before the context's memory goes. */
void array_free_all(const struct CUctx_st *context);

#endif
