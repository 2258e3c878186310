/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Host memory that the driver pins. Here it is plain memory that is known by its range: copies from
 * and to it are truly late, where those of pageable memory are staged or waited for.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cuda/context.h"
#include "stream.h"

#define HOST_PAGE_BYTES ((size_t)4096)

static struct host_range *ranges; /* by start, never overlapping */
static size_t range_count, range_room;

/* Index of the first range that ends above the address. */
static size_t find_from(const unsigned char *address)
{
    size_t low = 0, high = range_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (ranges[middle].start + ranges[middle].bytes > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

const struct host_range *host_find(const void *memory)
{
    const unsigned char *const address = memory;
    const size_t at = find_from(address);

    return at < range_count && ranges[at].start <= address ? &ranges[at] : NULL;
}

bool host_is_pinned(const void *memory, size_t bytes)
{
    const struct host_range *const range = host_find(memory);

    return range && bytes <= range->bytes - (size_t)((const unsigned char *)memory - range->start);
}

static CUresult add_range(const struct host_range *range)
{
    const size_t at = find_from(range->start);

    if (at < range_count && ranges[at].start < range->start + range->bytes)
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    if (range_count == range_room) {
        const size_t room = range_room > 0 ? 2 * range_room : 16;
        struct host_range *const more = realloc(ranges, room * sizeof(*more));
        if (!more)
            return CUDA_ERROR_OUT_OF_MEMORY;
        ranges = more;
        range_room = room;
    }
    memmove(&ranges[at + 1], &ranges[at], (range_count - at) * sizeof(*ranges));
    ranges[at] = *range;
    range_count++;
    return CUDA_SUCCESS;
}

static void remove_range(size_t at)
{
    if (!ranges[at].is_registered)
        (void)munmap(ranges[at].start, ranges[at].bytes);
    range_count--;
    memmove(&ranges[at], &ranges[at + 1], (range_count - at) * sizeof(*ranges));
}

void host_free_all(const struct CUctx_st *context)
{
    for (size_t i = range_count; i > 0; i--) {
        if (ranges[i - 1].context == context)
            remove_range(i - 1);
    }
}

static CUresult alloc(const char *call, void **memory, size_t bytes, unsigned int flags)
{
    const int saved_errno = errno;
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context_call(call, &context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!memory || bytes == 0 || (flags & ~CU_MEMHOSTALLOC_MASK) != 0 ||
        bytes > SIZE_MAX - HOST_PAGE_BYTES)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    struct host_range range = { .flags = flags, .context = context, .id = ++cuda.next_id };
    range.bytes = (bytes + HOST_PAGE_BYTES - 1) / HOST_PAGE_BYTES * HOST_PAGE_BYTES;
    void *const mapped =
        mmap(NULL, range.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = saved_errno;
    if (mapped == MAP_FAILED)
        return cuda_leave(cuda_count_oom(&cuda.gpus[context->gpu]));
    range.start = mapped;
    status = add_range(&range);
    if (status == CUDA_SUCCESS)
        *memory = mapped;
    else
        (void)munmap(mapped, range.bytes);
    return cuda_leave(status);
}

CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned int flags)
{
    return alloc(__func__, memory, bytes, flags);
}

CUresult cuMemAllocHost_v2(void **memory, size_t bytes)
{
    return alloc(__func__, memory, bytes, 0);
}

/* Frees or unregisters the range that starts at memory. */
static CUresult release_range(void *memory, bool is_registered, const char *call)
{
    const struct host_range *const range = host_find(memory);

    if (!range || range->start != memory || range->is_registered != is_registered)
        return is_registered ? CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED : CUDA_ERROR_INVALID_VALUE;
    const struct end end = { .host = range->start };
    race_check_free(&end, range->bytes, call);
    remove_range((size_t)(range - ranges));
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *memory)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    return cuda_leave(memory ? release_range(memory, false, "cuMemFreeHost") : CUDA_SUCCESS);
}

CUresult cuMemHostRegister_v2(void *memory, size_t bytes, unsigned int flags)
{
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!memory || bytes == 0 || (flags & ~CU_MEMHOSTREGISTER_MASK) != 0 ||
        bytes > UINTPTR_MAX - (uintptr_t)memory || space_contains((CUdeviceptr)(uintptr_t)memory))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    const struct host_range range = { .start = memory,
                                      .bytes = bytes,
                                      .flags = flags,
                                      .is_registered = true,
                                      .context = context,
                                      .id = ++cuda.next_id };
    status = add_range(&range);
    return cuda_leave(status == CUDA_ERROR_OUT_OF_MEMORY ? cuda_count_oom(&cuda.gpus[context->gpu])
                                                         : status);
}

CUresult cuMemHostRegister(void *memory, size_t bytes, unsigned int flags)
{
    return cuMemHostRegister_v2(memory, bytes, flags);
}

CUresult cuMemHostUnregister(void *memory)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    return cuda_leave(memory ? release_range(memory, true, "cuMemHostUnregister")
                             : CUDA_ERROR_INVALID_VALUE);
}

/* Unified addressing: the device sees pinned memory where the host does. */
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *memory, unsigned int flags)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!address || flags != 0 || !host_find(memory))
        status = CUDA_ERROR_INVALID_VALUE;
    else
        *address = (CUdeviceptr)(uintptr_t)memory;
    return cuda_leave(status);
}

CUresult cuMemHostGetFlags(unsigned int *flags, void *memory)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    const struct host_range *const range = host_find(memory);
    if (!flags || !range || range->is_registered)
        status = CUDA_ERROR_INVALID_VALUE;
    else
        *flags = range->flags;
    return cuda_leave(status);
}
