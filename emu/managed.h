/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_MANAGED_H
#define EMU_MANAGED_H

#include "cuda/managed.h"
#include "cuda_state.h"

/*
 * Managed memory: host memory at an address of the device's, so that a host reads and writes it
 * there. None of it is on a card before it is prefetched or a copy or set of a card touches it;
 * then its pages count there until they are prefetched elsewhere, freed, or pushed out. The server
 * knows how many bytes that is, and this process which pages they should be.
 *
 * What the program has said of it (advice, prefetches) lies in pieces: runs of host pages about
 * which the same was said.
 *
 *   cuda_managed.c         memory, pieces, where they are     managed.c  the server's account
 *   cuda_managed_advice.c  advice, and what can be asked
 */

/* A location: a gpu of this process, CU_DEVICE_CPU, CU_DEVICE_INVALID for none, or a NUMA node. */
#define MANAGED_NODE(node) (-16 - (node))

struct managed_piece {
    uint64_t start; /* host pages from the memory's start on, up to the next piece's */
    int resident;   /* the gpu where it is; CU_DEVICE_CPU */
    int preferred, prefetched;
    bool is_read_mostly;
    uint32_t accessed_by; /* a bit a gpu; the last: the host */
};
#define MANAGED_BY_HOST (UINT32_C(1) << 31)

struct managed {
    struct managed_piece *pieces; /* owned; the first starts at 0 */
    size_t piece_count;
};

/* What is said of some host pages. */
typedef void managed_change(struct managed_piece *piece, int location);

/* The memory that holds all of these bytes; NULL: none. */
struct range *managed_find(CUdeviceptr address, uint64_t bytes);
/* The same to each host page of them. Memory is short: CUDA_ERROR_OUT_OF_MEMORY. */
CUresult managed_apply(struct range *range, CUdeviceptr address, uint64_t bytes,
                       managed_change *change, int location);
/* The first piece of the bytes; *ret_end: behind the last. */
const struct managed_piece *managed_pieces(const struct range *range, CUdeviceptr address,
                                           uint64_t bytes, const struct managed_piece **ret_end);
/* A location as calls name it; CUDA_ERROR_INVALID_DEVICE, _INVALID_VALUE. */
CUresult managed_locate(const CUmemLocation *location, int *ret_location);

/* Whether it is managed memory. */
bool managed_is(const void *host);
/* A card's work touches the bytes, managed or not. */
void managed_touch(CUdeviceptr address, uint64_t bytes, uint32_t gpu);
/* Before its range ends. */
void managed_end(struct range *range);
/* Whether host and cards may touch it at the same time; not under WSL. */
bool managed_is_concurrent(void);

#endif
