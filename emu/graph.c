/* SPDX-License-Identifier: Apache-2.0 */

#include "graph.h"

#include <stdlib.h>
#include <string.h>

static struct handles graphs, nodes, execs;

struct graph *graph_get(CUgraph handle)
{
    return handle_get(&graphs, handle);
}

struct graph_node *graph_get_node(CUgraphNode handle)
{
    return handle_get(&nodes, handle);
}

struct graph_exec *graph_get_exec(CUgraphExec handle)
{
    return handle_get(&execs, handle);
}

CUresult graph_new(struct graph **ret_graph)
{
    struct graph *const graph = calloc(1, sizeof(*graph));

    if (graph)
        graph->handle = handle_new(&graphs, graph);
    if (!graph || !graph->handle) {
        free(graph);
        return cuda_count_oom(&cuda.gpus[0]);
    }
    *ret_graph = graph;
    return CUDA_SUCCESS;
}

static void node_free(struct graph_node *node)
{
    handle_free(&nodes, node->handle);
    graph_memory_unref(node->memory);
    free(node->after);
    free(node);
}

struct graph_memory *graph_find_given(CUdeviceptr address)
{
    for (uint32_t i = 0; i < graphs.slot_count; i++) {
        const struct graph *const graph = graphs.slots[i].object;
        for (size_t k = 0; graph && k < graph->node_count; k++) {
            struct graph_memory *const memory = graph->nodes[k]->memory;
            if (memory && memory->params.dptr == address)
                return memory;
        }
    }
    return graph_memory_find(address);
}

void graph_free(struct graph *graph)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        struct graph_memory *const memory = graph->nodes[i]->memory;
        if (memory && memory->owner == graph)
            memory->owner = NULL;
        node_free(graph->nodes[i]);
    }
    if (graph->exec)
        graph->exec->graph = NULL;
    handle_free(&graphs, graph->handle);
    free(graph->nodes);
    free(graph);
}

CUresult graph_add_edge(struct graph_node *from, struct graph_node *to)
{
    struct graph_node **const more =
        realloc(to->after, (to->after_count + 1) * sizeof(struct graph_node *));

    if (!more)
        return cuda_count_oom(&cuda.gpus[0]);
    to->after = more;
    to->after[to->after_count++] = from;
    return CUDA_SUCCESS;
}

static CUresult add_edges(struct graph_node *node, const CUgraphNode *after, size_t after_count)
{
    CUresult status = CUDA_SUCCESS;

    for (size_t i = 0; i < after_count && status == CUDA_SUCCESS; i++) {
        struct graph_node *const from = graph_get_node(after[i]);
        if (!from || from->graph != node->graph)
            return CUDA_ERROR_INVALID_VALUE;
        for (size_t k = 0; k < node->after_count; k++) {
            if (node->after[k] == from)
                return CUDA_ERROR_INVALID_VALUE;
        }
        status = graph_add_edge(from, node);
    }
    return status;
}

CUresult graph_add(struct graph *graph, const struct graph_node *like, const CUgraphNode *after,
                   size_t after_count, struct graph_node **ret_node)
{
    struct graph_node **const more =
        realloc(graph->nodes, (graph->node_count + 1) * sizeof(struct graph_node *));
    struct graph_node *const node = malloc(sizeof(*node));
    CUresult status = CUDA_ERROR_INVALID_VALUE;

    if (more)
        graph->nodes = more;
    if (!more || !node) {
        free(node);
        graph_memory_unref(like->memory);
        return cuda_count_oom(&cuda.gpus[0]);
    }
    *node = *like;
    node->graph = graph;
    node->handle = handle_new(&nodes, node);
    if (!node->handle)
        status = cuda_count_oom(&cuda.gpus[0]);
    else if (after_count == 0 || after)
        status = add_edges(node, after, after_count);
    if (status != CUDA_SUCCESS) {
        node_free(node);
        return status;
    }
    graph->nodes[graph->node_count++] = node;
    graph->has_memory = graph->has_memory || node->memory;
    *ret_node = node;
    return CUDA_SUCCESS;
}

