/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_CUDA_STATE_H
#define EMU_CUDA_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "books.h"
#include "cuda/cuda.h"
#include "cuda/pool.h"
#include "handles.h"
#include "link.h"
#include "spans.h"

/*
 * What one process knows inside the emulated libcuda. One lock guards all of it; entry points take
 * it with cuda_enter(), the rest is called under it. Bytes are copied outside of the lock.
 *
 *   cuda_init.c     cuInit, versions, errors       cuda_context.c  contexts
 *   cuda_device.c   the devices' properties        cuda_memory.c   cuMemAlloc and what it gave
 *   space.c         device addresses -> bytes      cuda_copy.c     copies and sets
 *   cuda_host.c     pinned host memory             cuda_entry.c    cuGetProcAddress
 *   vmm.h           addresses and memory apart     restore.h       checkpoints
 *   bytes.c         the bytes themselves           stream.h        streams and events
 *   places.c        what is charged, and where it lies
 */

struct block;
struct chunk;
struct graph_memory;
struct import;
struct managed;
struct mapping;
struct pool;
struct reservation;
struct stream;

/* What cuMemAlloc has taken from the card: an allocation, or a block of small ones; or what
 * cuMemMap has mapped, which belongs to no context. */
struct range {
    struct range *previous, *next; /* of the context */
    struct CUctx_st *context;      /* borrowed; NULL: a mapping */
    CUdeviceptr base;
    uint64_t bytes;      /* as asked for */
    uint64_t page_count; /* as taken */
    uint64_t offset;     /* in the gpu's memfd */
    uint64_t id;
    uint32_t gpu;
    struct block *block;               /* owned; NULL: one allocation */
    struct mapping *mapping;           /* what it is embedded in; NULL: no mapping */
    struct chunk *chunk;               /* what it is embedded in; NULL: of no pool */
    struct managed *managed;           /* owned; NULL: its bytes are a card's */
    struct graph_memory *graph_memory; /* what it is embedded in; NULL: of no graph */
    struct import *import;             /* owned; NULL: not opened from another process */
    bool is_shared;                    /* other processes may refer to it: dropped, not freed */
};

struct gpu {
    struct emu_gpu_info info;
    uint32_t server_index;     /* CUDA_VISIBLE_DEVICES may leave out and reorder */
    int memfd;                 /* owned */
    unsigned char *bytes;      /* owned mapping of the whole memfd */
    _Atomic uint64_t *written; /* owned: a bit a page of it, set where there may be bytes of ours */
    struct spans places;       /* of what is leased to us, the free ones, in pages */
    uint64_t idle_pages;       /* in them */
    uint64_t idle_most_pages;  /* more than that goes back to the server */
    struct CUctx_st *primary;  /* owned; NULL while inactive */
    CUcontext primary_handle;  /* stays the same over activations */
    uint32_t primary_count;
    uint32_t primary_flags;
    CUmemoryPool pool; /* chosen for it; NULL, or one that is gone: its default */
};

struct CUctx_st {
    CUcontext handle;
    uint32_t gpu;
    uint32_t flags;
    uint32_t api_version;
    uint32_t use_count; /* cuCtxAttach */
    uint64_t id;
    size_t limits[7]; /* by CUlimit */
    unsigned cache_config, shared_config;
    bool is_primary;
    struct range *open_blocks; /* owned: blocks of small allocations that have room */
    struct range *ranges;      /* owned: all others */
    struct stream *streams;    /* owned */
    struct stream *legacy;     /* one of them; NULL before its first use */
};

struct cuda {
    pthread_mutex_t lock;
    struct link link;
    struct books *books; /* owned mapping */
    uint32_t account;    /* this process's in the books */
    int gone_fd;       /* owned: polls readable while the server has ends of processes to settle */
    bool is_late;      /* --async=late */
    uint64_t emulator; /* the number of the one that we are connected to */
    bool is_failed;    /* a checkpoint has broken it: calls that need a context fail */
    struct gpu gpus[EMU_GPU_MAX];
    uint32_t gpu_count;
    struct handles contexts, streams, events, memories, pools;
    struct pool *first_pool; /* owned */
    unsigned char *space;    /* owned: addresses without bytes behind them */
    uint64_t space_bytes;
    struct spans free_space;
    struct reservation *reservations; /* owned */
    struct range **by_page;           /* owned, sparse: the range that covers a page of the space */
    struct range **by_group;          /* in it: the one that covers a whole group of pages */
    uint64_t next_id;
};

extern struct cuda cuda;

/* The thread runs a function of cuLaunchHostFunc, which may not call the driver. */
extern __thread bool cuda_is_in_callback;

/* Take the lock. CUDA_SUCCESS, or the error to answer, with the lock not taken: among them what a
 * test has ordered for this call. Helpers hand the name of their caller down; NULL: it was asked
 * for already. */
CUresult cuda_enter_call(const char *call);
#define cuda_enter() cuda_enter_call(__func__)
/* The same for calls that need a context: *ret_context is the thread's. */
CUresult cuda_enter_context_call(const char *call, struct CUctx_st **ret_context);
#define cuda_enter_context(ret_context) cuda_enter_context_call(__func__, ret_context)
/* Whether the gpu has fallen off the bus. */
bool cuda_is_lost(const struct gpu *gpu);
/* Give the lock back; returns status for `return cuda_leave(...)`. */
CUresult cuda_leave(CUresult status);

