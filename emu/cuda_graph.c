/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Entry points that make graphs. A node of one kind has two: its own, and cuGraphAddNode.
 */

#include <string.h>

#include "graph.h"

/* A node as a call names it. */
struct wanted {
    CUgraphNode *node;
    CUgraph graph;
    const CUgraphNode *after;
    size_t after_count;
};

CUresult cuGraphCreate(CUgraph *graph, unsigned int flags)
{
    struct graph *made = NULL;
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    status = graph && flags == 0 ? graph_new(&made) : CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        *graph = made->handle;
    return cuda_leave(status);
}

CUresult cuGraphDestroy(CUgraph graph)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct graph *const found = graph_get(graph);
    if (!found)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    graph_free(found);
    return cuda_leave(CUDA_SUCCESS);
}

/* With the lock; like->memory's reference is the node's. */
static CUresult add_node(const struct wanted *wanted, const struct graph_node *like)
{
    struct graph *const graph = graph_get(wanted->graph);
    struct graph_node *made = NULL;

    if (!wanted->node || !graph) {
        graph_memory_unref(like->memory);
        return CUDA_ERROR_INVALID_VALUE;
    }
    const CUresult status = graph_add(graph, like, wanted->after, wanted->after_count, &made);
    if (status == CUDA_SUCCESS)
        *wanted->node = made->handle;
    return status;
}

static CUresult add_plain(const char *call, const struct wanted *wanted,
                          const struct graph_node *like, bool is_valid)
{
    const CUresult status = cuda_enter_call(call);

    if (status != CUDA_SUCCESS)
        return status;
    return cuda_leave(is_valid ? add_node(wanted, like) : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuGraphAddEmptyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                             size_t after_count)
{
    return add_plain(__func__, &(struct wanted){ node, graph, after, after_count },
                     &(struct graph_node){ .type = CU_GRAPH_NODE_TYPE_EMPTY }, true);
}

CUresult cuGraphAddMemcpyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                              size_t after_count, const CUDA_MEMCPY3D *copy, CUcontext context)
{
    struct graph_node like = { .type = CU_GRAPH_NODE_TYPE_MEMCPY };

    (void)context;
    if (copy)
        like.copy = *copy;
    return add_plain(__func__, &(struct wanted){ node, graph, after, after_count }, &like,
                     copy != NULL);
}

static bool is_set(const CUDA_MEMSET_NODE_PARAMS *set)
{
    return (set->elementSize == 1 || set->elementSize == 2 || set->elementSize == 4) &&
           set->width > 0 && set->height > 0;
}

CUresult cuGraphAddMemsetNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                              size_t after_count, const CUDA_MEMSET_NODE_PARAMS *set,
                              CUcontext context)
{
    struct graph_node like = { .type = CU_GRAPH_NODE_TYPE_MEMSET };

    (void)context;
    if (set)
        like.set = *set;
    return add_plain(__func__, &(struct wanted){ node, graph, after, after_count }, &like,
                     set && is_set(set));
}

CUresult cuGraphAddHostNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                            size_t after_count, const CUDA_HOST_NODE_PARAMS *host)
{
    struct graph_node like = { .type = CU_GRAPH_NODE_TYPE_HOST };

    if (host)
        like.host = *host;
    return add_plain(__func__, &(struct wanted){ node, graph, after, after_count }, &like,
                     host && host->fn);
}

