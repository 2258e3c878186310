/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copies and sets: those that are done when they return, and those that go into a stream.
 *
 * As the driver documents it, an asynchronous copy from pageable memory has read its source when it
 * returns (the bytes are staged; many of them are waited for), and one to pageable memory is done
 * when it returns. Only pinned memory makes a copy truly asynchronous.
 */

#include <stdlib.h>
#include <string.h>

#include "copy.h"
#include "managed.h"
#include "restore.h"
#include "vmm.h"

#define STAGED_MAX_BYTES ((size_t)1 << 20)

/* The thread's own stream where a caller of a _ptds or _ptsz form gave none. */
static CUstream own(CUstream stream)
{
    return stream ? stream : CU_STREAM_PER_THREAD;
}

CUresult copy_locate(const struct copy_operand *operand, uint64_t at, size_t *inout_bytes,
                     const struct CUctx_st *context, struct end *ret_end)
{
    const CUdeviceptr address = operand->address + at;
    struct place place;

    *ret_end = (struct end){ .host = (unsigned char *)(uintptr_t)address };
    if (address == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (!operand->is_device && !space_contains(address))
        return CUDA_SUCCESS;
    if (!space_find(address, &place)) /* pinned host memory has the same address on the device */
        return host_is_pinned(ret_end->host, *inout_bytes) ? CUDA_SUCCESS
                                                           : CUDA_ERROR_INVALID_VALUE;
    *ret_end = (struct end){ .gpu = place.gpu, .offset = place.offset };
    if (place.host)
        *ret_end = (struct end){ .host = place.host };
    const uint64_t there = place.bytes - (address - place.base);
    if (place.mapping && (place.mapping->access[context->gpu] & operand->access) != operand->access)
        return CUDA_ERROR_INVALID_VALUE;
    if (*inout_bytes > there && !place.mapping)
        return CUDA_ERROR_INVALID_VALUE;
    if (*inout_bytes > there)
        *inout_bytes = there;
    return CUDA_SUCCESS;
}

CUresult copy_check(const struct copy_operand *operand, size_t bytes,
                    const struct CUctx_st *context)
{
    CUresult status = CUDA_SUCCESS;
    struct end end;

    for (size_t at = 0; at < bytes && status == CUDA_SUCCESS;) {
        size_t now = bytes - at;
        status = copy_locate(operand, at, &now, context, &end);
        at += now;
    }
    return status;
}

/* Work that is done when the call returns: after all that its stream comes after. */
static CUresult do_now(struct work *work, CUstream handle, const char *call)
{
    struct CUctx_st *context = NULL;
    struct stream *stream = NULL;
    CUresult status = context_current(&context);

    if (status == CUDA_SUCCESS && cuda.is_late) {
        status = stream_find(context, handle, &stream);
        if (status == CUDA_SUCCESS)
            status = stream_settle(stream);
        if (status == CUDA_SUCCESS)
            race_check(stream, work, call);
    }
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    restore_begin_work();
    (void)cuda_leave(CUDA_SUCCESS);
    work_do(work); /* outside of the lock: other threads copy at the same time */
    restore_end_work();
    return CUDA_SUCCESS;
}

static bool is_pageable(const unsigned char *host, size_t bytes)
{
    return !managed_is(host) && !host_is_pinned(host, bytes);
}

/* Pageable memory: *ret_is_now says that the copy must not wait. */
static CUresult stage(struct work *work, bool *ret_is_now)
{
    *ret_is_now = false;
    if (work->kind != WORK_COPY)
        return CUDA_SUCCESS;
    if (!work->to.gpu && is_pageable(work->to.host, work_span(work, work->to_pitch))) {
        *ret_is_now = true;
        return CUDA_SUCCESS;
    }
    if (work->from.gpu || !is_pageable(work->from.host, work_span(work, work->from_pitch)))
        return CUDA_SUCCESS;
    if (work->bytes > STAGED_MAX_BYTES || work->rows > 1) {
        *ret_is_now = true;
        return CUDA_SUCCESS;
    }
    work->staged = malloc(work->bytes);
    if (!work->staged)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(work->staged, work->from.host, work->bytes);
    work->from.host = work->staged;
    return CUDA_SUCCESS;
}

static CUresult do_later(struct work *work, CUstream handle, const char *call)
{
    struct CUctx_st *context = NULL;
    struct stream *stream = NULL;
    bool is_now = false;
    CUresult status = context_current(&context);

    if (status == CUDA_SUCCESS)
        status = stream_find(context, handle, &stream);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    if (!cuda.is_late) {
        restore_begin_work();
        (void)cuda_leave(CUDA_SUCCESS);
        work_do(work);
        restore_end_work();
        return CUDA_SUCCESS;
    }
    status = stage(work, &is_now);
    if (status == CUDA_SUCCESS && is_now)
        return do_now(work, stream->handle, call);
    if (status == CUDA_SUCCESS)
        status = stream_enqueue(stream, work);
    if (status == CUDA_SUCCESS)
        race_check(stream, work, call);
    else
        free(work->staged);
    return cuda_leave(status);
}

CUresult copy_submit(struct work *work, const struct copy_request *request)
{
    return request->is_async ? do_later(work, request->stream, request->call)
                             : do_now(work, request->stream, request->call);
}

/* One piece, of at most the request's bytes from at on; *ret_bytes says how many they were. */
static CUresult copy_piece(const struct copy_request *request, size_t at, size_t *ret_bytes)
{
    const struct copy_operand to = { request->to, request->is_to_device,
                                     CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
    const struct copy_operand from = { request->from, request->is_from_device,
                                       CU_MEM_ACCESS_FLAGS_PROT_READ };
    struct work work = { .kind = WORK_COPY, .bytes = request->bytes - at };
    struct CUctx_st *context = NULL;
    CUresult status =
        cuda_enter_context_call(at == 0 && !request->is_asked ? request->call : NULL, &context);

    if (status != CUDA_SUCCESS)
        return status;
    if (at == 0) {
        status = copy_check(&to, request->bytes, context);
        if (status == CUDA_SUCCESS)
            status = copy_check(&from, request->bytes, context);
    }
    if (status == CUDA_SUCCESS)
        status = copy_locate(&to, at, &work.bytes, context, &work.to);
    if (status == CUDA_SUCCESS)
        status = copy_locate(&from, at, &work.bytes, context, &work.from);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    *ret_bytes = work.bytes;
    managed_touch(request->to + at, work.bytes, context->gpu);
    managed_touch(request->from + at, work.bytes, context->gpu);
    return copy_submit(&work, request);
}

CUresult copy_run(const struct copy_request *request)
{
    CUresult status = CUDA_SUCCESS;
    size_t at = 0, now = 0;

    if (request->bytes == 0) {
        status = cuda_enter_call(request->is_asked ? NULL : request->call);
        return status == CUDA_SUCCESS ? cuda_leave(status) : status;
    }
    for (; at < request->bytes && status == CUDA_SUCCESS; at += now)
        status = copy_piece(request, at, &now);
    return status;
}

static CUresult fill_piece(const struct copy_request *request, struct work *work, size_t at)
{
    const struct copy_operand to = { request->to, true, CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context_call(NULL, &context);

    if (status != CUDA_SUCCESS)
        return status;
    work->bytes = request->bytes - at;
    if (at == 0)
        status = copy_check(&to, request->bytes, context);
    if (status == CUDA_SUCCESS)
        status = copy_locate(&to, at, &work->bytes, context, &work->to);
    if (status == CUDA_SUCCESS && !work->to.gpu && !space_contains(request->to + at))
        status = CUDA_ERROR_INVALID_VALUE;
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    managed_touch(request->to + at, work->bytes, context->gpu);
    return copy_submit(work, request);
}

static CUresult fill(uint32_t value, unsigned value_bytes, size_t count,
                     struct copy_request *request)
{
    CUresult status = cuda_enter_call(request->call);

    if (status != CUDA_SUCCESS)
        return status;
    (void)cuda_leave(CUDA_SUCCESS);
    if (count > 0 && (request->to % value_bytes != 0 ||
                      __builtin_mul_overflow(count, (size_t)value_bytes, &request->bytes)))
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t at = 0; at < request->bytes && status == CUDA_SUCCESS;) {
        struct work work = { .kind = WORK_FILL, .value = value, .value_bytes = value_bytes };
        status = fill_piece(request, &work, at);
        at += work.bytes;
    }
    return status;
}

static CUdeviceptr host(const void *memory)
{
    return (CUdeviceptr)(uintptr_t)memory;
}

/* The entry points: each in a plain form and in one for the thread's own stream. */

#define NOW(name, handle) .call = #name, .stream = (handle)
#define LATER(name)       .call = #name, .stream = stream, .is_async = true

#define COPY_ENTRY(name, suffix, handle, to_type, to_address, from_type, from_address, ...)        \
    CUresult name##suffix(to_type to, from_type from, size_t bytes)                                \
    {                                                                                              \
        return copy_run(&(struct copy_request){ NOW(name, handle), .to = (to_address),             \
                                                .from = (from_address), .bytes = bytes,            \
                                                __VA_ARGS__ });                                    \
    }
#define COPY_ENTRIES(name, ...)                                                                    \
    COPY_ENTRY(name, , CU_STREAM_LEGACY, __VA_ARGS__)                                              \
    COPY_ENTRY(name, _ptds, CU_STREAM_PER_THREAD, __VA_ARGS__)
#define TO_DEVICE   .is_to_device = true
#define FROM_DEVICE .is_from_device = true

COPY_ENTRIES(cuMemcpy, CUdeviceptr, to, CUdeviceptr, from, .is_async = false)
COPY_ENTRIES(cuMemcpyHtoD_v2, CUdeviceptr, to, const void *, host(from), TO_DEVICE)
COPY_ENTRIES(cuMemcpyDtoH_v2, void *, host(to), CUdeviceptr, from, FROM_DEVICE)
COPY_ENTRIES(cuMemcpyDtoD_v2, CUdeviceptr, to, CUdeviceptr, from, TO_DEVICE, FROM_DEVICE)

#define ASYNC_ENTRIES(name, to_type, to_address, from_type, from_address, ...)                     \
    CUresult name(to_type to, from_type from, size_t bytes, CUstream stream)                       \
    {                                                                                              \
        return copy_run(&(struct copy_request){ LATER(name), .to = (to_address),                   \
                                                .from = (from_address), .bytes = bytes,            \
                                                __VA_ARGS__ });                                    \
    }                                                                                              \
    CUresult name##_ptsz(to_type to, from_type from, size_t bytes, CUstream stream)                \
    {                                                                                              \
        return name(to, from, bytes, own(stream));                                                 \
    }

ASYNC_ENTRIES(cuMemcpyAsync, CUdeviceptr, to, CUdeviceptr, from, .is_to_device = false)
ASYNC_ENTRIES(cuMemcpyHtoDAsync_v2, CUdeviceptr, to, const void *, host(from), TO_DEVICE)
ASYNC_ENTRIES(cuMemcpyDtoHAsync_v2, void *, host(to), CUdeviceptr, from, FROM_DEVICE)
ASYNC_ENTRIES(cuMemcpyDtoDAsync_v2, CUdeviceptr, to, CUdeviceptr, from, TO_DEVICE, FROM_DEVICE)

#define FILL_ENTRIES(name, type)                                                                   \
    CUresult name(CUdeviceptr to, type value, size_t count)                                        \
    {                                                                                              \
        return fill(value, sizeof(type), count,                                                    \
                    &(struct copy_request){ NOW(name, CU_STREAM_LEGACY), .to = to });              \
    }                                                                                              \
    CUresult name##_ptds(CUdeviceptr to, type value, size_t count)                                 \
    {                                                                                              \
        return fill(value, sizeof(type), count,                                                    \
                    &(struct copy_request){ NOW(name, CU_STREAM_PER_THREAD), .to = to });          \
    }
#define FILL_ASYNC_ENTRIES(name, type)                                                             \
    CUresult name(CUdeviceptr to, type value, size_t count, CUstream stream)                       \
    {                                                                                              \
        return fill(value, sizeof(type), count, &(struct copy_request){ LATER(name), .to = to });  \
    }                                                                                              \
    CUresult name##_ptsz(CUdeviceptr to, type value, size_t count, CUstream stream)                \
    {                                                                                              \
        return name(to, value, count, own(stream));                                                \
    }

FILL_ENTRIES(cuMemsetD8_v2, unsigned char)
FILL_ENTRIES(cuMemsetD16_v2, unsigned short)
FILL_ENTRIES(cuMemsetD32_v2, unsigned int)
FILL_ASYNC_ENTRIES(cuMemsetD8Async, unsigned char)
FILL_ASYNC_ENTRIES(cuMemsetD16Async, unsigned short)
FILL_ASYNC_ENTRIES(cuMemsetD32Async, unsigned int)
