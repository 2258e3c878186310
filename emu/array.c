/* SPDX-License-Identifier: Apache-2.0 */

#include "array.h"

#include <stdlib.h>

#include "stream.h"

#define BLOCK_BYTES UINT64_C(64)
#define BLOCK_ROWS  UINT64_C(8)
#define TILE_HEIGHT UINT64_C(16) /* blocks */
#define TILE_DEPTH  UINT64_C(32) /* slices */

#define FLAGS_KNOWN                                                                                \
    (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_CUBEMAP |                     \
     CUDA_ARRAY3D_TEXTURE_GATHER | CUDA_ARRAY3D_DEPTH_TEXTURE | CUDA_ARRAY3D_COLOR_ATTACHMENT |    \
     CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)

static struct array *first_array;   /* owned, but for levels */
static struct mipmap *first_mipmap; /* owned */
static struct handles arrays, mipmaps;

static uint64_t round_up(uint64_t number, uint64_t step)
{
    return (number + step - 1) / step * step;
}

/* The smallest power of two that covers it, at most the limit. */
static uint64_t tile_of(uint64_t count, uint64_t limit)
{
    uint64_t tile = 1;

    while (tile < count && tile < limit)
        tile *= 2;
    return tile;
}

/* 0: no format of ours. */
static uint64_t format_bytes(CUarray_format format)
{
    switch ((int)format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
        return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
        return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
        return 4;
    default:
        return 0;
    }
}

static bool is_layered(const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    return (descriptor->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0;
}

/* Fills what the copies go by; returns the bytes that it takes. */
static uint64_t lay_out(const CUDA_ARRAY3D_DESCRIPTOR *descriptor, struct array *array)
{
    const uint64_t rows = descriptor->Height > 0 ? descriptor->Height : 1;
    const uint64_t slices = descriptor->Depth > 0 ? descriptor->Depth : 1;
    const uint64_t tile_rows =
        BLOCK_ROWS * tile_of((rows + BLOCK_ROWS - 1) / BLOCK_ROWS, TILE_HEIGHT);
    const uint64_t tile_slices = is_layered(descriptor) ? 1 : tile_of(slices, TILE_DEPTH);

    array->descriptor = *descriptor;
    array->row_bytes =
        descriptor->Width * descriptor->NumChannels * format_bytes(descriptor->Format);
    array->rows = rows;
    array->slices = slices;
    array->pitch = round_up(array->row_bytes, BLOCK_BYTES);
    array->slice_bytes = array->pitch * round_up(rows, tile_rows);
    return array->slice_bytes * round_up(slices, tile_slices);
}

uint64_t array_bytes(const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    struct array array = { 0 };

    return lay_out(descriptor, &array);
}

static uint64_t halve(uint64_t extent, uint32_t level)
{
    return extent == 0 ? 0 : extent >> level == 0 ? 1 : extent >> level;
}

static CUDA_ARRAY3D_DESCRIPTOR level_descriptor(const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
                                                uint32_t level)
{
    CUDA_ARRAY3D_DESCRIPTOR made = *descriptor;

    made.Width = halve(made.Width, level);
    made.Height = halve(made.Height, level);
    if (!is_layered(descriptor))
        made.Depth = halve(made.Depth, level);
    return made;
}

uint64_t array_mipmap_bytes(const CUDA_ARRAY3D_DESCRIPTOR *descriptor, uint32_t level_count)
{
    uint64_t bytes = 0;

    for (uint32_t level = 0; level < level_count; level++) {
        const CUDA_ARRAY3D_DESCRIPTOR one = level_descriptor(descriptor, level);
        bytes += array_bytes(&one);
    }
    return bytes;
}

/* Those of cards of compute capability 6.0 and newer, as the CUDA programming guide lists them. */
int array_limit(int attribute)
{
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_WIDTH:
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_WIDTH:
        return 131072;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_HEIGHT:
        return 65536;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_WIDTH:
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_HEIGHT:
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_DEPTH:
        return 16384;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_WIDTH:
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_WIDTH:
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_HEIGHT:
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_GATHER_WIDTH:
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_GATHER_HEIGHT:
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_WIDTH:
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH:
        return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_LAYERS:
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_LAYERS:
        return 2048;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS:
        return 2046;
    default:
        return 0;
    }
}