static CUresult check_alloc(const CUDA_MEM_ALLOC_NODE_PARAMS *alloc)
{
    const CUmemPoolProps *const pool = &alloc->poolProps;

    if (alloc->bytesize == 0 || pool->allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
        pool->handleTypes != CU_MEM_HANDLE_TYPE_NONE ||
        (alloc->accessDescCount > 0 && !alloc->accessDescs) ||
        alloc->accessDescCount > cuda.gpu_count)
        return CUDA_ERROR_INVALID_VALUE;
    if (pool->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (!device_get(pool->location.id))
        return CUDA_ERROR_INVALID_DEVICE;
    for (size_t i = 0; i < alloc->accessDescCount; i++) { /* there is no peer access */
        if (alloc->accessDescs[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
            alloc->accessDescs[i].location.id != pool->location.id)
            return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                                size_t after_count, CUDA_MEM_ALLOC_NODE_PARAMS *alloc)
{
    const struct wanted wanted = { node, graph, after, after_count };
    struct graph_memory *memory = NULL;
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    status = alloc && graph_get(graph) ? check_alloc(alloc) : CUDA_ERROR_INVALID_VALUE;
    if (status == CUDA_SUCCESS)
        status = graph_memory_new(alloc, &memory);
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    memory->owner = graph_get(graph);
    const CUdeviceptr address = memory->params.dptr;
    status = add_node(
        &wanted, &(struct graph_node){ .type = CU_GRAPH_NODE_TYPE_MEM_ALLOC, .memory = memory });
    if (status == CUDA_SUCCESS)
        alloc->dptr = address;
    return cuda_leave(status);
}

static CUresult mark_freed(struct graph_memory *memory, const struct graph *graph)
{
    const bool is_owner = memory->owner == graph;

    if (is_owner ? memory->is_freed_by_owner || memory->is_freed_by_other
                 : memory->is_freed_by_owner)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->type == CU_GRAPH_NODE_TYPE_MEM_FREE &&
            graph->nodes[i]->memory == memory)
            return CUDA_ERROR_INVALID_VALUE;
    }
    memory->is_freed_by_owner = memory->is_freed_by_owner || is_owner;
    memory->is_freed_by_other = memory->is_freed_by_other || !is_owner;
    return CUDA_SUCCESS;
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                               size_t after_count, CUdeviceptr address)
{
    const struct wanted wanted = { node, graph, after, after_count };
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    const struct graph *const found = graph_get(graph);
    struct graph_memory *const memory = found ? graph_find_given(address) : NULL;
    status = memory ? mark_freed(memory, found) : CUDA_ERROR_INVALID_VALUE;
    if (status != CUDA_SUCCESS)
        return cuda_leave(status);
    graph_memory_ref(memory);
    status = add_node(
        &wanted, &(struct graph_node){ .type = CU_GRAPH_NODE_TYPE_MEM_FREE, .memory = memory });
    return cuda_leave(status);
}

/* There are no kernels. */
CUresult cuGraphAddKernelNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                              size_t after_count, const void *kernel)
{
    const CUresult status = cuda_enter();

    (void)node;
    (void)graph;
    (void)after;
    (void)after_count;
    (void)kernel;
    return status == CUDA_SUCCESS ? cuda_leave(CUDA_ERROR_NOT_SUPPORTED) : status;
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                                 size_t after_count, const void *kernel)
{
    return cuGraphAddKernelNode(node, graph, after, after_count, kernel);
}

/* Whether the call may go on, which does its work by others. */
static CUresult ask(const char *call)
{
    const CUresult status = cuda_enter_call(call);

    return status == CUDA_SUCCESS ? cuda_leave(status) : status;
}

