/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_RESTORE_H
#define EMU_RESTORE_H

#include "cuda_state.h"

/*
 * The restore thread, which cuInit starts, as the real driver does: it locks the process's calls
 * out, saves its device memory and loads it again, on the server's orders (checkpoint.h). While it
 * has the process locked it holds the library's lock, so every call that takes it waits.
 */

/* Under the lock. Without a thread the process can not be checkpointed, and goes on. */
void restore_start(void);

/* Before a synchronisation takes the lock, because the lock never covered it: true where it returns
 * at once without having waited. Where the memory is away the real driver crashes: that is told. */
bool restore_passes_sync(const char *call);

/* Around work that is done without the lock, begun with it: a process with such work is not locked
 * yet. */
void restore_begin_work(void);
void restore_end_work(void);

/* cuda_image.c, for the thread: the process's memory into its image, which on failure has not
 * begun, and back. */
CUresult image_save(struct link *link);
void image_load(void);

#endif
