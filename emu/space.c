/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Device addresses. They are numbers inside a range that the process has reserved without any
 * access, so that no other memory gets them and a host dereference faults; where the bytes are is
 * looked up here. A table with one entry a page (2 MiB) leads from an address to its range; where a
 * range covers whole groups of pages (512 MiB), one entry of a second table says so, and theirs in
 * the first one are not used.
 *
 * As the driver does, allocations up to a MiB share pages: a block is one page, cut into units of
 * 512 bytes. Larger ones take whole pages of their own.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ipc.h"
#include "managed.h"
#include "vmm.h"

#define UNIT_BYTES  UINT64_C(512)
#define BLOCK_UNITS (EMU_PAGE_BYTES / UNIT_BYTES)
#define SMALL_BYTES (EMU_PAGE_BYTES / 2)
#define GROUP_PAGES UINT64_C(256)

struct block {
    uint32_t free_units;
    uint32_t search_from;             /* nothing is free below */
    uint32_t asked[BLOCK_UNITS];      /* bytes, at an allocation's first unit; else 0 */
    uint16_t units[BLOCK_UNITS];      /* units of that allocation */
    uint64_t used[BLOCK_UNITS / 64];  /* a bit a unit */
    uint64_t first[BLOCK_UNITS / 64]; /* a bit for each allocation's first unit */
    uint64_t ids[BLOCK_UNITS];
};

