/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_FACTS_H
#define WIRE_FACTS_H

#include <stdint.h>

/*
 * Facts: what the driver says of the gpus, on its way from brim-helper to brimd.
 *
 * The helper is started with a SOCK_SEQPACKET descriptor as its standard input. For each request
 * packet it answers one FACTS_GPU packet a gpu, then one FACTS_END. Both ends are ours, of one
 * build, on one machine: the packets are these structs as they are, their sizes checked. Driver
 * calls may hang: the daemon gives the answer a deadline, kills a helper that misses it, and starts
 * another.
 */

#define FACTS_PROCESS_MAX 1024
#define FACTS_GPU_MAX     32
#define FACTS_TEXT_BYTES  256

enum facts_kind {
    FACTS_REQUEST = 1,
    FACTS_GPU = 2,
    FACTS_END = 3,
};

struct facts_request {
    uint32_t kind; /* FACTS_REQUEST */
    uint32_t seq;
};

struct facts_process {
    uint32_t pid;
    uint32_t has_bytes; /* 0 where the driver does not tell (WSL2, some containers) */
    uint64_t used_bytes;
};

/* Sent cut after the last process that is there. */
struct facts_gpu {
    uint32_t kind; /* FACTS_GPU */
    uint32_t seq;
    uint32_t index;             /* the driver's */
    uint32_t has_process_bytes; /* 0: the driver tells bytes for no process here */
    char uuid[48];
    char name[64];
    uint64_t capacity_bytes;
    uint64_t used_bytes;    /* by processes, and what the driver took beyond its own reserve */
    uint32_t process_count; /* compute and graphics, each pid once */
    uint32_t is_truncated;  /* there were more than FACTS_PROCESS_MAX */
    struct facts_process processes[FACTS_PROCESS_MAX];
};

struct facts_end {
    uint32_t kind; /* FACTS_END */
    uint32_t seq;
    uint32_t gpu_count;
    int32_t status; /* 0, or negative errno: no driver (-ENOENT), a call failed (-EIO) */
    char problem[FACTS_TEXT_BYTES]; /* for a person, where status is not 0; names the call */
    char driver_version[80];
};

#endif
