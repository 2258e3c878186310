/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "managed.h"
#include "stream.h"

#define HOST_PAGE_BYTES UINT64_C(4096)

/* Of this process: by gpu that it was made on, and by gpu that it should be on. */
static uint64_t made_bytes[EMU_GPU_MAX], resident_bytes[EMU_GPU_MAX];

bool managed_is_concurrent(void)
{
    return !cuda.link.orders || (cuda.link.orders->modes & EMU_MODE_WSL) == 0;
}

/* The server takes back what it finds no room for. */
static void tell(uint32_t gpu)
{
    const struct emu_request request = { .op = EMU_MANAGED,
                                         .gpu = cuda.gpus[gpu].server_index,
                                         .args = { made_bytes[gpu], resident_bytes[gpu] } };
    struct emu_reply reply = { 0 };

    (void)link_call(&cuda.link, &request, &reply);
}

bool managed_is(const void *host)
{
    const struct range *const range = space_range((CUdeviceptr)(uintptr_t)host);

    return range && range->managed;
}

struct range *managed_find(CUdeviceptr address, uint64_t bytes)
{
    struct range *const range = space_range(address);

    return range && range->managed && address - range->base < range->bytes && bytes > 0 &&
                   bytes <= range->bytes - (address - range->base)
               ? range
               : NULL;
}

static bool is_alike(const struct managed_piece *a, const struct managed_piece *b)
{
    return a->resident == b->resident && a->preferred == b->preferred &&
           a->prefetched == b->prefetched && a->is_read_mostly == b->is_read_mostly &&
           a->accessed_by == b->accessed_by;
}

