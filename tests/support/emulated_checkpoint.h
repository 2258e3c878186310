/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_EMULATED_CHECKPOINT_H
#define TESTS_EMULATED_CHECKPOINT_H

#include <poll.h>

#include "cuda/checkpoint.h"
#include "cuda/nvml.h"
#include "emulated_cuda.h"

/* Checkpoints of child processes: the target, and what its keeper does and looks at. */

#define MIB        ((uint64_t)1 << 20)
#define HELD_BYTES (64 * MIB)

static inline CUresult state_of(int pid, CUprocessState *ret_state)
{
    return CU(cuCheckpointProcessGetState)(pid, ret_state);
}

static inline void check_state(int pid, CUprocessState wanted)
{
    CUprocessState state = (CUprocessState)99;

    CHECK_CU(state_of(pid, &state));
    CHECK_EQ_U64(state, wanted);
}

static inline CUresult lock_for(int pid, unsigned int timeout_ms)
{
    CUcheckpointLockArgs args = { .timeoutMs = timeout_ms };

    return CU(cuCheckpointProcessLock)(pid, &args);
}

static inline void save(int pid)
{
    CHECK_CU(lock_for(pid, 0));
    CHECK_CU(CU(cuCheckpointProcessCheckpoint)(pid, NULL));
}

static inline void load(int pid)
{
    CHECK_CU(CU(cuCheckpointProcessRestore)(pid, NULL));
    CHECK_CU(CU(cuCheckpointProcessUnlock)(pid, NULL));
}

static inline int order(const char *text)
{
    int status = -1;

    (void)fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)execl(EMULATOR_PATH, EMULATOR_PATH, "--control", text, (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* A number of the emulator's counters. */
static inline unsigned long long counter(const char *name)
{
    char text[4096], key[64];
    struct emulated_child asked = emulated_exec(EMULATOR_PATH, "--stats");
    unsigned long long value = 0;
    size_t used = 0;
    ssize_t got = 0;

    while ((got = read(asked.out, text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = '\0';
    (void)snprintf(key, sizeof(key), "\"%s\": ", name);
    const char *const start = strstr(text, key);
    CHECK(emulated_end(&asked, 0) == 0 && start);
    CHECK(sscanf(start + strlen(key), "%llu", &value) == 1); /* NOLINT(cert-err34-c) */
    return value;
}

static inline void *nvml_symbol(const char *name)
{
    void *const library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    void *const symbol = library ? dlsym(library, name) : NULL;

    CHECK(symbol);
    return symbol;
}
#define NVML(name) ((__typeof__(&name))nvml_symbol(#name))

/* What NVML says that a process holds; 0: it is not listed. */
static inline uint64_t listed_bytes(int pid)
{
    nvmlProcessInfo_t list[16];
    unsigned int count = 16;
    nvmlDevice_t device = NULL;

    CHECK(NVML(nvmlInit_v2)() == NVML_SUCCESS);
    CHECK(NVML(nvmlDeviceGetHandleByIndex_v2)(0, &device) == NVML_SUCCESS);
    CHECK(NVML(nvmlDeviceGetComputeRunningProcesses_v3)(device, &count, list) == NVML_SUCCESS);
    for (unsigned int i = 0; i < count; i++) {
        if (list[i].pid == (unsigned int)pid)
            return list[i].usedGpuMemory;
    }
    return 0;
}

/* Holds 64 MiB with a pattern. A letter on its input is what it does; a letter answers. */
static inline void part_target(void)
{
    static unsigned char pattern[4 << 20], back[4 << 20];
    char command = '\0';

    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (unsigned char)(i * 31 + i / 4096);
    (void)signal(SIGSEGV, SIG_DFL); /* a sanitizer would make a report of it */
    (void)emulated_context();
    const CUdeviceptr address = emulated_alloc(HELD_BYTES);
    const CUdeviceptr small = emulated_alloc(300);
    CHECK_CU(CU(cuMemcpyHtoD_v2)(address + 8 * MIB, pattern, sizeof(pattern)));
    CHECK_CU(CU(cuMemsetD8_v2)(small, 7, 300));
    CHECK(write(1, "r", 1) == 1);
    while (read(0, &command, 1) == 1) {
        CUresult status = CUDA_SUCCESS;
        if (command == 'c') { /* the bytes are there, and zeros around them */
            status = CU(cuMemcpyDtoH_v2)(back, address + 8 * MIB, sizeof(back));
            CHECK(status != CUDA_SUCCESS || memcmp(pattern, back, sizeof(back)) == 0);
            CHECK(CU(cuMemcpyDtoH_v2)(back, small, 300) != CUDA_SUCCESS || back[299] == 7);
            CHECK(CU(cuMemcpyDtoH_v2)(back, address, 16) != CUDA_SUCCESS || back[0] == 0);
        }
        if (command == 's')
            status = CU(cuCtxSynchronize)();
        if (command == 'a')
            (void)emulated_alloc(2 * MIB);
        const char said = status == CUDA_SUCCESS               ? 'k'
                          : status == CUDA_ERROR_LAUNCH_FAILED ? 'l'
                                                               : '?';
        CHECK(write(1, &said, 1) == 1);
    }
    exit(0);
}

static inline struct emulated_child start_target(const char *part)
{
    const struct emulated_child child = emulated_spawn(part);

    CHECK(emulated_hear(&child) == 'r');
    return child;
}

static inline void tell(const struct emulated_child *child, char command)
{
    CHECK(write(child->in, &command, 1) == 1);
}

/* Nothing comes from it for a while. */
static inline bool is_silent(const struct emulated_child *child)
{
    struct pollfd heard = { .fd = child->out, .events = POLLIN };

    return poll(&heard, 1, 100) == 0;
}

static inline char ask(const struct emulated_child *child, char command)
{
    tell(child, command);
    return emulated_hear(child);
}

static inline CUcheckpointGpuPair pair_of_this_card(void)
{
    CUcheckpointGpuPair pair = { 0 };

    CHECK_CU(CU(cuDeviceGetUuid_v2)(&pair.oldUuid, 0));
    pair.newUuid = pair.oldUuid;
    return pair;
}

struct checkpoint_part {
    const char *name;
    void (*run)(void);
};

/* Runs the part that this process was started for, if it was. */
static inline void run_part(int argc, char **argv, const struct checkpoint_part *parts,
                            size_t part_count)
{
    for (size_t i = 0; argc == 2 && i < part_count; i++) {
        if (strcmp(argv[1], parts[i].name) == 0)
            parts[i].run();
    }
}

#endif
