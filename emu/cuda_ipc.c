/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cuIpc…: memory that cuMemAlloc gave, and events, for other processes.
 *
 * Several small allocations share a page, and a page is what is opened: a handle of any of them
 * opens all of it, as with the real driver, and the address that comes back is that of the one.
 *
 * An event for other processes is done when it is recorded (cuda_event.c), so a process that opens
 * it has nothing to wait for: all that the handle must be is one.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cuda/ipc.h"
#include "ipc.h"
#include "stream.h"

_Static_assert(sizeof(struct ipc_place) == CU_IPC_HANDLE_SIZE, "a place fills a handle");

CUresult ipc_share(struct range *range, struct ipc_place *ret_place)
{
    struct gpu *const gpu = &cuda.gpus[range->gpu];
    struct emu_reply reply = { 0 };
    CUresult status = CUDA_SUCCESS;

    if (!range->is_shared)
        status = cuda_share(gpu, range->offset, range->page_count * EMU_PAGE_BYTES);
    range->is_shared = status == CUDA_SUCCESS;
    if (status == CUDA_SUCCESS)
        status = cuda_ask(EMU_SHARE, gpu, range->offset, &reply);
    if (status == CUDA_SUCCESS)
        *ret_place = (struct ipc_place){ .kind = IPC_MEMORY,
                                         .emulator = cuda.emulator,
                                         .serial = reply.values[0],
                                         .offset = range->offset,
                                         .gpu = gpu->server_index,
                                         .pid = (uint32_t)getpid() };
    return status;
}