int space_open(uint64_t bytes)
{
    const uint64_t page_count = bytes / EMU_PAGE_BYTES;
    const size_t table_bytes = (page_count + page_count / GROUP_PAGES + 1) * sizeof(struct range *);

    if (cuda.space)
        return 0;
    /* One page more, because addresses are given out from the next whole page on. */
    void *const space = mmap(NULL, bytes + EMU_PAGE_BYTES, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *const table = mmap(NULL, table_bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (space == MAP_FAILED || table == MAP_FAILED ||
        spans_init(&cuda.free_space, page_count) < 0) {
        if (space != MAP_FAILED)
            (void)munmap(space, bytes + EMU_PAGE_BYTES);
        if (table != MAP_FAILED)
            (void)munmap(table, table_bytes);
        return -ENOMEM;
    }
    const uint64_t start = (uint64_t)(uintptr_t)space;
    cuda.space =
        (unsigned char *)space + (EMU_PAGE_BYTES - start % EMU_PAGE_BYTES) % EMU_PAGE_BYTES;
    cuda.by_page = table;
    cuda.by_group = cuda.by_page + page_count;
    cuda.space_bytes = bytes;
    return 0;
}

bool space_contains(CUdeviceptr address)
{
    const uint64_t start = (uint64_t)(uintptr_t)cuda.space;

    return cuda.space && address >= start && address - start < cuda.space_bytes;
}

static uint64_t page_of(CUdeviceptr address)
{
    return (address - (uint64_t)(uintptr_t)cuda.space) / EMU_PAGE_BYTES;
}

static struct range *find_range(CUdeviceptr address)
{
    if (!space_contains(address))
        return NULL;
    const uint64_t page = page_of(address);
    struct range *const range = cuda.by_group[page / GROUP_PAGES];
    return range ? range : cuda.by_page[page];
}

struct range *space_range(CUdeviceptr address)
{
    return find_range(address);
}

int space_reserve(uint64_t page_count, CUdeviceptr *ret_address)
{
    uint64_t page = 0;
    const int r = spans_take(&cuda.free_space, page_count, &page);

    if (r == 0)
        *ret_address = (CUdeviceptr)(uintptr_t)cuda.space + page * EMU_PAGE_BYTES;
    return r;
}

void space_unreserve(CUdeviceptr address, uint64_t page_count)
{
    spans_give(&cuda.free_space, page_of(address), page_count);
}

void space_set(CUdeviceptr address, uint64_t page_count, struct range *range)
{
    uint64_t page = page_of(address);
    const uint64_t end = page + page_count;

    while (page < end) {
        if (page % GROUP_PAGES == 0 && end - page >= GROUP_PAGES) {
            cuda.by_group[page / GROUP_PAGES] = range;
            page += GROUP_PAGES;
        } else {
            cuda.by_page[page++] = range;
        }
    }
}

static bool bit_is_set(const uint64_t *bits, uint64_t at)
{
    return (bits[at / 64] >> (at % 64) & 1) != 0;
}

static void bits_set(uint64_t *bits, uint64_t at, uint64_t count, bool value)
{
    for (uint64_t i = at; i < at + count; i++) {
        if (value)
            bits[i / 64] |= UINT64_C(1) << (i % 64);
        else
            bits[i / 64] &= ~(UINT64_C(1) << (i % 64));
    }
}

/* The first place with so many free units, or BLOCK_UNITS. */
static uint64_t block_find_room(const struct block *block, uint64_t count)
{
    uint64_t run = 0;

    for (uint64_t i = block->search_from; i < BLOCK_UNITS; i++) {
        if (i % 64 == 0 && block->used[i / 64] == UINT64_MAX) {
            run = 0;
            i += 63;
            continue;
        }
        run = bit_is_set(block->used, i) ? 0 : run + 1;
        if (run == count)
            return i + 1 - count;
    }
    return BLOCK_UNITS;
}

static bool block_take(struct block *block, uint64_t bytes, uint64_t *ret_unit)
{
    const uint64_t count = (bytes + UNIT_BYTES - 1) / UNIT_BYTES;

    if (block->free_units < count)
        return false;
    const uint64_t unit = block_find_room(block, count);
    if (unit == BLOCK_UNITS)
        return false;
    bits_set(block->used, unit, count, true);
    bits_set(block->first, unit, 1, true);
    block->asked[unit] = (uint32_t)bytes;
    block->units[unit] = (uint16_t)count;
    block->ids[unit] = ++cuda.next_id;
    block->free_units -= (uint32_t)count;
    if (unit == block->search_from)
        block->search_from = (uint32_t)(unit + count);
    *ret_unit = unit;
    return true;
}

static void block_give(struct block *block, uint64_t unit)
{
    bits_set(block->used, unit, block->units[unit], false);
    bits_set(block->first, unit, 1, false);
    block->free_units += block->units[unit];
    block->asked[unit] = 0;
    if (unit < block->search_from)
        block->search_from = (uint32_t)unit;
}

static struct block *block_new(void)
{
    struct block *const block = calloc(1, sizeof(*block));

    if (block)
        block->free_units = BLOCK_UNITS;
    return block;
}

static void link_range(struct range **list, struct range *range)
{
    range->previous = NULL;
    range->next = *list;
    if (range->next)
        range->next->previous = range;
    *list = range;
}

static void unlink_range(struct range *range)
{
    struct CUctx_st *const context = range->context;

    if (range->previous)
        range->previous->next = range->next;
    else if (context->open_blocks == range)
        context->open_blocks = range->next;
    else
        context->ranges = range->next;
    if (range->next)
        range->next->previous = range->previous;
}

void space_link_range(struct range *range)
{
    link_range(&range->context->ranges, range);
}

static CUresult range_new(struct CUctx_st *context, uint64_t bytes, struct range **ret_range)
{
    struct gpu *const gpu = &cuda.gpus[context->gpu];
    const uint64_t page_count = bytes / EMU_PAGE_BYTES + (bytes % EMU_PAGE_BYTES != 0);
    uint64_t page = 0, offset = 0;
    struct range *const range = calloc(1, sizeof(*range));

    if (!range || spans_take(&cuda.free_space, page_count, &page) < 0) {
        free(range);
        return cuda_count_oom(gpu);
    }
    const CUresult status = cuda_take(gpu, page_count * EMU_PAGE_BYTES, &offset);
    if (status != CUDA_SUCCESS) {
        spans_give(&cuda.free_space, page, page_count);
        free(range);
        return status;
    }
    range->context = context;
    range->base = (CUdeviceptr)(uintptr_t)cuda.space + page * EMU_PAGE_BYTES;
    range->bytes = bytes;
    range->page_count = page_count;
    range->offset = offset;
    range->id = ++cuda.next_id;
    range->gpu = context->gpu;
    space_set(range->base, page_count, range);
    *ret_range = range;
    return CUDA_SUCCESS;
}

void space_free_range(struct range *range)
{
    struct gpu *const gpu = &cuda.gpus[range->gpu];

    if (range->managed)
        managed_end(range);
    else if (range->is_shared)
        ipc_drop(range);
    else
        cuda_give(gpu, range->offset, range->page_count * EMU_PAGE_BYTES);
    space_set(range->base, range->page_count, NULL);
    space_unreserve(range->base, range->page_count);
    unlink_range(range);
    free(range->block);
    free(range->import);
    free(range);
}

static CUresult alloc_small(struct CUctx_st *context, uint64_t bytes, CUdeviceptr *ret_address)
{
    struct range *range = NULL;
    uint64_t unit = 0;

    for (range = context->open_blocks; range; range = range->next) {
        if (!block_take(range->block, bytes, &unit))
            continue;
        if (range->block->free_units == 0) {
            unlink_range(range);
            link_range(&context->ranges, range);
        }
        *ret_address = range->base + unit * UNIT_BYTES;
        return CUDA_SUCCESS;
    }
    struct block *const block = block_new();
    if (!block)
        return cuda_count_oom(&cuda.gpus[context->gpu]);
    const CUresult status = range_new(context, EMU_PAGE_BYTES, &range);
    if (status != CUDA_SUCCESS) {
        free(block);
        return status;
    }
    range->block = block;
    link_range(&context->open_blocks, range);
    (void)block_take(block, bytes, &unit); /* at most half of it, so it stays open */
    *ret_address = range->base + unit * UNIT_BYTES;
    return CUDA_SUCCESS;
}

CUresult space_alloc(struct CUctx_st *context, uint64_t bytes, CUdeviceptr *ret_address)
{
    struct range *range = NULL;

    if (bytes <= SMALL_BYTES)
        return alloc_small(context, bytes, ret_address);
    const CUresult status = range_new(context, bytes, &range);
    if (status != CUDA_SUCCESS)
        return status;
    link_range(&context->ranges, range);
    *ret_address = range->base;
    return CUDA_SUCCESS;
}

static CUresult free_small(struct range *range, CUdeviceptr address)
{
    struct block *const block = range->block;
    const uint64_t offset = address - range->base;
    const uint64_t unit = offset / UNIT_BYTES;

    if (offset % UNIT_BYTES != 0 || !bit_is_set(block->first, unit))
        return CUDA_ERROR_INVALID_VALUE;
    block_give(block, unit);
    if (block->free_units == BLOCK_UNITS) {
        space_free_range(range);
        return CUDA_SUCCESS;
    }
    unlink_range(range);
    link_range(&range->context->open_blocks, range);
    return CUDA_SUCCESS;
}

CUresult space_free(CUdeviceptr address)
{
    struct range *const range = find_range(address);

    if (!range)
        return CUDA_ERROR_INVALID_VALUE;
    if (range->block)
        return free_small(range, address);
    if (range->base != address || range->mapping || range->chunk || range->import ||
        range->graph_memory)
        return CUDA_ERROR_INVALID_VALUE;
    space_free_range(range);
    return CUDA_SUCCESS;
}

void space_free_context(struct CUctx_st *context)
{
    while (context->open_blocks)
        space_free_range(context->open_blocks);
    while (context->ranges)
        space_free_range(context->ranges);
}

static bool find_small(const struct range *range, CUdeviceptr address, struct place *place)
{
    const struct block *const block = range->block;
    uint64_t unit = (address - range->base) / UNIT_BYTES;

    while (!bit_is_set(block->first, unit)) {
        if (unit == 0 || !bit_is_set(block->used, unit))
            return false;
        unit--;
    }
    place->base = range->base + unit * UNIT_BYTES;
    place->bytes = block->asked[unit];
    place->id = block->ids[unit];
    return true;
}

bool space_find(CUdeviceptr address, struct place *ret_place)
{
    const struct range *const range = find_range(address);

    if (!range)
        return false;
    struct place place = {
        .base = range->base,
        .bytes = range->bytes,
        .offset = range->offset + (address - range->base),
        .id = range->id,
        .context = range->context,
        .gpu = &cuda.gpus[range->gpu],
        .mapping = range->mapping,
        .is_managed = range->managed != NULL,
    };
    if (range->block && !find_small(range, address, &place))
        return false;
    if (range->chunk && !pool_find(range->chunk, address, &place))
        return false;
    if (address - place.base >= place.bytes)
        return false;
    if (range->managed)
        place.host = (unsigned char *)(uintptr_t)address; /* NOLINT: it is both */
    else if (range->mapping && range->mapping->memory->host)
        place.host = range->mapping->memory->host + (address - range->base);
    *ret_place = place;
    return true;
}