CUresult cuGraphAddNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                        size_t after_count, CUgraphNodeParams *params)
{
    CUDA_MEMSET_NODE_PARAMS set = { 0 };
    const CUresult status = ask(__func__);

    if (status != CUDA_SUCCESS || !params)
        return status == CUDA_SUCCESS ? CUDA_ERROR_INVALID_VALUE : status;
    switch ((int)params->type) {
    case CU_GRAPH_NODE_TYPE_EMPTY:
        return cuGraphAddEmptyNode(node, graph, after, after_count);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
        return cuGraphAddMemcpyNode(node, graph, after, after_count, &params->memcpy.copyParams,
                                    params->memcpy.copyCtx);
    case CU_GRAPH_NODE_TYPE_MEMSET:
        set = (CUDA_MEMSET_NODE_PARAMS){ params->memset.dst,   params->memset.pitch,
                                         params->memset.value, params->memset.elementSize,
                                         params->memset.width, params->memset.height };
        return cuGraphAddMemsetNode(node, graph, after, after_count, &set, params->memset.ctx);
    case CU_GRAPH_NODE_TYPE_HOST:
        return cuGraphAddHostNode(node, graph, after, after_count, &params->host);
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
        return cuGraphAddMemAllocNode(node, graph, after, after_count, &params->alloc);
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
        return cuGraphAddMemFreeNode(node, graph, after, after_count, params->free.dptr);
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

/* Only kernels have edges of other kinds. */
static bool are_plain(const CUgraphEdgeData *edges, size_t count)
{
    for (size_t i = 0; edges && i < count; i++) {
        if (edges[i].from_port != 0 || edges[i].to_port != 0 || edges[i].type != 0)
            return false;
    }
    return true;
}

CUresult cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                           const CUgraphEdgeData *edges, size_t after_count,
                           CUgraphNodeParams *params)
{
    if (are_plain(edges, after_count))
        return cuGraphAddNode(node, graph, after, after_count, params);
    const CUresult status = ask(__func__);
    return status == CUDA_SUCCESS ? CUDA_ERROR_INVALID_VALUE : status;
}

CUresult cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
                                size_t count)
{
    CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    struct graph *const found = graph_get(graph);
    if (!found || (count > 0 && (!from || !to)))
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    for (size_t i = 0; i < count && status == CUDA_SUCCESS; i++) {
        struct graph_node *const first = graph_get_node(from[i]);
        struct graph_node *const second = graph_get_node(to[i]);
        status =
            first && second && first != second && first->graph == found && second->graph == found
                ? graph_add_edge(first, second)
                : CUDA_ERROR_INVALID_VALUE;
    }
    return cuda_leave(status);
}

CUresult cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
                                   const CUgraphEdgeData *edges, size_t count)
{
    if (are_plain(edges, count))
        return cuGraphAddDependencies(graph, from, to, count);
    const CUresult status = ask(__func__);
    return status == CUDA_SUCCESS ? CUDA_ERROR_INVALID_VALUE : status;
}

/* The node, with the lock held; or NULL, with the status to answer and no lock. */
static struct graph_node *enter_node_call(const char *call, CUgraphNode handle,
                                          CUresult *ret_status)
{
    *ret_status = cuda_enter_call(call);
    if (*ret_status != CUDA_SUCCESS)
        return NULL;
    struct graph_node *const node = graph_get_node(handle);
    if (!node)
        *ret_status = cuda_leave(CUDA_ERROR_INVALID_VALUE);
    return node;
}

CUresult cuGraphDestroyNode(CUgraphNode node)
{
    CUresult status = CUDA_SUCCESS;
    struct graph_node *const found = enter_node_call(__func__, node, &status);

    if (!found)
        return status;
    if (found->graph->has_memory)
        return cuda_leave(CUDA_ERROR_NOT_SUPPORTED);
    graph_remove(found);
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type)
{
    CUresult status = CUDA_SUCCESS;
    const struct graph_node *const found = enter_node_call(__func__, node, &status);

    if (!found)
        return status;
    if (!type)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *type = found->type;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *list, size_t *count)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    const struct graph *const found = graph_get(graph);
    if (!found || !count)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    for (size_t i = 0; list && i < *count; i++)
        list[i] = i < found->node_count ? found->nodes[i]->handle : NULL;
    if (!list || *count > found->node_count)
        *count = found->node_count;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *alloc)
{
    CUresult status = CUDA_SUCCESS;
    const struct graph_node *const found = enter_node_call(__func__, node, &status);

    if (!found)
        return status;
    if (!alloc || found->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *alloc = found->memory->params;
    return cuda_leave(CUDA_SUCCESS);
}

CUresult cuGraphMemFreeNodeGetParams(CUgraphNode node, CUdeviceptr *address)
{
    CUresult status = CUDA_SUCCESS;
    const struct graph_node *const found = enter_node_call(__func__, node, &status);

    if (!found)
        return status;
    if (!address || found->type != CU_GRAPH_NODE_TYPE_MEM_FREE)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    *address = found->memory->params.dptr;
    return cuda_leave(CUDA_SUCCESS);
}

/* A copy without its memory nodes would be another graph, and with them it is forbidden. */
CUresult cuGraphClone(CUgraph *clone, CUgraph graph)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    return cuda_leave(clone && graph_get(graph) ? CUDA_ERROR_NOT_SUPPORTED
                                                : CUDA_ERROR_INVALID_VALUE);
}