CUresult ipc_check(const struct ipc_place *place, uint64_t kind)
{
    if (place->kind != kind || place->emulator != cuda.emulator || place->gpu >= EMU_GPU_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    return place->pid == (uint32_t)getpid() ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

CUresult ipc_refer(const struct ipc_place *place, uint64_t *ret_bytes)
{
    const struct emu_request request = { .op = EMU_OPEN,
                                         .gpu = place->gpu,
                                         .args = { place->offset, place->serial } };
    struct emu_reply reply = { 0 };
    const int status = link_call(&cuda.link, &request, &reply);

    if (status == CUDA_SUCCESS)
        *ret_bytes = reply.values[0];
    return status < 0 ? CUDA_ERROR_UNKNOWN : (CUresult)status;
}

/* What it means for a process that still has the memory open is undefined; here it keeps it. */
static void report_users(const struct gpu *gpu, const struct range *range, uint64_t count)
{
    struct emu_request request = { .op = EMU_FAULT, .gpu = gpu->server_index };
    struct emu_reply reply = { 0 };

    (void)snprintf(request.text, sizeof(request.text),
                   "frees %llu bytes that %llu other process(es) have open; close them there first",
                   (unsigned long long)range->bytes, (unsigned long long)count);
    (void)link_call(&cuda.link, &request, &reply);
}

void ipc_drop(const struct range *range)
{
    const struct gpu *const gpu = &cuda.gpus[range->gpu];
    struct emu_reply reply = { 0 };
    const CUresult status = cuda_ask(EMU_DROP, gpu, range->offset, &reply);

    if (status == CUDA_SUCCESS && range->context && !range->import && reply.values[0] > 0)
        report_users(gpu, range, reply.values[0]);
}

bool ipc_is_capable(CUdeviceptr address)
{
    const struct range *const range = space_range(address);

    return range && range->context && !range->mapping && !range->chunk && !range->import &&
           !range->managed;
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address)
{
    struct CUctx_st *context = NULL;
    struct ipc_place shared = { 0 };
    struct place place;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    if (!handle || !ipc_is_capable(address) || !space_find(address, &place))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    struct range *const range = space_range(address);
    status = ipc_share(range, &shared);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    shared.start = place.base - range->base;
    shared.bytes = range->block ? EMU_PAGE_BYTES : place.bytes;
    memcpy(handle, &shared, sizeof(shared));
    return cuda_leave(CUDA_SUCCESS);
}

/* Memory of one gpu and process may be opened in one context of a process. */
static bool is_opened_elsewhere(const struct ipc_place *place, const struct CUctx_st *context)
{
    for (uint32_t i = 0; i < cuda.contexts.slot_count; i++) {
        const struct CUctx_st *const other = cuda.contexts.slots[i].object;
        for (const struct range *it = other && other != context ? other->ranges : NULL; it;
             it = it->next) {
            if (it->import && it->import->pid == place->pid && it->import->gpu == place->gpu)
                return true;
        }
    }
    return false;
}

static struct range *find_opened(const struct ipc_place *place, const struct CUctx_st *context)
{
    for (struct range *it = context->ranges; it; it = it->next) {
        if (it->import && it->import->serial == place->serial)
            return it;
    }
    return NULL;
}

/* Addresses for memory that this process refers to already; the reference is the range's then. */
static CUresult map_import(struct CUctx_st *context, const struct ipc_place *place,
                           uint64_t page_count, struct range **ret_range)
{
    struct range *const range = calloc(1, sizeof(*range));
    struct import *const import = calloc(1, sizeof(*import));

    if (!range || !import || space_reserve(page_count, &range->base) < 0) {
        free(range);
        free(import);
        return cuda_count_oom(&cuda.gpus[context->gpu]);
    }
    *import = (struct import){ place->serial, place->gpu, place->pid, 0 };
    range->context = context;
    range->bytes = place->bytes;
    range->page_count = page_count;
    range->offset = place->offset;
    range->id = ++cuda.next_id;
    range->gpu = context->gpu;
    range->import = import;
    range->is_shared = true;
    space_link_range(range);
    space_set(range->base, page_count, range);
    *ret_range = range;
    return CUDA_SUCCESS;
}

/* NULL: *ret_status says why. */
static struct range *import_memory(struct CUctx_st *context, const struct ipc_place *place,
                                   CUresult *ret_status)
{
    struct emu_reply reply = { 0 };
    struct range *range = NULL;
    uint64_t bytes = 0;

    *ret_status = ipc_refer(place, &bytes);
    if (*ret_status != CUDA_SUCCESS)
        return NULL;
    *ret_status = place->start < bytes && place->bytes <= bytes
                      ? map_import(context, place, bytes / EMU_PAGE_BYTES, &range)
                      : CUDA_ERROR_INVALID_VALUE;
    if (*ret_status != CUDA_SUCCESS)
        (void)cuda_ask(EMU_DROP, &cuda.gpus[context->gpu], place->offset, &reply);
    return range;
}

static CUresult open_memory(struct CUctx_st *context, const struct ipc_place *place,
                            CUdeviceptr *ret_address)
{
    const struct gpu *const gpu = device_of_server(place->gpu);
    struct range *range = find_opened(place, context);
    CUresult status = CUDA_SUCCESS;

    if (!gpu)
        return CUDA_ERROR_MAP_FAILED;
    if (gpu != &cuda.gpus[context->gpu])
        return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    if (is_opened_elsewhere(place, context))
        return CUDA_ERROR_INVALID_CONTEXT;
    if (!range)
        range = import_memory(context, place, &status);
    if (!range)
        return status;
    range->import->count++;
    *ret_address = range->base + place->start;
    return CUDA_SUCCESS;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle handle, unsigned int flags)
{
    struct CUctx_st *context = NULL;
    struct ipc_place place;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    memcpy(&place, &handle, sizeof(place));
    if (!address || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    status = ipc_check(&place, IPC_MEMORY);
    if (status == CUDA_SUCCESS)
        status = open_memory(context, &place, address);
    return cuda_leave(status);
}

CUresult cuIpcOpenMemHandle(CUdeviceptr *address, CUipcMemHandle handle, unsigned int flags)
{
    return cuIpcOpenMemHandle_v2(address, handle, flags);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address)
{
    struct CUctx_st *context = NULL;
    const CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    struct range *const range = space_range(address);
    if (!range || !range->import || !range->context)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if (--range->import->count > 0)
        return cuda_leave(CUDA_SUCCESS);
    const struct end end = { .gpu = &cuda.gpus[range->gpu], .offset = range->offset };
    race_check_free(&end, range->page_count * EMU_PAGE_BYTES, "cuIpcCloseMemHandle");
    space_free_range(range);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuIpcGetEventHandle(CUipcEventHandle *handle, CUevent event)
{
    const CUresult status = cuda_enter();
    bool is_event = false;

    if (status != CUDA_SUCCESS)
        return status;
    const bool is_interprocess = event_is_interprocess(event, &is_event);
    if (!is_event || !is_interprocess)
        return cuda_leave(CUDA_ERROR_INVALID_HANDLE);
    if (!handle)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    const struct ipc_place place = { .kind = IPC_EVENT,
                                     .emulator = cuda.emulator,
                                     .serial = (uint64_t)(uintptr_t)event,
                                     .pid = (uint32_t)getpid() };
    memcpy(handle, &place, sizeof(place));
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuIpcOpenEventHandle(CUevent *event, CUipcEventHandle handle)
{
    struct CUctx_st *context = NULL;
    struct ipc_place place;
    CUresult status = cuda_enter_context(&context);

    if (status != CUDA_SUCCESS)
        return status;
    memcpy(&place, &handle, sizeof(place));
    status = event ? ipc_check(&place, IPC_EVENT) : CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        status = event_new(context, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING, event);
    return cuda_leave(status);
}