/* One request about a gpu of this process to the server; a lost server is CUDA_ERROR_UNKNOWN. */
CUresult cuda_ask(enum emu_op op, const struct gpu *gpu, uint64_t arg, struct emu_reply *ret_reply);

/* places.c: the books and the places, once a process. -errno. */
int places_open(void);
/* Whole pages of the card: charged, with a place in its file, all zeros; and back again. */
CUresult cuda_take(struct gpu *gpu, uint64_t bytes, uint64_t *ret_offset);
void cuda_give(struct gpu *gpu, uint64_t offset, uint64_t bytes);
/* What was taken becomes memory that other processes can refer to: this process has one reference,
 * which ends with EMU_DROP in place of cuda_give(). */
CUresult cuda_share(struct gpu *gpu, uint64_t offset, uint64_t bytes);
/* What is in use on the card, of all processes. */
CUresult cuda_used(const struct gpu *gpu, uint64_t *ret_bytes);
/* Returns CUDA_ERROR_OUT_OF_MEMORY. */
CUresult cuda_count_oom(const struct gpu *gpu);

/* cuda_refused.c: CUDA_ERROR_NOT_SUPPORTED, or what is ordered for the call. */
CUresult cuda_refuse(const char *call);

/* cuda_device.c: valid device number. */
struct gpu *device_get(CUdevice device);
/* The gpu of this process that the server knows under a number; NULL: CUDA_VISIBLE_DEVICES hides
 * it. */
struct gpu *device_of_server(uint64_t server_index);

/* cuda_context.c: the thread's current one: CUDA_ERROR_INVALID_CONTEXT, or _CONTEXT_IS_DESTROYED.
 */
CUresult context_current(struct CUctx_st **ret_context);
/* The one that a handle names, the thread's current one without: CUDA_ERROR_INVALID_CONTEXT. */
CUresult context_named(CUcontext handle, struct CUctx_st **ret_context);
/* Whether it can be used: its card is there, and nothing has broken it. */
CUresult context_check(const struct CUctx_st *context);
CUresult context_check_flags(unsigned int flags);
/* cuda_limits.c */
void context_set_defaults(struct CUctx_st *context);

/* space.c */
/* Reserve so many bytes of addresses; once a process. */
int space_open(uint64_t bytes);
CUresult space_alloc(struct CUctx_st *context, uint64_t bytes, CUdeviceptr *ret_address);
CUresult space_free(CUdeviceptr address);
void space_free_context(struct CUctx_st *context);
/* Its context has it from now on. */
void space_link_range(struct range *range);
/* Of a context, whatever it is. */
void space_free_range(struct range *range);

struct place {
    CUdeviceptr base; /* of the allocation */
    uint64_t bytes;   /* of the allocation, as asked for */
    uint64_t offset;  /* of the address, in the gpu's memfd */
    uint64_t id;
    const struct CUctx_st *context; /* NULL: a mapping */
    struct gpu *gpu;
    const struct mapping *mapping; /* NULL: none */
    bool is_managed;               /* its bytes lie at the address itself, for the host too */
    unsigned char *host;           /* where the host has the address's bytes; NULL: on the gpu */
};

/* The allocation that holds an address; false for any number that no allocation holds. */
bool space_find(CUdeviceptr address, struct place *ret_place);
bool space_contains(CUdeviceptr address);
/* The range on an address's page; NULL: none. */
struct range *space_range(CUdeviceptr address);
/* Addresses without anything behind them: so many pages, from address on. */
int space_reserve(uint64_t page_count, CUdeviceptr *ret_address);
void space_unreserve(CUdeviceptr address, uint64_t page_count);
/* What lies on these pages: a range, or NULL, for the same pages as before. */
void space_set(CUdeviceptr address, uint64_t page_count, struct range *range);

/* pool.c: the piece of a chunk that holds an address. */
bool pool_find(const struct chunk *chunk, CUdeviceptr address, struct place *place);
/* At a synchronisation: what pools hold above their thresholds goes back to the card. */
void pool_release_all(void);

/* bytes.c: the only code that touches device bytes. What was never written reads as zeros and
 * costs nothing. */
void bytes_write(const struct gpu *gpu, uint64_t offset, const void *from, size_t bytes);
void bytes_read(const struct gpu *gpu, uint64_t offset, void *to, size_t bytes);
void bytes_copy(const struct gpu *to_gpu, uint64_t to, const struct gpu *from_gpu, uint64_t from,
                size_t bytes);
void bytes_fill(const struct gpu *gpu, uint64_t offset, uint32_t value, unsigned value_bytes,
                size_t count);
/* How much from offset on, at most bytes, is one piece of data or of what was never written. */
size_t bytes_extent(const struct gpu *gpu, uint64_t offset, size_t bytes, bool *ret_is_data);
/* The same where the host has them. */
void bytes_fill_host(unsigned char *to, uint32_t value, unsigned value_bytes, size_t count);
void bytes_drop(const struct gpu *gpu, uint64_t offset, size_t bytes);
/* Zeros again, before the place is somebody else's. */
void bytes_wipe(const struct gpu *gpu, uint64_t offset, uint64_t bytes);
/* Whoever else writes through gpu->bytes says so first: what was not written is not wiped. */
void bytes_touch(const struct gpu *gpu, uint64_t offset, uint64_t bytes);

#endif
