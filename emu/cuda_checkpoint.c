/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cuCheckpointProcess…: what a controller calls. Each call is a connection of its own, without the
 * library's lock: it may take long, it may be about this very process, and a controller that is
 * killed leaves nothing behind.
 */

#include <string.h>

#include "cuda/checkpoint.h"
#include "cuda_state.h"

/* On success the process may be asked about. */
static CUresult enter(const char *call, int pid)
{
    if (cuda_is_in_callback)
        return CUDA_ERROR_NOT_PERMITTED;
    if (link_is_inherited(&cuda.link) || __atomic_load_n(&cuda.link.fd, __ATOMIC_ACQUIRE) < 0)
        return CUDA_ERROR_NOT_INITIALIZED;
    const int32_t ordered = orders_check(cuda.link.orders, call);
    if (ordered != 0)
        return (CUresult)ordered;
    return pid > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult ask_on(struct link *link, const struct emu_request *request, uint64_t *ret_value)
{
    struct emu_reply reply = { 0 };
    const int status = link_call(link, request, &reply);

    if (status == CUDA_SUCCESS && ret_value)
        *ret_value = reply.values[0];
    return status < 0 ? CUDA_ERROR_UNKNOWN : (CUresult)status;
}

static CUresult ask(int pid, enum emu_checkpoint what, uint64_t arg, uint64_t *ret_value)
{
    const struct emu_request request = { .op = EMU_CHECKPOINT,
                                         .args = { EMU_CHECKPOINT_OF(what, pid, 0), arg } };
    struct emu_reply hello = { 0 };
    struct link link = LINK_CLOSED;

    if (link_open(&link, EMU_ROLE_CONTROLLER, &hello) != 0)
        return CUDA_ERROR_UNKNOWN;
    const CUresult status = ask_on(&link, &request, ret_value);
    link_close(&link);
    return status;
}

static bool is_zero(const void *bytes, size_t count)
{
    const unsigned char *const start = bytes;

    for (size_t i = 0; i < count; i++) {
        if (start[i] != 0)
            return false;
    }
    return true;
}

CUresult cuCheckpointProcessGetState(int pid, CUprocessState *state)
{
    uint64_t value = 0;
    CUresult status = enter(__func__, pid);

    if (status == CUDA_SUCCESS && !state)
        status = CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        status = ask(pid, EMU_CHECKPOINT_STATE, 0, &value);
    if (status == CUDA_SUCCESS)
        *state = (CUprocessState)value;
    return status;
}

CUresult cuCheckpointProcessGetRestoreThreadId(int pid, int *tid)
{
    uint64_t value = 0;
    CUresult status = enter(__func__, pid);

    if (status == CUDA_SUCCESS && !tid)
        status = CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        status = ask(pid, EMU_CHECKPOINT_THREAD, 0, &value);
    if (status == CUDA_SUCCESS)
        *tid = (int)value;
    return status;
}

CUresult cuCheckpointProcessLock(int pid, CUcheckpointLockArgs *args)
{
    CUresult status = enter(__func__, pid);

    if (status == CUDA_SUCCESS && args &&
        (args->reserved0 != 0 || !is_zero(args->reserved1, sizeof(args->reserved1))))
        status = CUDA_ERROR_INVALID_VALUE;
    return status == CUDA_SUCCESS ? ask(pid, EMU_CHECKPOINT_LOCK, args ? args->timeoutMs : 0, NULL)
                                  : status;
}

CUresult cuCheckpointProcessCheckpoint(int pid, CUcheckpointCheckpointArgs *args)
{
    CUresult status = enter(__func__, pid);

    if (status == CUDA_SUCCESS && args && !is_zero(args->reserved, sizeof(args->reserved)))
        status = CUDA_ERROR_INVALID_VALUE;
    return status == CUDA_SUCCESS ? ask(pid, EMU_CHECKPOINT_SAVE, 0, NULL) : status;
}

/* The emulator's number of a card, also of one that CUDA_VISIBLE_DEVICES hides; -1: none. */
static int find_card(struct link *link, uint32_t count, const CUuuid *uuid)
{
    struct emu_gpu_info info = { 0 };
    struct emu_reply reply = { 0 };

    for (uint32_t i = 0; i < count && i < EMU_GPU_MAX; i++) {
        const struct emu_request request = { .op = EMU_GPU_INFO, .gpu = i };
        if (link_call_payload(link, &request, &reply, &info, sizeof(info), NULL) == 0 &&
            memcmp(info.uuid, uuid->bytes, sizeof(info.uuid)) == 0)
            return (int)i;
    }
    return -1;
}

/* The pairs as EMU_CHECKPOINT has them. */
static CUresult read_pairs(struct link *link, uint32_t card_count,
                           const CUcheckpointRestoreArgs *args, uint32_t *ret_cards,
                           uint64_t *ret_to)
{
    for (unsigned int i = 0; i < args->gpuPairsCount; i++) {
        const int from = find_card(link, card_count, &args->gpuPairs[i].oldUuid);
        const int to = find_card(link, card_count, &args->gpuPairs[i].newUuid);
        if (from < 0 || to < 0 || (*ret_cards >> from & 1) != 0)
            return CUDA_ERROR_INVALID_VALUE;
        *ret_cards |= UINT32_C(1) << from;
        *ret_to |= (uint64_t)to << 4 * from;
    }
    return CUDA_SUCCESS;
}

static CUresult ask_restore(int pid, const CUcheckpointRestoreArgs *args)
{
    struct emu_request request = { .op = EMU_CHECKPOINT };
    struct emu_reply hello = { 0 };
    struct link link = LINK_CLOSED;
    uint32_t cards = 0;
    CUresult status = CUDA_SUCCESS;

    if (link_open(&link, EMU_ROLE_CONTROLLER, &hello) != 0)
        return CUDA_ERROR_UNKNOWN;
    if (args)
        status = read_pairs(&link, (uint32_t)hello.values[0], args, &cards, &request.args[1]);
    request.args[0] = EMU_CHECKPOINT_OF(EMU_CHECKPOINT_LOAD, pid, cards);
    if (status == CUDA_SUCCESS)
        status = ask_on(&link, &request, NULL);
    link_close(&link);
    return status;
}

CUresult cuCheckpointProcessRestore(int pid, CUcheckpointRestoreArgs *args)
{
    CUresult status = enter(__func__, pid);

    if (status == CUDA_SUCCESS && args &&
        (!is_zero(args->reserved, sizeof(args->reserved)) || args->reserved1 != 0 ||
         args->gpuPairsCount > EMU_GPU_MAX || (args->gpuPairsCount > 0 && !args->gpuPairs)))
        status = CUDA_ERROR_INVALID_VALUE;
    return status == CUDA_SUCCESS ? ask_restore(pid, args) : status;
}

CUresult cuCheckpointProcessUnlock(int pid, CUcheckpointUnlockArgs *args)
{
    CUresult status = enter(__func__, pid);

    if (status == CUDA_SUCCESS && args && !is_zero(args->reserved, sizeof(args->reserved)))
        status = CUDA_ERROR_INVALID_VALUE;
    return status == CUDA_SUCCESS ? ask(pid, EMU_CHECKPOINT_UNLOCK, 0, NULL) : status;
}
