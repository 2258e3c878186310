/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_POOL_H
#define EMU_POOL_H

#include "cuda/pool.h"
#include "stream.h"

/*
 * The stream-ordered allocator. A pool takes chunks from the card and gives out pieces of them. A
 * piece that is freed in a stream is the pool's again when the stream comes to it; a chunk without
 * pieces goes back to the card at a synchronisation while the pool holds more than its threshold,
 * or when it is trimmed. Nothing of it belongs to a context.
 *
 *   pool.c        chunks and pieces      cuda_pool.c        the entry points
 *   pool_share.c  pieces of other processes' chunks         cuda_pool_share.c  their entry points
 */

#define POOL_CHUNK_BYTES (UINT64_C(32) << 20)
#define POOL_UNIT_BYTES  UINT64_C(512)

struct piece {
    struct piece *next; /* of the chunk */
    struct chunk *chunk;
    uint64_t unit, unit_count;
    uint64_t bytes; /* as asked for */
    uint64_t id;
    bool is_freed; /* its stream has not come to it yet */
};

struct chunk {
    struct range range;
    struct chunk *next; /* of the pool */
    struct pool *pool;
    struct spans units;   /* free ones */
    struct piece *pieces; /* owned */
};

struct pool {
    struct pool *next; /* of the process */
    CUmemoryPool handle;
    uint32_t gpu;
    bool is_default, is_destroyed;
    bool is_shareable;  /* by descriptor: nothing goes back to the card before its end */
    bool is_imported;   /* another process's: its pieces come one by one */
    uint64_t number;    /* by which pieces know it, if it is shareable */
    uint64_t max_bytes; /* 0: as many as there are */
    int reuse[3];
    uint64_t threshold_bytes, reserved_bytes, reserved_high_bytes, used_bytes, used_high_bytes;
    struct chunk *chunks; /* owned */
};

/* NULL: no host memory. */
struct pool *pool_new(uint32_t gpu);
CUresult pool_alloc(struct pool *pool, uint64_t bytes, struct stream *stream,
                    CUdeviceptr *ret_address);
void pool_add_chunk(struct pool *pool, struct chunk *chunk);
/* piece->unit is set; the units are taken. */
void pool_add_piece(struct chunk *chunk, struct piece *piece, uint64_t bytes);

/* pool_share.c */
struct ipc_place;
/* A new pool for another process's. NULL: no host memory. */
struct pool *pool_import(const struct ipc_place *place);
/* The piece of another process's pool that a place names. */
CUresult pool_import_piece(struct pool *pool, const struct ipc_place *place,
                           CUdeviceptr *ret_address);
CUresult pool_export_piece(struct piece *piece, struct ipc_place *ret_place);

/* The piece that starts at an address and is not freed; NULL: none. */
struct piece *pool_piece(CUdeviceptr address);
/* The piece is the pool's again; a destroyed pool ends with its last one. */
void pool_give(struct piece *piece);
/* Chunks without pieces go back while more than this is held. */
void pool_trim(struct pool *pool, uint64_t keep_bytes);
/* A destroyed pool without pieces is no more. */
void pool_settle(struct pool *pool);

#endif
