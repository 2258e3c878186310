/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copies and sets of boxes: rows of bytes, a pitch apart, in slices. Each slice is one piece of
 * work. Where the rows of both sides follow each other without a gap, or lie in several mappings,
 * the work is that of plain copies.
 */

#include "array.h"
#include "copy.h"
#include "graph.h"
#include "managed.h"

#define PITCH_MAX_BYTES ((size_t)INT32_MAX)

/* One side of a box: where its first byte is, and how far apart its rows and slices are. */
struct side {
    struct copy_operand operand;
    size_t pitch, slice_bytes;
};

struct box {
    struct side to, from;
    size_t width_bytes, rows, slices;
    struct copy_request request; /* how it is copied */
};

/* One side as a call names it. */
struct named {
    unsigned int type;
    const void *host;
    CUdeviceptr device;
    CUarray array;
    size_t x_bytes, y, z;
    size_t pitch, height;
};

static CUresult find_array(const struct named *named, const struct box *box, struct side *ret_side)
{
    const struct array *const array = array_get(named->array);

    if (!array)
        return CUDA_ERROR_INVALID_HANDLE;
    if (array->base == 0 || named->x_bytes > array->row_bytes ||
        box->width_bytes > array->row_bytes - named->x_bytes || named->y > array->rows ||
        box->rows > array->rows - named->y || named->z > array->slices ||
        box->slices > array->slices - named->z)
        return CUDA_ERROR_INVALID_VALUE;
    ret_side->operand.is_device = true;
    ret_side->pitch = array->pitch;
    ret_side->slice_bytes = array->slice_bytes;
    ret_side->operand.address =
        array->base + named->z * array->slice_bytes + named->y * array->pitch + named->x_bytes;
    return CUDA_SUCCESS;
}

static CUresult find_linear(const struct named *named, const struct box *box, struct side *ret_side)
{
    const CUdeviceptr base =
        named->type == CU_MEMORYTYPE_HOST ? (CUdeviceptr)(uintptr_t)named->host : named->device;
    size_t least = 0, rows = 0, before_z = 0, before_y = 0;

    if (__builtin_add_overflow(named->x_bytes, box->width_bytes, &least) ||
        __builtin_add_overflow(named->y, box->rows, &rows) || least > PITCH_MAX_BYTES ||
        named->pitch > PITCH_MAX_BYTES)
        return CUDA_ERROR_INVALID_VALUE;
    /* Without a pitch, or for one slice without a height, there is no room between them. */
    if ((named->pitch != 0 && named->pitch < least) ||
        (named->height != 0 ? named->height < rows : box->slices > 1 || named->z > 0))
        return CUDA_ERROR_INVALID_VALUE;
    ret_side->operand.is_device = named->type == CU_MEMORYTYPE_DEVICE;
    ret_side->pitch = named->pitch != 0 ? named->pitch : least;
    if (__builtin_mul_overflow(ret_side->pitch, named->height != 0 ? named->height : rows,
                               &ret_side->slice_bytes) ||
        __builtin_mul_overflow(ret_side->slice_bytes, named->z, &before_z) ||
        __builtin_mul_overflow(ret_side->pitch, named->y, &before_y) || base == 0)
        return CUDA_ERROR_INVALID_VALUE;
    ret_side->operand.address = base + before_z + before_y + named->x_bytes;
    return CUDA_SUCCESS;
}

