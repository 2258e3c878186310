/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CONFORM_H
#define TESTS_CONFORM_H

#include <stdbool.h>
#include <stdint.h>

#include "cuda/cuda.h"
#include "cuda/vmm.h"

/*
 * Does a driver do what its documentation says? The same checks run on the emulated driver, where a
 * difference is a fault of the emulator, and on a real gpu (`make check-gpu`), where it shows what
 * the emulator has assumed wrongly. A difference is printed with both values and the run goes on.
 *
 *   conform.c     the driver, the counting    conform_memory.c  cuMemAlloc, pointers, copies
 *   conform_vmm.c reserve, create, map        conform_pool.c  pools in stream order
 *   conform_ipc.c handles for other processes conform_managed.c  managed memory
 *   conform_array.c  arrays and boxes         conform_context.c  contexts
 *   conform_rect.c rectangles                 conform_stream.c  streams and events
 *   conform_names.c cuGetProcAddress          conform_checkpoint.c  checkpoints of a child
 *   conform_device.c  devices, errors, pinned memory
 *   conform_graph.c memory of graphs
 *   conform_vmm_host.c  cuMemCreate on the host; peers
 */

#define MIB ((uint64_t)1 << 20)

/* An entry point; one that the driver lacks ends the run. */
void *conform_symbol(const char *name);
/* Whether there is one: for what younger drivers have. */
bool conform_has(const char *name);
#define DRV(name) ((__typeof__(&name))conform_symbol(#name))

void conform_status(CUresult got, CUresult wanted, const char *what);
void conform_number(uint64_t got, uint64_t wanted, const char *what);
void conform_holds(bool holds, const char *what);

/* The gpu's free bytes, as the driver says. */
uint64_t conform_free_bytes(void);

/* The tests: each leaves the gpu as it found it. */
void conform_device(void);
void conform_memory(void);
void conform_vmm(void);
void conform_vmm_host(void);
void conform_peer(void);
void conform_pool(void);
void conform_array(void);
void conform_graph(void);
void conform_ipc(void);
void conform_managed(void);
void conform_rect(void);
void conform_stream(void);
void conform_names(void);
void conform_checkpoint(void);
void conform_context(void); /* the last, as it resets the primary context */

/* What the other process is called by, and does: it opens what its standard input tells. */
#define CONFORM_OTHER "other"
int conform_ipc_other(void);
#define CONFORM_TARGET "target"
int conform_checkpoint_target(void);

#endif
