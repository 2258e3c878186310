/* SPDX-License-Identifier: Apache-2.0 */

#include "pool.h"

#include <stdlib.h>

#include "ipc.h"

#define UNIT_BYTES POOL_UNIT_BYTES

struct pool *pool_new(uint32_t gpu)
{
    struct pool *const pool = calloc(1, sizeof(*pool));

    if (!pool)
        return NULL;
    pool->handle = handle_new(&cuda.pools, pool);
    if (!pool->handle) {
        free(pool);
        return NULL;
    }
    pool->gpu = gpu;
    for (int i = 0; i < 3; i++)
        pool->reuse[i] = 1;
    pool->next = cuda.first_pool;
    cuda.first_pool = pool;
    return pool;
}

static void chunk_free(struct chunk *chunk)
{
    struct pool *const pool = chunk->pool;
    struct gpu *const gpu = &cuda.gpus[pool->gpu];
    const uint64_t bytes = chunk->range.page_count * EMU_PAGE_BYTES;
    struct chunk **link = &pool->chunks;

    while (*link != chunk)
        link = &(*link)->next;
    *link = chunk->next;
    if (chunk->range.is_shared)
        ipc_drop(&chunk->range);
    else
        cuda_give(gpu, chunk->range.offset, bytes);
    space_set(chunk->range.base, chunk->range.page_count, NULL);
    space_unreserve(chunk->range.base, chunk->range.page_count);
    pool->reserved_bytes -= bytes;
    spans_deinit(&chunk->units);
    free(chunk->range.import);
    free(chunk);
}

void pool_add_chunk(struct pool *pool, struct chunk *chunk)
{
    chunk->pool = pool;
    chunk->next = pool->chunks;
    pool->chunks = chunk;
    pool->reserved_bytes += chunk->range.page_count * EMU_PAGE_BYTES;
    if (pool->reserved_bytes > pool->reserved_high_bytes)
        pool->reserved_high_bytes = pool->reserved_bytes;
    space_set(chunk->range.base, chunk->range.page_count, &chunk->range);
}

void pool_add_piece(struct chunk *chunk, struct piece *piece, uint64_t bytes)
{
    struct pool *const pool = chunk->pool;

    piece->chunk = chunk;
    piece->unit_count = (bytes + UNIT_BYTES - 1) / UNIT_BYTES;
    piece->bytes = bytes;
    piece->id = ++cuda.next_id;
    piece->next = chunk->pieces;
    chunk->pieces = piece;
    pool->used_bytes += piece->unit_count * UNIT_BYTES;
    if (pool->used_bytes > pool->used_high_bytes)
        pool->used_high_bytes = pool->used_bytes;
}

static CUresult chunk_new(struct pool *pool, uint64_t bytes)
{
    const uint64_t page_count = bytes / EMU_PAGE_BYTES;
    struct gpu *const gpu = &cuda.gpus[pool->gpu];
    struct chunk *const chunk = calloc(1, sizeof(*chunk));
    uint64_t offset = 0;
    CUdeviceptr base = 0;

    if (!chunk || spans_init(&chunk->units, bytes / UNIT_BYTES) < 0)
        goto no_memory;
    if (space_reserve(page_count, &base) < 0)
        goto no_memory;
    const CUresult status = cuda_take(gpu, bytes, &offset);
    if (status != CUDA_SUCCESS) {
        space_unreserve(base, page_count);
        spans_deinit(&chunk->units);
        free(chunk);
        return status;
    }
    chunk->range = (struct range){ .base = base,
                                   .bytes = bytes,
                                   .page_count = page_count,
                                   .offset = offset,
                                   .id = ++cuda.next_id,
                                   .gpu = pool->gpu,
                                   .chunk = chunk };
    pool_add_chunk(pool, chunk);
    return CUDA_SUCCESS;
no_memory:
    if (chunk)
        spans_deinit(&chunk->units);
    free(chunk);
    return cuda_count_oom(gpu);
}

static bool take(struct pool *pool, uint64_t bytes, CUdeviceptr *ret_address)
{
    const uint64_t unit_count = (bytes + UNIT_BYTES - 1) / UNIT_BYTES;
    struct piece *const piece = calloc(1, sizeof(*piece));
    struct chunk *chunk = pool->chunks;

    while (piece && chunk && spans_take(&chunk->units, unit_count, &piece->unit) < 0)
        chunk = chunk->next;
    if (!piece || !chunk) {
        free(piece);
        return false;
    }
    pool_add_piece(chunk, piece, bytes);
    *ret_address = chunk->range.base + piece->unit * UNIT_BYTES;
    return true;
}

static uint64_t card_free_bytes(const struct pool *pool)
{
    const struct gpu *const gpu = &cuda.gpus[pool->gpu];
    uint64_t used_bytes = 0;

    return cuda_used(gpu, &used_bytes) == CUDA_SUCCESS ? gpu->info.capacity_bytes - used_bytes : 0;
}

