/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Entry points that run graphs. A launch first finds memory for all allocations, as their order
 * lets them share it, so that it either has all of it or does nothing; then it queues the work.
 */

#include <string.h>

#include "graph.h"

#define FLAGS_KNOWN                                                                                \
    (CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |                                             \
     CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY | CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH)

static CUresult instantiate(const char *call, CUgraphExec *exec, CUgraph graph, uint64_t flags)
{
    struct graph_exec *made = NULL;
    CUresult status = cuda_enter_call(call);

    if (status != CUDA_SUCCESS)
        return status;
    struct graph *const found = graph_get(graph);
    if (!exec || !found || (flags & ~(uint64_t)FLAGS_KNOWN) != 0)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) != 0)
        return cuda_leave(CUDA_ERROR_NOT_SUPPORTED);
    status = graph_instantiate(found, flags, &made);
    if (status == CUDA_SUCCESS)
        *exec = made->handle;
    return cuda_leave(status);
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, CUgraphNode *error_node, char *log,
                            size_t log_bytes)
{
    const CUresult status = instantiate(__func__, exec, graph, 0);

    if (error_node)
        *error_node = NULL;
    if (log && log_bytes > 0)
        *log = '\0';
    return status;
}

CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph, CUgraphNode *error_node, char *log,
                               size_t log_bytes)
{
    return cuGraphInstantiate(exec, graph, error_node, log, log_bytes);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
    return instantiate(__func__, exec, graph, flags);
}

/* Only this form can upload at once. */
CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph,
                                      CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
    const bool is_upload = params && (params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0;
    CUresult status =
        instantiate(__func__, params ? exec : NULL, graph,
                    params ? params->flags & ~(uint64_t)CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD : 0);

    if (status == CUDA_SUCCESS && is_upload)
        status = cuGraphUpload(*exec, params->hUploadStream);
    if (params) {
        params->hErrNode_out = NULL;
        params->result_out =
            status == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS : CUDA_GRAPH_INSTANTIATE_ERROR;
    }
    return status;
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *exec, CUgraph graph,
                                           CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
    return cuGraphInstantiateWithParams(exec, graph, params);
}

/* The instance, with the lock held; or NULL, with the status to answer and no lock. */
static struct graph_exec *enter_exec_call(const char *call, CUgraphExec handle,
                                          CUresult *ret_status)
{
    *ret_status = cuda_enter_call(call);
    if (*ret_status != CUDA_SUCCESS)
        return NULL;
    struct graph_exec *const exec = graph_get_exec(handle);
    if (!exec)
        *ret_status = cuda_leave(CUDA_ERROR_INVALID_VALUE);
    return exec;
}

CUresult cuGraphExecGetFlags(CUgraphExec exec, uint64_t *flags)
{
    CUresult status = CUDA_SUCCESS;
    const struct graph_exec *const found = enter_exec_call(__func__, exec, &status);

    if (!found)
        return status;
    if (!flags)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *flags = found->flags;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
    CUresult status = CUDA_SUCCESS;
    struct graph_exec *const found = enter_exec_call(__func__, exec, &status);

    if (!found)
        return status;
    graph_exec_free(found);
    return cuda_leave(CUDA_SUCCESS);
}

/* The instance and the stream, with the lock held. */
static CUresult enter_launch(const char *call, CUgraphExec handle, CUstream stream,
                             struct graph_exec **ret_exec, struct stream **ret_stream)
{
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context_call(call, &context);

    if (status != CUDA_SUCCESS)
        return status;
    *ret_exec = graph_get_exec(handle);
    status = *ret_exec ? stream_find(context, stream, ret_stream) : CUDA_ERROR_INVALID_VALUE;
    return status == CUDA_SUCCESS ? status : cuda_leave(status);
}

static bool is_alloc(const struct graph_node *node)
{
    return node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC;
}

static bool is_free(const struct graph_node *node)
{
    return node->type == CU_GRAPH_NODE_TYPE_MEM_FREE;
}

/* What is left from the launch before: freed now if that was agreed, or in the way. */
static CUresult free_left(const struct graph_exec *exec, const struct stream *stream)
{
    for (size_t i = 0; i < exec->node_count; i++) {
        struct graph_memory *const memory = exec->nodes[i].memory;
        if (!is_alloc(&exec->nodes[i]) || !memory->block)
            continue;
        if ((exec->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) == 0)
            return CUDA_ERROR_INVALID_VALUE;
        graph_memory_free(memory, stream, "cuGraphLaunch");
    }
    return CUDA_SUCCESS;
}

/* Before the node at which it failed all is as it was. */
static void take_back(const struct graph_exec *exec, size_t count, const struct stream *stream)
{
    for (size_t i = count; i > 0; i--) {
        struct graph_memory *const memory = exec->nodes[i - 1].memory;
        if (is_free(&exec->nodes[i - 1])) {
            memory->block->is_used = true;
            *graph_memory_attribute(memory->gpu, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) +=
                memory->range.page_count * EMU_PAGE_BYTES;
        } else if (is_alloc(&exec->nodes[i - 1])) {
            graph_memory_release(memory, stream);
            graph_memory_unmap(memory);
        }
    }
}

/* Memory for all of it; what is freed on the way may be taken again, but its addresses still lead
 * to it, for the work that is queued later. */
static CUresult take_memory(const struct graph_exec *exec, const struct stream *stream)
{
    CUresult status = CUDA_SUCCESS;

    for (size_t i = 0; i < exec->node_count && status == CUDA_SUCCESS; i++) {
        struct graph_memory *const memory = exec->nodes[i].memory;
        if (is_alloc(&exec->nodes[i]))
            status = graph_memory_map(memory, stream);
        else if (is_free(&exec->nodes[i]) && !memory->block)
            status = CUDA_ERROR_INVALID_VALUE;
        else if (is_free(&exec->nodes[i])) {
            graph_memory_release(memory, stream);
            memory->block->free_position = UINT64_MAX; /* for others, until all is queued */
        }
        if (status != CUDA_SUCCESS)
            take_back(exec, i, stream);
    }
    return status;
}

