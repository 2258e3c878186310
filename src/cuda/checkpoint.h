/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_CHECKPOINT_H
#define CUDA_CHECKPOINT_H

#include "cuda/cuda.h"

/* The driver's checkpoints: a process's device memory goes to its host memory and comes back. As
 * cuda.h: our own declarations of NVIDIA's names. */

/* NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's */

typedef enum {
    CU_PROCESS_STATE_RUNNING = 0,
    CU_PROCESS_STATE_LOCKED = 1,
    CU_PROCESS_STATE_CHECKPOINTED = 2,
    CU_PROCESS_STATE_FAILED = 3,
} CUprocessState;

/* 64 bytes each; what is reserved must be zero. */
typedef struct {
    unsigned int timeoutMs; /* 0: none */
    unsigned int reserved0;
    uint64_t reserved1[7];
} CUcheckpointLockArgs;

typedef struct {
    uint64_t reserved[8];
} CUcheckpointCheckpointArgs;

typedef struct {
    CUuuid oldUuid;
    CUuuid newUuid;
} CUcheckpointGpuPair;

typedef struct {
    CUcheckpointGpuPair *gpuPairs;
    unsigned int gpuPairsCount;
    char reserved[52 - sizeof(CUcheckpointGpuPair *)];
    uint64_t reserved1;
} CUcheckpointRestoreArgs;

typedef struct {
    uint64_t reserved[8];
} CUcheckpointUnlockArgs;

_Static_assert(sizeof(CUcheckpointLockArgs) == 64 && sizeof(CUcheckpointCheckpointArgs) == 64 &&
                   sizeof(CUcheckpointRestoreArgs) == 64 && sizeof(CUcheckpointUnlockArgs) == 64,
               "the ABI");

CUDA_API CUresult cuCheckpointProcessGetState(int pid, CUprocessState *state);
CUDA_API CUresult cuCheckpointProcessGetRestoreThreadId(int pid, int *tid);
CUDA_API CUresult cuCheckpointProcessLock(int pid, CUcheckpointLockArgs *args);
CUDA_API CUresult cuCheckpointProcessCheckpoint(int pid, CUcheckpointCheckpointArgs *args);
CUDA_API CUresult cuCheckpointProcessRestore(int pid, CUcheckpointRestoreArgs *args);
CUDA_API CUresult cuCheckpointProcessUnlock(int pid, CUcheckpointUnlockArgs *args);

/* NOLINTEND(readability-identifier-naming) */

#endif
