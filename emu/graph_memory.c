/* SPDX-License-Identifier: Apache-2.0 */

#include <stdlib.h>

#include "graph.h"

/* What the card's graphs hold: in use, and in all. */
static struct graph_pool {
    struct graph_block *blocks; /* owned */
    uint64_t used_bytes, used_high_bytes, reserved_bytes, reserved_high_bytes;
} pools[EMU_GPU_MAX];

static void raise_mark(uint64_t *mark, uint64_t bytes)
{
    if (bytes > *mark)
        *mark = bytes;
}

CUresult graph_memory_new(const CUDA_MEM_ALLOC_NODE_PARAMS *params,
                          struct graph_memory **ret_memory)
{
    const uint32_t gpu = (uint32_t)params->poolProps.location.id;
    const uint64_t page_count =
        params->bytesize / EMU_PAGE_BYTES + (params->bytesize % EMU_PAGE_BYTES != 0);
    struct graph_memory *const memory = calloc(1, sizeof(*memory));

    if (!memory || space_reserve(page_count, &memory->range.base) < 0) {
        free(memory);
        return cuda_count_oom(&cuda.gpus[gpu]);
    }
    memory->range.bytes = params->bytesize;
    memory->range.page_count = page_count;
    memory->range.id = ++cuda.next_id;
    memory->range.gpu = gpu;
    memory->range.graph_memory = memory;
    memory->gpu = gpu;
    memory->ref_count = 1;
    memory->params = *params;
    memory->params.dptr = memory->range.base;
    memory->params.accessDescs = NULL; /* the program's own */
    memory->params.accessDescCount = 0;
    *ret_memory = memory;
    return CUDA_SUCCESS;
}

void graph_memory_ref(struct graph_memory *memory)
{
    if (memory)
        memory->ref_count++;
}

void graph_memory_unref(struct graph_memory *memory)
{
    if (!memory || --memory->ref_count > 0)
        return;
    space_unreserve(memory->range.base, memory->range.page_count);
    free(memory);
}

/* For the stream that freed it, a block is free at once. */
static bool is_free_for(const struct graph_block *block, const struct stream *stream)
{
    if (block->is_used)
        return false;
    return block->free_position == 0 || (stream && block->free_slot == stream->slot) ||
           stream_done(block->free_slot) >= block->free_position;
}

/* The smallest that is large enough. */
static struct graph_block *find_block(const struct graph_pool *pool, uint64_t page_count,
                                      const struct stream *stream)
{
    struct graph_block *best = NULL;

    for (struct graph_block *it = pool->blocks; it; it = it->next) {
        if (it->page_count >= page_count && is_free_for(it, stream) &&
            (!best || it->page_count < best->page_count))
            best = it;
    }
    return best;
}

static CUresult block_new(uint32_t gpu, uint64_t page_count, struct graph_block **ret_block)
{
    struct graph_pool *const pool = &pools[gpu];
    struct graph_block *const block = calloc(1, sizeof(*block));

    if (!block)
        return cuda_count_oom(&cuda.gpus[gpu]);
    const CUresult status = cuda_take(&cuda.gpus[gpu], page_count * EMU_PAGE_BYTES, &block->offset);
    if (status != CUDA_SUCCESS) {
        free(block);
        return status;
    }
    block->page_count = page_count;
    block->next = pool->blocks;
    pool->blocks = block;
    pool->reserved_bytes += page_count * EMU_PAGE_BYTES;
    raise_mark(&pool->reserved_high_bytes, pool->reserved_bytes);
    *ret_block = block;
    return CUDA_SUCCESS;
}

void graph_memory_trim(uint32_t gpu)
{
    struct graph_pool *const pool = &pools[gpu];
    struct graph_block **link = &pool->blocks;

    while (*link) {
        struct graph_block *const block = *link;
        const uint64_t bytes = block->page_count * EMU_PAGE_BYTES;
        if (!is_free_for(block, NULL)) {
            link = &block->next;
            continue;
        }
        *link = block->next;
        cuda_give(&cuda.gpus[gpu], block->offset, bytes);
        pool->reserved_bytes -= bytes;
        free(block);
    }
}

static uint64_t card_free_bytes(uint32_t gpu)
{
    uint64_t used_bytes = 0;

    return cuda_used(&cuda.gpus[gpu], &used_bytes) == CUDA_SUCCESS
               ? cuda.gpus[gpu].info.capacity_bytes - used_bytes
               : 0;
}

/* Blocks that are too small give way before the card is short. */
static CUresult take_block(uint32_t gpu, uint64_t page_count, const struct stream *stream,
                           struct graph_block **ret_block)
{
    *ret_block = find_block(&pools[gpu], page_count, stream);
    if (*ret_block)
        return CUDA_SUCCESS;
    if (card_free_bytes(gpu) < page_count * EMU_PAGE_BYTES)
        graph_memory_trim(gpu);
    return block_new(gpu, page_count, ret_block);
}

CUresult graph_memory_map(struct graph_memory *memory, const struct stream *stream)
{
    struct graph_pool *const pool = &pools[memory->gpu];
    const CUresult status =
        take_block(memory->gpu, memory->range.page_count, stream, &memory->block);

    if (status != CUDA_SUCCESS)
        return status;
    memory->block->is_used = true;
    memory->range.offset = memory->block->offset;
    space_set(memory->range.base, memory->range.page_count, &memory->range);
    graph_memory_ref(memory);
    pool->used_bytes += memory->range.page_count * EMU_PAGE_BYTES;
    raise_mark(&pool->used_high_bytes, pool->used_bytes);
    return CUDA_SUCCESS;
}

void graph_memory_release(struct graph_memory *memory, const struct stream *stream)
{
    memory->block->is_used = false;
    memory->block->free_slot = stream ? stream->slot : 0;
    memory->block->free_position = stream ? stream->enqueued : 0;
    pools[memory->gpu].used_bytes -= memory->range.page_count * EMU_PAGE_BYTES;
}

void graph_memory_unmap(struct graph_memory *memory)
{
    space_set(memory->range.base, memory->range.page_count, NULL);
    memory->block = NULL;
    graph_memory_unref(memory);
}

void graph_memory_free(struct graph_memory *memory, const struct stream *stream, const char *call)
{
    const struct end end = { .gpu = &cuda.gpus[memory->gpu], .offset = memory->range.offset };
    const struct work work = { .kind = WORK_FREE, .to = end, .bytes = memory->range.bytes };

    if (stream)
        race_check(stream, &work, call);
    else
        race_check_free(&end, memory->range.bytes, call);
    graph_memory_release(memory, stream);
    graph_memory_unmap(memory);
}

struct graph_memory *graph_memory_find(CUdeviceptr address)
{
    const struct range *const range = space_range(address);

    return range && range->graph_memory && range->base == address ? range->graph_memory : NULL;
}

uint64_t *graph_memory_attribute(uint32_t gpu, CUgraphMem_attribute attribute)
{
    switch (attribute) {
    case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
        return &pools[gpu].used_bytes;
    case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
        return &pools[gpu].used_high_bytes;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
        return &pools[gpu].reserved_bytes;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
        return &pools[gpu].reserved_high_bytes;
    default:
        return NULL;
    }
}
