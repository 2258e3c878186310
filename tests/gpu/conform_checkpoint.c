/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Checkpoints of a child process: states, arguments, memory, bytes.
 *
 * A checkpoint that goes wrong can cost the process, so it is never done to any but this child; the
 * child ends by itself, because killing a restored process is a known danger; and where the card
 * has little to spare nothing is tried, because a restore that finds no room can not be repaired.
 */

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conform.h"
#include "cuda/checkpoint.h"

#define HELD_BYTES  (64 * MIB)
#define SPARE_BYTES (512 * MIB)

/* The child: holds memory, and says at each byte that it is told whether its pattern is there. */
int conform_checkpoint_target(void)
{
    static unsigned char pattern[4096], back[4096];
    CUdeviceptr address = 0;
    char byte = '\0';

    memset(pattern, 0x5a, sizeof(pattern));
    if (DRV(cuMemAlloc_v2)(&address, HELD_BYTES) != CUDA_SUCCESS ||
        DRV(cuMemcpyHtoD_v2)(address + 5 * MIB, pattern, sizeof(pattern)) != CUDA_SUCCESS ||
        write(STDOUT_FILENO, "r", 1) != 1)
        return EXIT_FAILURE;
    while (read(STDIN_FILENO, &byte, 1) == 1) {
        const bool is_right =
            DRV(cuMemcpyDtoH_v2)(back, address + 5 * MIB, sizeof(back)) == CUDA_SUCCESS &&
            memcmp(pattern, back, sizeof(back)) == 0;
        if (write(STDOUT_FILENO, is_right ? "y" : "n", 1) != 1)
            return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

struct child {
    pid_t pid;
    int in, out;
};

static bool start_child(struct child *child)
{
    int in[2] = { -1, -1 }, out[2] = { -1, -1 };
    char byte = '\0';

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        return false;
    (void)fflush(stdout);
    child->pid = fork();
    if (child->pid == 0) {
        (void)dup2(in[0], STDIN_FILENO);
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(in[1]);
        (void)close(out[0]);
        (void)execl("/proc/self/exe", "conformance", CONFORM_TARGET, (char *)NULL);
        _exit(127);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    child->in = in[1];
    child->out = out[0];
    return child->pid > 0 && read(child->out, &byte, 1) == 1 && byte == 'r';
}

static void end_child(const struct child *child)
{
    int status = -1;

    (void)close(child->in);
    (void)waitpid(child->pid, &status, 0);
    (void)close(child->out);
    conform_number((uint64_t)status, 0, "the process ends in peace");
}

static void check_state(const struct child *child, CUprocessState wanted, const char *what)
{
    CUprocessState state = (CUprocessState)99;

    conform_status(DRV(cuCheckpointProcessGetState)(child->pid, &state), CUDA_SUCCESS,
                   "cuCheckpointProcessGetState");
    conform_number(state, wanted, what);
}

static void check_arguments(const struct child *child)
{
    CUcheckpointLockArgs lock = { .reserved1 = { [6] = 1 } };
    CUcheckpointCheckpointArgs save = { .reserved = { [7] = 1 } };
    char path[64];
    int tid = 0;

    conform_status(DRV(cuCheckpointProcessGetState)(child->pid, NULL), CUDA_ERROR_INVALID_VALUE,
                   "the state to nowhere is an invalid value");
    conform_status(DRV(cuCheckpointProcessLock)(child->pid, &lock), CUDA_ERROR_INVALID_VALUE,
                   "what is reserved in lock's arguments must be zero");
    conform_status(DRV(cuCheckpointProcessCheckpoint)(child->pid, &save), CUDA_ERROR_INVALID_VALUE,
                   "what is reserved in checkpoint's arguments must be zero");
    conform_status(DRV(cuCheckpointProcessGetRestoreThreadId)(child->pid, &tid), CUDA_SUCCESS,
                   "cuCheckpointProcessGetRestoreThreadId");
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)child->pid, tid);
    conform_holds(access(path, F_OK) == 0, "it is a thread of the process");
}

static void check_wrong_states(const struct child *child)
{
    conform_status(DRV(cuCheckpointProcessCheckpoint)(child->pid, NULL), CUDA_ERROR_ILLEGAL_STATE,
                   "a checkpoint needs a lock");
    conform_status(DRV(cuCheckpointProcessRestore)(child->pid, NULL), CUDA_ERROR_ILLEGAL_STATE,
                   "a restore needs a checkpoint");
    conform_status(DRV(cuCheckpointProcessUnlock)(child->pid, NULL), CUDA_ERROR_ILLEGAL_STATE,
                   "an unlock needs a lock");
    check_state(child, CU_PROCESS_STATE_RUNNING, "none of it has changed the state");
}

static bool is_silent(const struct child *child)
{
    struct pollfd heard = { .fd = child->out, .events = POLLIN };

    return poll(&heard, 1, 200) == 0;
}

static void check_cycle(const struct child *child)
{
    CUcheckpointLockArgs lock = { .timeoutMs = 20000 };
    const uint64_t free_before = conform_free_bytes();
    char byte = '\0';

    conform_status(DRV(cuCheckpointProcessLock)(child->pid, &lock), CUDA_SUCCESS,
                   "cuCheckpointProcessLock");
    check_state(child, CU_PROCESS_STATE_LOCKED, "the process is locked");
    conform_status(DRV(cuCheckpointProcessLock)(child->pid, &lock), CUDA_ERROR_ILLEGAL_STATE,
                   "a second lock is an illegal state");
    conform_holds(write(child->in, "?", 1) == 1 && is_silent(child), "its calls wait");
    conform_status(DRV(cuCheckpointProcessCheckpoint)(child->pid, NULL), CUDA_SUCCESS,
                   "cuCheckpointProcessCheckpoint");
    check_state(child, CU_PROCESS_STATE_CHECKPOINTED, "the process is checkpointed");
    conform_holds(conform_free_bytes() >= free_before + HELD_BYTES, "the card has its memory back");
    conform_status(DRV(cuCheckpointProcessUnlock)(child->pid, NULL), CUDA_ERROR_ILLEGAL_STATE,
                   "an unlock before the restore is an illegal state");
    conform_status(DRV(cuCheckpointProcessRestore)(child->pid, NULL), CUDA_SUCCESS,
                   "cuCheckpointProcessRestore");
    check_state(child, CU_PROCESS_STATE_LOCKED, "the process is locked again");
    conform_holds(conform_free_bytes() <= free_before + HELD_BYTES / 2, "it has its memory again");
    conform_holds(is_silent(child), "its calls still wait");
    conform_status(DRV(cuCheckpointProcessUnlock)(child->pid, NULL), CUDA_SUCCESS,
                   "cuCheckpointProcessUnlock");
    check_state(child, CU_PROCESS_STATE_RUNNING, "the process runs");
    conform_holds(read(child->out, &byte, 1) == 1 && byte == 'y',
                  "its memory is at the same address, with the same bytes");
}

void conform_checkpoint(void)
{
    CUprocessState state = CU_PROCESS_STATE_RUNNING;
    struct child child = { .pid = -1 };

    if (!conform_has("cuCheckpointProcessLock")) {
        printf("# no checkpoints: the driver has no cuCheckpointProcessLock (before 570)\n");
        return;
    }
    if (conform_free_bytes() < SPARE_BYTES) {
        printf("# no checkpoints: less than 512 MiB are free\n");
        return;
    }
    const bool is_started = start_child(&child);
    conform_holds(is_started, "a process to be checkpointed");
    if (!is_started)
        return;
    if (DRV(cuCheckpointProcessGetState)(child.pid, &state) == CUDA_ERROR_NOT_SUPPORTED) {
        printf("# no checkpoints: the driver does not support them here\n");
    } else {
        check_arguments(&child);
        check_wrong_states(&child);
        check_cycle(&child);
    }
    end_child(&child);
}
