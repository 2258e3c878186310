/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_GPU_H
#define DAEMON_GPU_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/process.h"
#include "budget/budget.h"
#include "wire/facts.h"

/*
 * The gpus that the driver has shown since the daemon started. The place in the table is the number
 * of the gpu in the budget; it stays, also when the gpu is lost (its leases' charges do too).
 */

struct daemon;

#define GPU_MANAGER_BYTES 192

/* A process that uses the gpu and belongs to no lease. */
struct foreign_process {
    pid_t pid;
    char name[PROCESS_NAME_BYTES];
    uint64_t bytes;
};

struct gpu {
    uint32_t index; /* the driver's, as people know it */
    char uuid[48];
    char name[64];
    uint64_t used_bytes;
    bool has_process_bytes;
    bool is_seen; /* in the answer that is being read, or in the last one */
    bool is_lost; /* it was there, and is no more */
    int lock_fd;  /* owned; -1: another arbiter has it, see managed_by */
    char managed_by[GPU_MANAGER_BYTES];
    struct foreign_process *foreign; /* owned; largest first */
    size_t foreign_count;
    uint64_t told_foreign_bytes;    /* by the last event about it */
    uint64_t stepped_foreign_bytes; /* by the last step */
    struct facts_gpu *last;         /* owned, cut after its last process; NULL: none yet */
    int64_t last_unlisted_bytes;    /* used, by no process of the list: of that sample */
    uint64_t last_taken_bytes;      /* what it was taken to say is used */
    uint64_t last_at_ms;            /* when it was begun */
};

struct gpus {
    struct gpu table[FACTS_GPU_MAX];
    uint32_t count;
};

void gpus_deinit(struct gpus *gpus);

/* An answer of the helper: begin, each gpu, end. gpu_take adds what is new to the budget, tells
 * whose bytes are whose, and hands the figures to the budget. */
void gpus_begin_answer(struct daemon *daemon);
void gpu_take(struct daemon *daemon, const struct facts_gpu *facts);
void gpus_end_answer(struct daemon *daemon);

/* A lease was put back whose bytes have counted as foreign so far: tell again whose bytes are
 * whose, by the facts that are there, before the budget judges by them. */
void gpus_attribute_again(struct daemon *daemon);

/* Whether this daemon is the arbiter of all of them; the other one tries again first. */
bool gpus_are_ours(const struct daemon *daemon);
bool gpus_retry_locks(struct daemon *daemon);

/* The number of the gpu that a person calls "0" or "GPU-…"; -ENOENT. */
int gpu_find(const struct gpus *gpus, const char *name, uint32_t *ret_number);
/* "gpu 0 (NVIDIA GeForce RTX 4070 Ti)". Returns text. */
const char *gpu_label(const struct gpus *gpus, uint32_t number, char *text, size_t text_bytes);

#endif