/* The index of the piece that holds a page. */
static size_t piece_at(const struct managed *managed, uint64_t page)
{
    size_t low = 0, high = managed->piece_count;

    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (managed->pieces[middle].start <= page)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The index of the piece that starts at the page, which there is room for. */
static size_t cut(struct managed *managed, uint64_t page, uint64_t page_count)
{
    if (page >= page_count)
        return managed->piece_count;
    const size_t at = piece_at(managed, page);
    if (managed->pieces[at].start == page)
        return at;
    memmove(&managed->pieces[at + 1], &managed->pieces[at],
            (managed->piece_count - at) * sizeof(*managed->pieces));
    managed->piece_count++;
    managed->pieces[at + 1].start = page;
    return at + 1;
}

static void merge(struct managed *managed)
{
    size_t kept = 0;

    for (size_t i = 1; i < managed->piece_count; i++) {
        if (!is_alike(&managed->pieces[kept], &managed->pieces[i]))
            managed->pieces[++kept] = managed->pieces[i];
    }
    managed->piece_count = kept + 1;
}

static uint64_t total_pages(const struct range *range)
{
    return range->page_count * (EMU_PAGE_BYTES / HOST_PAGE_BYTES);
}

/* Counts what of the pieces is on cards: with sign 1 or -1. */
static void count_resident(const struct range *range, int sign)
{
    const struct managed *const managed = range->managed;

    for (size_t i = 0; i < managed->piece_count; i++) {
        const struct managed_piece *const piece = &managed->pieces[i];
        const uint64_t end =
            i + 1 < managed->piece_count ? managed->pieces[i + 1].start : total_pages(range);
        const uint64_t bytes = (end - piece->start) * HOST_PAGE_BYTES;
        if (piece->resident >= 0)
            resident_bytes[piece->resident] += sign > 0 ? bytes : -bytes;
    }
}

static CUresult apply(struct range *range, uint64_t first, uint64_t last, managed_change *change,
                      int location)
{
    struct managed *const managed = range->managed;
    struct managed_piece *const more =
        realloc(managed->pieces, (managed->piece_count + 2) * sizeof(*more));

    if (!more)
        return cuda_count_oom(&cuda.gpus[range->gpu]);
    managed->pieces = more;
    count_resident(range, -1);
    const size_t start = cut(managed, first, total_pages(range));
    const size_t end = cut(managed, last, total_pages(range));
    for (size_t i = start; i < end; i++)
        change(&managed->pieces[i], location);
    merge(managed);
    count_resident(range, 1);
    return CUDA_SUCCESS;
}

CUresult managed_apply(struct range *range, CUdeviceptr address, uint64_t bytes,
                       managed_change *change, int location)
{
    const uint64_t start = address - range->base;

    return apply(range, start / HOST_PAGE_BYTES,
                 (start + bytes + HOST_PAGE_BYTES - 1) / HOST_PAGE_BYTES, change, location);
}

const struct managed_piece *managed_pieces(const struct range *range, CUdeviceptr address,
                                           uint64_t bytes, const struct managed_piece **ret_end)
{
    const struct managed *const managed = range->managed;
    const uint64_t start = address - range->base;

    *ret_end = &managed->pieces[piece_at(managed, (start + bytes - 1) / HOST_PAGE_BYTES)] + 1;
    return &managed->pieces[piece_at(managed, start / HOST_PAGE_BYTES)];
}

static void move(struct managed_piece *piece, int location)
{
    piece->resident = location >= 0 ? location : CU_DEVICE_CPU;
}

/* What is wanted on the host is reached there by cards. */
static void move_unless_preferred(struct managed_piece *piece, int location)
{
    if (piece->preferred == CU_DEVICE_INVALID || piece->preferred >= 0)
        move(piece, location);
}

/* Cards take pages of their own size, whole. */
static CUresult move_pages(struct range *range, CUdeviceptr address, uint64_t bytes,
                           managed_change *change, int location)
{
    const uint64_t start = address - range->base;
    const uint64_t host_pages = EMU_PAGE_BYTES / HOST_PAGE_BYTES;
    const CUresult status =
        apply(range, start / EMU_PAGE_BYTES * host_pages,
              (start + bytes + EMU_PAGE_BYTES - 1) / EMU_PAGE_BYTES * host_pages, change, location);

    for (uint32_t i = 0; i < cuda.gpu_count; i++)
        tell(i);
    return status;
}

void managed_touch(CUdeviceptr address, uint64_t bytes, uint32_t gpu)
{
    struct range *const range = managed_find(address, bytes);

    if (range)
        (void)move_pages(range, address, bytes, move_unless_preferred, (int)gpu);
}

/* Without access again, and without bytes. */
void managed_end(struct range *range)
{
    void *const memory = (void *)(uintptr_t)range->base; /* NOLINT: an address of ours */
    const int saved_errno = errno;

    count_resident(range, -1);
    made_bytes[range->gpu] -= range->page_count * EMU_PAGE_BYTES;
    for (uint32_t i = 0; i < cuda.gpu_count; i++)
        tell(i);
    (void)mmap(memory, range->page_count * EMU_PAGE_BYTES, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    errno = saved_errno;
    free(range->managed->pieces);
    free(range->managed);
    range->managed = NULL;
}

/* Host memory at addresses of the device's. A forked child has none of it. */
static bool map_host(CUdeviceptr base, uint64_t bytes)
{
    const int saved_errno = errno;
    void *const memory = mmap((void *)(uintptr_t)base, bytes,
                              PROT_READ | PROT_WRITE, /* NOLINT: an address of ours */
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

    if (memory != MAP_FAILED)
        (void)madvise(memory, bytes, MADV_DONTFORK);
    errno = saved_errno;
    return memory != MAP_FAILED;
}

static CUresult managed_new(struct CUctx_st *context, uint64_t bytes, CUdeviceptr *ret_address)
{
    const uint64_t page_count = bytes / EMU_PAGE_BYTES + (bytes % EMU_PAGE_BYTES != 0);
    struct range *const range = calloc(1, sizeof(*range));
    struct managed *const managed = calloc(1, sizeof(*managed));
    struct managed_piece *const pieces = calloc(1, sizeof(*pieces));

    if (!range || !managed || !pieces || space_reserve(page_count, &range->base) < 0)
        goto fail;
    if (!map_host(range->base, page_count * EMU_PAGE_BYTES)) {
        space_unreserve(range->base, page_count);
        goto fail;
    }
    *pieces = (struct managed_piece){ .resident = CU_DEVICE_CPU,
                                      .preferred = CU_DEVICE_INVALID,
                                      .prefetched = CU_DEVICE_INVALID };
    *managed = (struct managed){ .pieces = pieces, .piece_count = 1 };
    range->context = context;
    range->bytes = bytes;
    range->page_count = page_count;
    range->id = ++cuda.next_id;
    range->gpu = context->gpu;
    range->managed = managed;
    space_link_range(range);
    space_set(range->base, page_count, range);
    made_bytes[context->gpu] += page_count * EMU_PAGE_BYTES;
    tell(context->gpu);
    *ret_address = range->base;
    return CUDA_SUCCESS;
fail:
    free(range);
    free(managed);
    free(pieces);
    return cuda_count_oom(&cuda.gpus[context->gpu]);
}

CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned int flags)
{
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!address || bytes == 0 || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = managed_new(context, bytes, address);
    return cuda_leave(status);
}

static void prefetch_piece(struct managed_piece *piece, int location)
{
    piece->prefetched = location;
}

/* Done at the call, as a card may that has nothing else to do. Without a location the call is wrong
 * otherwise. */
static CUresult prefetch(const char *call, CUdeviceptr address, size_t bytes,
                         const CUmemLocation *location, CUstream handle)
{
    struct CUctx_st *context = NULL;
    struct stream *stream = NULL;
    int to = CU_DEVICE_INVALID;
    CUresult status = cuda_enter_context_call(call, &context);

    if (status != CUDA_SUCCESS)
        return status;
    status = stream_find(context, handle, &stream);
    struct range *const range = managed_find(address, bytes);
    if (status == CUDA_SUCCESS && (!range || !location))
        status = CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        status = managed_locate(location, &to);
    if (status == CUDA_SUCCESS)
        status = managed_apply(range, address, bytes, prefetch_piece, to);
    if (status == CUDA_SUCCESS)
        status = move_pages(range, address, bytes, move, to);
    return cuda_leave(status);
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation location,
                               unsigned int flags, CUstream stream)
{
    return prefetch(__func__, address, bytes, flags == 0 ? &location : NULL, stream);
}

CUresult cuMemPrefetchAsync_v2_ptsz(CUdeviceptr address, size_t bytes, CUmemLocation location,
                                    unsigned int flags, CUstream stream)
{
    return cuMemPrefetchAsync_v2(address, bytes, location, flags,
                                 stream ? stream : CU_STREAM_PER_THREAD);
}

CUresult cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream)
{
    const CUmemLocation location = { device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST
                                                             : CU_MEM_LOCATION_TYPE_DEVICE,
                                     device };

    return prefetch(__func__, address, bytes, &location, stream);
}

CUresult cuMemPrefetchAsync_ptsz(CUdeviceptr address, size_t bytes, CUdevice device,
                                 CUstream stream)
{
    return cuMemPrefetchAsync(address, bytes, device, stream ? stream : CU_STREAM_PER_THREAD);
}