static bool is_within(size_t extent, int attribute)
{
    return extent > 0 && extent <= (size_t)array_limit(attribute);
}
#define FITS(extent, limit) is_within(extent, CU_DEVICE_ATTRIBUTE_MAXIMUM_##limit)

static bool fits_cube(const CUDA_ARRAY3D_DESCRIPTOR *d)
{
    if (d->Width != d->Height)
        return false;
    return (d->Flags & CUDA_ARRAY3D_LAYERED) != 0
               ? FITS(d->Width, TEXTURECUBEMAP_LAYERED_WIDTH) && d->Depth % 6 == 0 &&
                     FITS(d->Depth, TEXTURECUBEMAP_LAYERED_LAYERS)
               : FITS(d->Width, TEXTURECUBEMAP_WIDTH) && d->Depth == 6;
}

/* As the table of cuArray3DCreate has them. */
static bool fits_limits(const CUDA_ARRAY3D_DESCRIPTOR *d)
{
    if ((d->Flags & CUDA_ARRAY3D_CUBEMAP) != 0)
        return fits_cube(d);
    if ((d->Flags & CUDA_ARRAY3D_LAYERED) != 0)
        return d->Height == 0 ? FITS(d->Width, TEXTURE1D_LAYERED_WIDTH) &&
                                    FITS(d->Depth, TEXTURE1D_LAYERED_LAYERS)
                              : FITS(d->Width, TEXTURE2D_LAYERED_WIDTH) &&
                                    FITS(d->Height, TEXTURE2D_LAYERED_HEIGHT) &&
                                    FITS(d->Depth, TEXTURE2D_LAYERED_LAYERS);
    if (d->Depth > 0)
        return FITS(d->Width, TEXTURE3D_WIDTH) && FITS(d->Height, TEXTURE3D_HEIGHT) &&
               FITS(d->Depth, TEXTURE3D_DEPTH);
    if ((d->Flags & CUDA_ARRAY3D_TEXTURE_GATHER) != 0)
        return FITS(d->Width, TEXTURE2D_GATHER_WIDTH) && FITS(d->Height, TEXTURE2D_GATHER_HEIGHT);
    return d->Height == 0 ? FITS(d->Width, TEXTURE1D_WIDTH)
                          : FITS(d->Width, TEXTURE2D_WIDTH) && FITS(d->Height, TEXTURE2D_HEIGHT);
}

CUresult array_check(const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    const unsigned int channels = descriptor->NumChannels;

    if (descriptor->Width == 0 || (channels != 1 && channels != 2 && channels != 4) ||
        (descriptor->Flags & ~FLAGS_KNOWN) != 0 || !fits_limits(descriptor))
        return CUDA_ERROR_INVALID_VALUE;
    if (format_bytes(descriptor->Format) == 0)
        return (int)descriptor->Format >= 0x50 && (int)descriptor->Format <= 0xcb
                   ? CUDA_ERROR_NOT_SUPPORTED
                   : CUDA_ERROR_INVALID_VALUE;
    return (descriptor->Flags & CUDA_ARRAY3D_SPARSE) != 0 ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}

/* The array is the caller's to fill and to link; its memory, too. */
static struct array *make(const struct CUctx_st *context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    struct array *const array = calloc(1, sizeof(*array));

    if (!array)
        return NULL;
    array->handle = handle_new(&arrays, array);
    if (!array->handle) {
        free(array);
        return NULL;
    }
    array->context = context;
    (void)lay_out(descriptor, array);
    return array;
}

static void unmake(struct array *array)
{
    handle_free(&arrays, array->handle);
    free(array);
}

/* What is mapped later costs nothing of its own. */
static CUresult take_memory(struct CUctx_st *context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
                            uint64_t bytes, CUdeviceptr *ret_base)
{
    if ((descriptor->Flags & CUDA_ARRAY3D_DEFERRED_MAPPING) == 0)
        return space_alloc(context, bytes, ret_base);
    *ret_base = 0;
    return CUDA_SUCCESS;
}