/* How much more the pool may take, by the most that it was made for. */
static uint64_t room_bytes(const struct pool *pool)
{
    return pool->max_bytes == 0                     ? UINT64_MAX
           : pool->max_bytes > pool->reserved_bytes ? pool->max_bytes - pool->reserved_bytes
                                                    : 0;
}

/* What the stream has freed is the stream's to take again; then comes a new chunk; and only where
 * the card has none does the pool wait for everybody and give back what lies idle. */
CUresult pool_alloc(struct pool *pool, uint64_t bytes, struct stream *stream,
                    CUdeviceptr *ret_address)
{
    const uint64_t least =
        (bytes / EMU_PAGE_BYTES + (bytes % EMU_PAGE_BYTES != 0)) * EMU_PAGE_BYTES;

    if (take(pool, bytes, ret_address))
        return CUDA_SUCCESS;
    stream_run(stream->slot, stream->enqueued);
    if (take(pool, bytes, ret_address))
        return CUDA_SUCCESS;
    if (card_free_bytes(pool) < least) {
        stream_run_context(stream->context);
        if (take(pool, bytes, ret_address))
            return CUDA_SUCCESS;
        pool_trim(pool, 0);
    }
    if (least > room_bytes(pool))
        return cuda_count_oom(&cuda.gpus[pool->gpu]);
    const CUresult status =
        chunk_new(pool, least < POOL_CHUNK_BYTES && card_free_bytes(pool) >= POOL_CHUNK_BYTES &&
                                room_bytes(pool) >= POOL_CHUNK_BYTES
                            ? POOL_CHUNK_BYTES
                            : least);
    if (status != CUDA_SUCCESS)
        return status;
    return take(pool, bytes, ret_address) ? CUDA_SUCCESS : cuda_count_oom(&cuda.gpus[pool->gpu]);
}

struct piece *pool_piece(CUdeviceptr address)
{
    const struct range *const range = space_range(address);
    struct piece *piece = range && range->chunk ? range->chunk->pieces : NULL;

    while (piece && (piece->is_freed || range->base + piece->unit * UNIT_BYTES != address))
        piece = piece->next;
    return piece;
}

bool pool_find(const struct chunk *chunk, CUdeviceptr address, struct place *place)
{
    const uint64_t unit = (address - chunk->range.base) / UNIT_BYTES;
    const struct piece *piece = chunk->pieces;

    while (piece &&
           (piece->is_freed || unit < piece->unit || unit - piece->unit >= piece->unit_count))
        piece = piece->next;
    if (!piece)
        return false;
    place->base = chunk->range.base + piece->unit * UNIT_BYTES;
    place->bytes = piece->bytes;
    place->id = piece->id;
    return true;
}

void pool_give(struct piece *piece)
{
    struct chunk *const chunk = piece->chunk;
    struct pool *const pool = chunk->pool;
    struct piece **link = &chunk->pieces;

    while (*link != piece)
        link = &(*link)->next;
    *link = piece->next;
    if (!pool->is_imported)
        spans_give(&chunk->units, piece->unit, piece->unit_count);
    pool->used_bytes -= piece->unit_count * UNIT_BYTES;
    free(piece);
    pool_settle(pool);
}

/* A pool that other processes may have opened keeps what it has until its end. */
static bool is_held(const struct pool *pool)
{
    return (pool->is_shareable || pool->is_imported) && !pool->is_destroyed;
}

void pool_trim(struct pool *pool, uint64_t keep_bytes)
{
    struct chunk *next = NULL;

    for (struct chunk *chunk = is_held(pool) ? NULL : pool->chunks; chunk; chunk = next) {
        const uint64_t bytes = chunk->range.page_count * EMU_PAGE_BYTES;
        next = chunk->next;
        if (!chunk->pieces && pool->reserved_bytes - bytes >= keep_bytes)
            chunk_free(chunk);
    }
}

/* Above its threshold a pool gives back what it can, down to the threshold or what is in use. */
void pool_release_all(void)
{
    for (struct pool *pool = cuda.first_pool; pool; pool = pool->next) {
        struct chunk *next = NULL;
        for (struct chunk *chunk = is_held(pool) ? NULL : pool->chunks;
             chunk && pool->reserved_bytes > pool->threshold_bytes; chunk = next) {
            next = chunk->next;
            if (!chunk->pieces)
                chunk_free(chunk);
        }
    }
}

void pool_settle(struct pool *pool)
{
    struct pool **link = &cuda.first_pool;

    if (!pool->is_destroyed)
        return;
    pool_trim(pool, 0);
    if (pool->chunks)
        return;
    while (*link != pool)
        link = &(*link)->next;
    *link = pool->next;
    free(pool);
}
