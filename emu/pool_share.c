/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pieces of another process's pool. The whole chunk is mapped at the first piece of it that comes,
 * and stays until the pool's end, as the driver keeps it; a piece lies in it where it lies for the
 * process that made it. What the pool tells of itself is what came in.
 */

#include <stdlib.h>

#include "ipc.h"
#include "pool.h"

struct pool *pool_import(const struct ipc_place *place)
{
    const struct gpu *const gpu = device_of_server(place->gpu);
    struct pool *const pool = pool_new((uint32_t)(gpu - cuda.gpus));

    if (!pool)
        return NULL;
    pool->is_imported = true;
    pool->number = place->owner;
    return pool;
}

CUresult pool_export_piece(struct piece *piece, struct ipc_place *ret_place)
{
    struct chunk *const chunk = piece->chunk;
    const struct pool *const pool = chunk->pool;
    const CUresult status = ipc_share(&chunk->range, ret_place);

    if (status != CUDA_SUCCESS)
        return status;
    ret_place->kind = IPC_PIECE;
    ret_place->start = piece->unit * POOL_UNIT_BYTES;
    ret_place->bytes = piece->bytes;
    ret_place->owner = pool->number;
    return CUDA_SUCCESS;
}

/* Addresses for a chunk that this process refers to already. */
static CUresult map_chunk(struct pool *pool, const struct ipc_place *place, uint64_t page_count,
                          struct chunk **ret_chunk)
{
    struct chunk *const chunk = calloc(1, sizeof(*chunk));
    struct import *const import = calloc(1, sizeof(*import));
    CUdeviceptr base = 0;

    if (!chunk || !import || space_reserve(page_count, &base) < 0) {
        free(chunk);
        free(import);
        return cuda_count_oom(&cuda.gpus[pool->gpu]);
    }
    *import = (struct import){ place->serial, place->gpu, place->pid, 1 };
    chunk->range = (struct range){ .base = base,
                                   .bytes = page_count * EMU_PAGE_BYTES,
                                   .page_count = page_count,
                                   .offset = place->offset,
                                   .id = ++cuda.next_id,
                                   .gpu = pool->gpu,
                                   .chunk = chunk,
                                   .import = import,
                                   .is_shared = true };
    pool_add_chunk(pool, chunk);
    *ret_chunk = chunk;
    return CUDA_SUCCESS;
}

static CUresult find_chunk(struct pool *pool, const struct ipc_place *place,
                           struct chunk **ret_chunk)
{
    struct emu_reply reply = { 0 };
    uint64_t bytes = 0;

    for (struct chunk *it = pool->chunks; it; it = it->next) {
        if (it->range.import->serial == place->serial) {
            *ret_chunk = it;
            return CUDA_SUCCESS;
        }
    }
    CUresult status = ipc_refer(place, &bytes);
    if (status != CUDA_SUCCESS)
        return status == CUDA_ERROR_INVALID_HANDLE ? CUDA_ERROR_INVALID_VALUE : status;
    status = map_chunk(pool, place, bytes / EMU_PAGE_BYTES, ret_chunk);
    if (status != CUDA_SUCCESS)
        (void)cuda_ask(EMU_DROP, &cuda.gpus[pool->gpu], place->offset, &reply);
    return status;
}

CUresult pool_import_piece(struct pool *pool, const struct ipc_place *place,
                           CUdeviceptr *ret_address)
{
    struct chunk *chunk = NULL;
    const CUresult status = find_chunk(pool, place, &chunk);

    if (status != CUDA_SUCCESS)
        return status;
    if (place->bytes == 0 || place->start >= chunk->range.bytes ||
        place->bytes > chunk->range.bytes - place->start || place->start % POOL_UNIT_BYTES != 0)
        return CUDA_ERROR_INVALID_VALUE;
    struct piece *const piece = calloc(1, sizeof(*piece));
    if (!piece)
        return cuda_count_oom(&cuda.gpus[pool->gpu]);
    piece->unit = place->start / POOL_UNIT_BYTES;
    pool_add_piece(chunk, piece, place->bytes);
    *ret_address = chunk->range.base + place->start;
    return CUDA_SUCCESS;
}