CUresult array_new(struct CUctx_st *context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
                   struct array **ret_array)
{
    struct array *const array = make(context, descriptor);

    if (!array)
        return cuda_count_oom(&cuda.gpus[context->gpu]);
    const CUresult status = take_memory(context, descriptor, array_bytes(descriptor), &array->base);
    if (status != CUDA_SUCCESS) {
        unmake(array);
        return status;
    }
    array->next = first_array;
    first_array = array;
    *ret_array = array;
    return CUDA_SUCCESS;
}

static void give_memory(const struct CUctx_st *context, CUdeviceptr base, uint64_t bytes)
{
    struct place place;

    if (base == 0 || !space_find(base, &place))
        return;
    const struct end end = { .gpu = &cuda.gpus[context->gpu], .offset = place.offset };
    race_check_free(&end, bytes, "cuArrayDestroy");
    (void)space_free(base);
}

void array_free(struct array *array)
{
    struct array **link = &first_array;

    while (*link != array)
        link = &(*link)->next;
    *link = array->next;
    give_memory(array->context, array->base, array_bytes(&array->descriptor));
    unmake(array);
}

CUresult array_new_mipmap(struct CUctx_st *context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
                          uint32_t level_count, struct mipmap **ret_mipmap)
{
    struct mipmap *const mipmap = calloc(1, sizeof(*mipmap));

    if (mipmap)
        mipmap->handle = handle_new(&mipmaps, mipmap);
    if (!mipmap || !mipmap->handle) {
        free(mipmap);
        return cuda_count_oom(&cuda.gpus[context->gpu]);
    }
    const CUresult status = take_memory(context, descriptor,
                                        array_mipmap_bytes(descriptor, level_count), &mipmap->base);
    if (status != CUDA_SUCCESS) {
        handle_free(&mipmaps, mipmap->handle);
        free(mipmap);
        return status;
    }
    mipmap->context = context;
    mipmap->descriptor = *descriptor;
    mipmap->level_count = level_count;
    mipmap->next = first_mipmap;
    first_mipmap = mipmap;
    *ret_mipmap = mipmap;
    return CUDA_SUCCESS;
}

CUresult array_level(struct mipmap *mipmap, uint32_t level, struct array **ret_array)
{
    const CUDA_ARRAY3D_DESCRIPTOR descriptor = level_descriptor(&mipmap->descriptor, level);

    if (!mipmap->levels[level]) {
        struct array *const made = make(mipmap->context, &descriptor);
        if (!made)
            return cuda_count_oom(&cuda.gpus[mipmap->context->gpu]);
        made->mipmap = mipmap;
        made->base =
            mipmap->base == 0 ? 0 : mipmap->base + array_mipmap_bytes(&mipmap->descriptor, level);
        mipmap->levels[level] = made;
    }
    *ret_array = mipmap->levels[level];
    return CUDA_SUCCESS;
}

void array_free_mipmap(struct mipmap *mipmap)
{
    struct mipmap **link = &first_mipmap;

    while (*link != mipmap)
        link = &(*link)->next;
    *link = mipmap->next;
    for (uint32_t i = 0; i < mipmap->level_count; i++) {
        if (mipmap->levels[i])
            unmake(mipmap->levels[i]);
    }
    give_memory(mipmap->context, mipmap->base,
                array_mipmap_bytes(&mipmap->descriptor, mipmap->level_count));
    handle_free(&mipmaps, mipmap->handle);
    free(mipmap);
}

struct array *array_get(CUarray handle)
{
    return handle_get(&arrays, handle);
}

struct mipmap *array_get_mipmap(CUmipmappedArray handle)
{
    return handle_get(&mipmaps, handle);
}

void array_free_all(const struct CUctx_st *context)
{
    struct array *next = NULL;
    struct mipmap *next_mipmap = NULL;

    for (struct array *array = first_array; array; array = next) {
        next = array->next;
        if (array->context == context)
            array_free(array);
    }
    for (struct mipmap *mipmap = first_mipmap; mipmap; mipmap = next_mipmap) {
        next_mipmap = mipmap->next;
        if (mipmap->context == context)
            array_free_mipmap(mipmap);
    }
}
