/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_IPC_H
#define EMU_IPC_H

#include "cuda_state.h"

/*
 * Memory that processes share without a descriptor. The server gives the memory a serial; the
 * handle is plain bytes that name the place and the serial, and who has them can refer to the
 * memory. What was cuMemAlloc's becomes memory with references by that: it stays until the last
 * process lets it go, also when the one that took it has ended.
 *
 *   cuda_ipc.c      cuIpc…: memory of cuMemAlloc, and events
 *   pool_share.c    pieces of pools
 */

/* As it lies in a CUipcMemHandle and a CUmemPoolPtrExportData. */
struct ipc_place {
    uint64_t kind;     /* IPC_* */
    uint64_t emulator; /* the number of the one that it is from */
    uint64_t serial;   /* of the memory, or of the pool that it is of */
    uint64_t offset;   /* of the memory, in the gpu's memfd */
    uint32_t gpu;      /* as the server counts */
    uint32_t pid;
    uint64_t start, bytes; /* of the allocation: in the memory, and as asked for */
    uint64_t owner;        /* of a piece: the pool's number; else 0 */
};

#define IPC_MEMORY UINT64_C(0x6d656d2d6d697262) /* "brim-mem" */
#define IPC_EVENT  UINT64_C(0x6e76652d6d697262)
#define IPC_PIECE  UINT64_C(0x6365702d6d697262)
#define IPC_POOL   UINT64_C(0x6c6f702d6d697262)

/* Of memory that was opened from another process. */
struct import {
    uint64_t serial;
    uint32_t gpu, pid; /* whose it is */
    uint64_t count;    /* times that it was opened */
};

/* Share the memory of a range: *ret_place names it, but for the allocation in it. */
CUresult ipc_share(struct range *range, struct ipc_place *ret_place);
/* Refer to what another process has shared. */
CUresult ipc_refer(const struct ipc_place *place, uint64_t *ret_bytes);
/* This process's reference goes. Reports what other processes still use. */
void ipc_drop(const struct range *range);
/* Whether a place is of this kind, of this emulator, and not of this process. */
CUresult ipc_check(const struct ipc_place *place, uint64_t kind);

/* Whether cuIpcGetMemHandle takes the address. */
bool ipc_is_capable(CUdeviceptr address);

#endif