static bool has_memory(const struct graph_exec *exec)
{
    for (size_t i = 0; i < exec->node_count; i++) {
        if (is_alloc(&exec->nodes[i]) && exec->nodes[i].memory->block)
            return true;
    }
    return false;
}

/* As a launch takes it, and back: what it needs is there then. */
CUresult cuGraphUpload(CUgraphExec exec, CUstream stream)
{
    struct graph_exec *found = NULL;
    struct stream *where = NULL;
    uint64_t marks[EMU_GPU_MAX] = { 0 };
    CUresult status = enter_launch(__func__, exec, stream, &found, &where);

    if (status != CUDA_SUCCESS || has_memory(found))
        return status == CUDA_SUCCESS ? cuda_leave(status) : status;
    for (uint32_t i = 0; i < cuda.gpu_count; i++)
        marks[i] = *graph_memory_attribute(i, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH);
    status = take_memory(found, where);
    if (status == CUDA_SUCCESS)
        take_back(found, found->node_count, where);
    for (uint32_t i = 0; i < cuda.gpu_count; i++)
        *graph_memory_attribute(i, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH) = marks[i];
    return cuda_leave(status);
}

CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream)
{
    return cuGraphUpload(exec, stream ? stream : CU_STREAM_PER_THREAD);
}

static CUresult call_host(const CUDA_HOST_NODE_PARAMS *host, CUstream handle)
{
    struct work work = { .kind = WORK_CALL, .function = host->fn, .data = host->userData };
    struct stream *stream = NULL;
    struct CUctx_st *context = NULL;
    CUresult status = cuda_enter_context_call(NULL, &context);

    if (status != CUDA_SUCCESS)
        return status;
    status = stream_find(context, handle, &stream);
    if (status == CUDA_SUCCESS && cuda.is_late)
        status = stream_enqueue(stream, &work);
    (void)cuda_leave(status);
    if (status == CUDA_SUCCESS && !cuda.is_late)
        work_do(&work);
    return status;
}

/* Without the lock, as if the program did it; nobody may destroy the instance meanwhile. */
static CUresult do_nodes(const struct graph_exec *exec, CUstream stream)
{
    CUresult status = CUDA_SUCCESS;

    for (size_t i = 0; i < exec->node_count && status == CUDA_SUCCESS; i++) {
        const struct graph_node *const node = &exec->nodes[i];
        if (node->type == CU_GRAPH_NODE_TYPE_MEMCPY)
            status = copy_node_box(&node->copy, stream);
        else if (node->type == CU_GRAPH_NODE_TYPE_MEMSET)
            status = copy_node_fill(&node->set, stream);
        else if (node->type == CU_GRAPH_NODE_TYPE_HOST)
            status = call_host(&node->host, stream);
    }
    return status;
}

/* What was freed is free once the stream has come to here. */
static void end_launch(struct graph_exec *exec, const struct stream *stream)
{
    for (size_t i = 0; i < exec->node_count; i++) {
        struct graph_memory *const memory = exec->nodes[i].memory;
        if (!is_free(&exec->nodes[i]) || !memory->block)
            continue;
        if (!memory->block->is_used)
            memory->block->free_position = stream->enqueued;
        graph_memory_unmap(memory);
    }
    exec->slot = stream->slot;
    exec->position = stream->enqueued;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
    struct graph_exec *found = NULL;
    struct stream *where = NULL;
    CUresult status = enter_launch(__func__, exec, stream, &found, &where);

    if (status != CUDA_SUCCESS)
        return status;
    const struct stream *const before = found->position > 0 ? stream_at(found->slot) : NULL;
    if (before && before != where)
        status = stream_wait(where, found->slot, found->position, &before->after);
    if (status == CUDA_SUCCESS)
        status = free_left(found, where);
    if (status == CUDA_SUCCESS)
        status = take_memory(found, where);
    CUstream handle = where->handle;
    (void)cuda_leave(status);
    if (status != CUDA_SUCCESS)
        return status;
    const CUresult done = do_nodes(found, handle);
    status = cuda_enter_call(NULL);
    if (status != CUDA_SUCCESS)
        return status;
    end_launch(found, where);
    return cuda_leave(done);
}

CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream)
{
    return cuGraphLaunch(exec, stream ? stream : CU_STREAM_PER_THREAD);
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!device_get(device))
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    const uint64_t *const found = graph_memory_attribute((uint32_t)device, attribute);
    if (!found || !value)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    memcpy(value, found, sizeof(*found));
    return cuda_leave(CUDA_SUCCESS);
}

/* High marks can be set to 0, and nothing else to anything. */
CUresult cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value)
{
    const CUresult status = cuda_enter();
    uint64_t wanted = 0;

    if (status != CUDA_SUCCESS)
        return status;
    if (!device_get(device))
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    uint64_t *const found = graph_memory_attribute((uint32_t)device, attribute);
    if (found && value)
        memcpy(&wanted, value, sizeof(wanted));
    if (!found || !value || wanted != 0 ||
        (attribute != CU_GRAPH_MEM_ATTR_USED_MEM_HIGH &&
         attribute != CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *found = 0;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGraphMemTrim(CUdevice device)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!device_get(device))
        return cuda_leave(CUDA_ERROR_INVALID_DEVICE);
    graph_memory_trim((uint32_t)device);
    return cuda_leave(CUDA_SUCCESS);
}