static void forget_edges(struct graph_node *node, const struct graph_node *gone)
{
    size_t kept = 0;

    for (size_t i = 0; i < node->after_count; i++) {
        if (node->after[i] != gone)
            node->after[kept++] = node->after[i];
    }
    node->after_count = kept;
}

void graph_remove(struct graph_node *node)
{
    struct graph *const graph = node->graph;
    size_t kept = 0;

    for (size_t i = 0; i < graph->node_count; i++) {
        forget_edges(graph->nodes[i], node);
        if (graph->nodes[i] != node)
            graph->nodes[kept++] = graph->nodes[i];
    }
    graph->node_count = kept;
    node_free(node);
}

static bool is_ready(const struct graph_node *node)
{
    for (size_t i = 0; i < node->after_count; i++) {
        if (!node->after[i]->is_ordered)
            return false;
    }
    return true;
}

/* Of the nodes that may be next, the one that was added first; false: there is a cycle. */
static bool order_nodes(const struct graph *graph, struct graph_node *ordered)
{
    size_t count = 0;

    for (size_t i = 0; i < graph->node_count; i++)
        graph->nodes[i]->is_ordered = false;
    while (count < graph->node_count) {
        struct graph_node *next = NULL;
        for (size_t i = 0; i < graph->node_count && !next; i++) {
            if (!graph->nodes[i]->is_ordered && is_ready(graph->nodes[i]))
                next = graph->nodes[i];
        }
        if (!next)
            return false;
        next->is_ordered = true;
        ordered[count] = *next;
        ordered[count].after = NULL;
        ordered[count++].after_count = 0;
    }
    return true;
}

/* What the graph frees of its own it has allocated before. */
static bool is_sound(const struct graph *graph, const struct graph_node *ordered)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        bool is_allocated =
            ordered[i].type != CU_GRAPH_NODE_TYPE_MEM_FREE || ordered[i].memory->owner != graph;
        for (size_t k = 0; k < i && !is_allocated; k++)
            is_allocated = ordered[k].type == CU_GRAPH_NODE_TYPE_MEM_ALLOC &&
                           ordered[k].memory == ordered[i].memory;
        if (!is_allocated)
            return false;
    }
    return true;
}

CUresult graph_instantiate(struct graph *graph, uint64_t flags, struct graph_exec **ret_exec)
{
    struct graph_exec *const exec = calloc(1, sizeof(*exec));
    struct graph_node *const ordered = calloc(graph->node_count + 1, sizeof(*ordered));

    if (exec)
        exec->handle = handle_new(&execs, exec);
    if (!exec || !ordered || !exec->handle) {
        free(exec);
        free(ordered);
        return cuda_count_oom(&cuda.gpus[0]);
    }
    if ((graph->has_memory && graph->exec) || !order_nodes(graph, ordered) ||
        !is_sound(graph, ordered)) {
        handle_free(&execs, exec->handle);
        free(exec);
        free(ordered);
        return CUDA_ERROR_INVALID_VALUE;
    }
    exec->flags = flags;
    exec->nodes = ordered;
    exec->node_count = graph->node_count;
    for (size_t i = 0; i < exec->node_count; i++)
        graph_memory_ref(ordered[i].memory);
    if (graph->has_memory) {
        exec->graph = graph;
        graph->exec = exec;
    }
    *ret_exec = exec;
    return CUDA_SUCCESS;
}

void graph_exec_free(struct graph_exec *exec)
{
    for (size_t i = 0; i < exec->node_count; i++)
        graph_memory_unref(exec->nodes[i].memory);
    if (exec->graph)
        exec->graph->exec = NULL;
    handle_free(&execs, exec->handle);
    free(exec->nodes);
    free(exec);
}