static CUresult find_side(const struct named *named, const struct box *box, struct side *ret_side)
{
    switch (named->type) {
    case CU_MEMORYTYPE_ARRAY:
        return find_array(named, box, ret_side);
    case CU_MEMORYTYPE_HOST:
    case CU_MEMORYTYPE_DEVICE:
    case CU_MEMORYTYPE_UNIFIED:
        return find_linear(named, box, ret_side);
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

/* From the first byte to the last. */
static bool find_span(const struct side *side, const struct box *box, size_t slices,
                      size_t *ret_bytes)
{
    size_t rows = 0, all = 0;

    if (__builtin_mul_overflow(side->pitch, box->rows - 1, &rows) ||
        __builtin_mul_overflow(side->slice_bytes, slices - 1, &all) ||
        __builtin_add_overflow(rows, all, &all) ||
        __builtin_add_overflow(all, box->width_bytes, ret_bytes))
        return false;
    return *ret_bytes <= UINT64_MAX - side->operand.address;
}

static CUresult check_side(const struct side *side, const struct box *box,
                           const struct CUctx_st *context)
{
    size_t bytes = 0;

    return find_span(side, box, box->slices, &bytes) ? copy_check(&side->operand, bytes, context)
                                                     : CUDA_ERROR_INVALID_VALUE;
}

/* Row by row, or all at once: plain copies. */
static CUresult copy_plain(const struct box *box, size_t slice, bool is_one)
{
    CUresult status = CUDA_SUCCESS;
    struct copy_request request = box->request;

    request.is_asked = true;
    request.is_to_device = box->to.operand.is_device;
    request.is_from_device = box->from.operand.is_device;
    request.bytes = is_one ? box->width_bytes * box->rows : box->width_bytes;
    for (size_t row = 0; row < (is_one ? 1 : box->rows) && status == CUDA_SUCCESS; row++) {
        request.to = box->to.operand.address + slice * box->to.slice_bytes + row * box->to.pitch;
        request.from =
            box->from.operand.address + slice * box->from.slice_bytes + row * box->from.pitch;
        status = copy_run(&request);
    }
    return status;
}

static CUresult locate_slice(const struct side *side, const struct box *box, size_t slice,
                             const struct CUctx_st *context, struct end *ret_end,
                             bool *inout_is_one)
{
    size_t bytes = 0;

    (void)find_span(side, box, 1, &bytes); /* shorter than what was checked */
    const size_t wanted = bytes;
    const CUresult status =
        copy_locate(&side->operand, slice * side->slice_bytes, &bytes, context, ret_end);
    *inout_is_one = *inout_is_one && bytes == wanted;
    if (status == CUDA_SUCCESS)
        managed_touch(side->operand.address + slice * side->slice_bytes, wanted, context->gpu);
    return status;
}

static CUresult copy_slice(const struct box *box, size_t slice)
{
    const bool is_gapless = box->rows == 1 || (box->to.pitch == box->width_bytes &&
                                               box->from.pitch == box->width_bytes);
    struct work work = { .kind = WORK_COPY,
                         .bytes = box->width_bytes,
                         .rows = box->rows,
                         .to_pitch = box->to.pitch,
                         .from_pitch = box->from.pitch };
    struct CUctx_st *context = NULL;
    bool is_one = true;

    if (is_gapless)
        return copy_plain(box, slice, true);
    CUresult status = cuda_enter_context_call(NULL, &context);
    if (status != CUDA_SUCCESS)
        return status;
    status = locate_slice(&box->to, box, slice, context, &work.to, &is_one);
    if (status == CUDA_SUCCESS)
        status = locate_slice(&box->from, box, slice, context, &work.from, &is_one);
    if (status == CUDA_SUCCESS && is_one)
        return copy_submit(&work, &box->request);
    (void)cuda_leave(status);
    return status == CUDA_SUCCESS ? copy_plain(box, slice, false) : status;
}

static CUresult copy_box(struct box *box, const struct named *to, const struct named *from)
{
    struct CUctx_st *context = NULL;
    const bool is_empty = box->width_bytes == 0 || box->rows == 0 || box->slices == 0;
    CUresult status =
        cuda_enter_context_call(box->request.is_asked ? NULL : box->request.call, &context);

    if (status != CUDA_SUCCESS)
        return status;
    box->to.operand.access = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    box->from.operand.access = CU_MEM_ACCESS_FLAGS_PROT_READ;
    status = find_side(to, box, &box->to);
    if (status == CUDA_SUCCESS)
        status = find_side(from, box, &box->from);
    if (status == CUDA_SUCCESS && !is_empty)
        status = check_side(&box->to, box, context);
    if (status == CUDA_SUCCESS && !is_empty)
        status = check_side(&box->from, box, context);
    (void)cuda_leave(status);
    for (size_t slice = 0; slice < box->slices && status == CUDA_SUCCESS && !is_empty; slice++)
        status = copy_slice(box, slice);
    return status;
}

static CUresult copy_2d(const CUDA_MEMCPY2D *copy, const struct copy_request *how)
{
    struct box box = { .slices = 1, .request = *how };

    if (!copy)
        return CUDA_ERROR_INVALID_VALUE;
    box.width_bytes = copy->WidthInBytes;
    box.rows = copy->Height;
    const struct named to = { .type = copy->dstMemoryType,
                              .host = copy->dstHost,
                              .device = copy->dstDevice,
                              .array = copy->dstArray,
                              .x_bytes = copy->dstXInBytes,
                              .y = copy->dstY,
                              .pitch = copy->dstPitch };
    const struct named from = { .type = copy->srcMemoryType,
                                .host = copy->srcHost,
                                .device = copy->srcDevice,
                                .array = copy->srcArray,
                                .x_bytes = copy->srcXInBytes,
                                .y = copy->srcY,
                                .pitch = copy->srcPitch };
    return copy_box(&box, &to, &from);
}

static CUresult copy_3d(const CUDA_MEMCPY3D *copy, const struct copy_request *how)
{
    struct box box = { .request = *how };

    if (!copy || copy->reserved0 || copy->reserved1 || copy->srcLOD != 0 || copy->dstLOD != 0)
        return CUDA_ERROR_INVALID_VALUE;
    box.width_bytes = copy->WidthInBytes;
    box.rows = copy->Height;
    box.slices = copy->Depth;
    const struct named to = { copy->dstMemoryType, copy->dstHost,     copy->dstDevice,
                              copy->dstArray,      copy->dstXInBytes, copy->dstY,
                              copy->dstZ,          copy->dstPitch,    copy->dstHeight };
    const struct named from = { copy->srcMemoryType, copy->srcHost,     copy->srcDevice,
                                copy->srcArray,      copy->srcXInBytes, copy->srcY,
                                copy->srcZ,          copy->srcPitch,    copy->srcHeight };
    return copy_box(&box, &to, &from);
}

static CUresult fill_box(CUdeviceptr address, size_t pitch, struct work *work,
                         const struct copy_request *how)
{
    struct box box = { .width_bytes = work->bytes, .rows = work->rows, .slices = 1 };
    struct CUctx_st *context = NULL;
    bool is_one = true;
    CUresult status = cuda_enter_context_call(how->is_asked ? NULL : how->call, &context);

    if (status != CUDA_SUCCESS || work->bytes == 0 || work->rows == 0)
        return status == CUDA_SUCCESS ? cuda_leave(status) : status;
    box.to = (struct side){ { address, true, CU_MEM_ACCESS_FLAGS_PROT_READWRITE }, pitch, 0 };
    work->to_pitch = pitch;
    if (address % work->value_bytes != 0 || pitch % work->value_bytes != 0 ||
        (work->rows > 1 && pitch < work->bytes) || pitch > PITCH_MAX_BYTES)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = check_side(&box.to, &box, context);
    if (status == CUDA_SUCCESS)
        status = locate_slice(&box.to, &box, 0, context, &work->to, &is_one);
    /* Over several mappings, or of the host's own memory: not emulated. */
    if (status == CUDA_SUCCESS && (!is_one || (!work->to.gpu && !space_contains(address))))
        status = is_one ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED;
    return status == CUDA_SUCCESS ? copy_submit(work, how) : cuda_leave(status);
}

CUresult copy_node_box(const CUDA_MEMCPY3D *copy, CUstream stream)
{
    return copy_3d(copy, &(struct copy_request){ .call = "a node of cuGraphLaunch",
                                                 .is_asked = true,
                                                 .is_async = true,
                                                 .stream = stream });
}

CUresult copy_node_fill(const CUDA_MEMSET_NODE_PARAMS *set, CUstream stream)
{
    struct work work = { .kind = WORK_FILL,
                         .value = set->value,
                         .value_bytes = set->elementSize,
                         .bytes = set->width > SIZE_MAX / set->elementSize
                                      ? SIZE_MAX
                                      : set->width * set->elementSize,
                         .rows = set->height };

    return fill_box(set->dst, set->pitch, &work,
                    &(struct copy_request){ .call = "a node of cuGraphLaunch",
                                            .is_asked = true,
                                            .is_async = true,
                                            .stream = stream });
}

/* The entry points: each in a plain form and in one for the thread's own stream. */

#define COPY_BOX_ENTRIES(name, type, copy_function)                                                \
    CUresult name(const type *copy)                                                                \
    {                                                                                              \
        return copy_function(copy,                                                                 \
                             &(struct copy_request){ .call = #name, .stream = CU_STREAM_LEGACY }); \
    }                                                                                              \
    CUresult name##_ptds(const type *copy)                                                         \
    {                                                                                              \
        return copy_function(                                                                      \
            copy, &(struct copy_request){ .call = #name, .stream = CU_STREAM_PER_THREAD });        \
    }
#define COPY_BOX_ASYNC_ENTRIES(name, type, copy_function)                                          \
    CUresult name(const type *copy, CUstream stream)                                               \
    {                                                                                              \
        return copy_function(                                                                      \
            copy, &(struct copy_request){ .call = #name, .stream = stream, .is_async = true });    \
    }                                                                                              \
    CUresult name##_ptsz(const type *copy, CUstream stream)                                        \
    {                                                                                              \
        return name(copy, stream ? stream : CU_STREAM_PER_THREAD);                                 \
    }

COPY_BOX_ENTRIES(cuMemcpy2D_v2, CUDA_MEMCPY2D, copy_2d)
COPY_BOX_ENTRIES(cuMemcpy2DUnaligned_v2, CUDA_MEMCPY2D, copy_2d)
COPY_BOX_ENTRIES(cuMemcpy3D_v2, CUDA_MEMCPY3D, copy_3d)
COPY_BOX_ASYNC_ENTRIES(cuMemcpy2DAsync_v2, CUDA_MEMCPY2D, copy_2d)
COPY_BOX_ASYNC_ENTRIES(cuMemcpy3DAsync_v2, CUDA_MEMCPY3D, copy_3d)

/* width: elements; a number of bytes that does not fit is refused like one that is not there. */
#define FILL_WORK(type)                                                                            \
    &(struct work)                                                                                 \
    {                                                                                              \
        .kind = WORK_FILL, .value = value, .value_bytes = sizeof(type),                            \
        .bytes = width > SIZE_MAX / sizeof(type) ? SIZE_MAX : width * sizeof(type), .rows = height \
    }
#define FILL_BOX_ENTRIES(name, type)                                                               \
    CUresult name##_v2(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height)      \
    {                                                                                              \
        return fill_box(                                                                           \
            to, pitch, FILL_WORK(type),                                                            \
            &(struct copy_request){ .call = #name "_v2", .stream = CU_STREAM_LEGACY });            \
    }                                                                                              \
    CUresult name##_v2_ptds(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height) \
    {                                                                                              \
        return fill_box(                                                                           \
            to, pitch, FILL_WORK(type),                                                            \
            &(struct copy_request){ .call = #name "_v2", .stream = CU_STREAM_PER_THREAD });        \
    }                                                                                              \
    CUresult name##Async(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height,    \
                         CUstream stream)                                                          \
    {                                                                                              \
        return fill_box(                                                                           \
            to, pitch, FILL_WORK(type),                                                            \
            &(struct copy_request){ .call = #name "Async", .stream = stream, .is_async = true });  \
    }                                                                                              \
    CUresult name##Async_ptsz(CUdeviceptr to, size_t pitch, type value, size_t width,              \
                              size_t height, CUstream stream)                                      \
    {                                                                                              \
        return name##Async(to, pitch, value, width, height,                                        \
                           stream ? stream : CU_STREAM_PER_THREAD);                                \
    }

FILL_BOX_ENTRIES(cuMemsetD2D8, unsigned char)
FILL_BOX_ENTRIES(cuMemsetD2D16, unsigned short)
FILL_BOX_ENTRIES(cuMemsetD2D32, unsigned int)
