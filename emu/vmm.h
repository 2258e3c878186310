/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_VMM_H
#define EMU_VMM_H

#include "cuda/vmm.h"
#include "cuda_state.h"

/*
 * Addresses and memory apart, as cuMemAddressReserve and cuMemCreate give them, and mappings of
 * one to the other. Nothing of it belongs to a context.
 *
 *   struct memory       physical bytes, charged when they are created. It lives while a handle or a
 *                       mapping refers to it; its handle stays the same number as long.
 *   struct reservation  addresses; what lies on them are mappings
 *   struct mapping      one memory on a piece of one reservation: made, given access and taken away
 *                       as a whole
 *
 *   cuda_vmm.c         addresses, mappings, access
 *   cuda_vmm_memory.c  memory, its handles, and references between processes
 *   vmm_host.c         memory on the host
 */

struct memory {
    CUmemGenericAllocationHandle handle;
    uint32_t gpu;
    uint64_t offset; /* in the gpu's memfd */
    uint64_t bytes;
    uint64_t id;
    uint64_t handle_count; /* what cuMemRelease is still to be called for */
    uint64_t mapping_count;
    bool is_shared; /* exported or imported: the server counts the references of all processes */
    CUmemAllocationProp properties;
    unsigned char *host; /* owned mapping of its file; NULL: it is on the gpu */
    int host_fd;         /* owned; of memory on the host */
};

struct reservation {
    struct reservation *next; /* owned */
    CUdeviceptr start;        /* of the pages that were taken for it */
    uint64_t page_count;
    CUdeviceptr address; /* as given to the program */
    uint64_t bytes;
    uint64_t id;
    struct mapping *mappings; /* owned */
};

struct mapping {
    struct range range;
    struct memory *memory; /* referred to */
    struct reservation *reservation;
    struct mapping *next, *previous;   /* of the reservation */
    unsigned char access[EMU_GPU_MAX]; /* CU_MEM_ACCESS_FLAGS_*, by gpu of this process */
    unsigned char host_access;         /* the same of the host, where memory is there */
};

/* The reservation that holds all of these addresses; NULL: none. */
struct reservation *vmm_reservation(CUdeviceptr address, uint64_t bytes);

/* The memory of a handle that is not released; NULL for any other number. */
struct memory *vmm_memory(CUmemGenericAllocationHandle handle);
/* A reference less was counted by the caller: the last one's end gives the bytes back. */
void vmm_settle(struct memory *memory);

/* A handle for memory like this one, whose reference at the server or file it takes over or, when
 * it fails, lets go. */
CUresult vmm_memory_new(const struct memory *like, struct memory **ret_memory);

/* A gpu, or the host: CUDA_SUCCESS, or what to answer for any other location. */
CUresult vmm_check_location(const CUmemLocation *location);
bool vmm_is_host(const CUmemLocation *location);

/* vmm_host.c */
/* Memory on the host that is new (fd is -1), or what another process has exported by a descriptor,
 * which stays the caller's: false if it is none. */
CUresult vmm_host_create(uint64_t bytes, const CUmemAllocationProp *properties,
                         struct memory **ret_memory);
bool vmm_host_import(int fd, struct memory *memory);
CUresult vmm_host_export(const struct memory *memory, int *ret_fd);
void vmm_host_free(struct memory *memory);
/* The host may do this at the mapping's addresses. */
CUresult vmm_host_set_access(struct mapping *mapping, CUmemAccess_flags flags);

#endif
