/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_GRAPH_H
#define EMU_GRAPH_H

#include "cuda/graph.h"
#include "stream.h"

/*
 * Graphs, for what their memory nodes cost. A launch does a graph's nodes one after the other in
 * one stream, in an order that their edges allow. Kernels there are none.
 *
 *   struct graph_memory  what an allocation node gives: addresses, fixed from the node on, with
 *                        memory behind them from a launch to a free
 *   struct graph_block   such memory: taken from the card by a launch or an upload, and kept for
 *                        the next one after it is freed, until it is trimmed
 *
 *   graph.c         graphs, nodes, order    cuda_graph.c         entry points that make them
 *   graph_memory.c  addresses and blocks    cuda_graph_launch.c  those that run them
 */

struct graph_block {
    struct graph_block *next; /* of the gpu */
    uint64_t offset;          /* in the gpu's memfd */
    uint64_t page_count;
    bool is_used;
    uint32_t free_slot; /* it is free once this stream has come so far; for that stream at once */
    uint64_t free_position;
};

struct graph_memory {
    struct range range; /* what the addresses lead to, while there is a block */
    uint32_t gpu;
    uint32_t ref_count;        /* nodes, in graphs and instances; and being mapped */
    const struct graph *owner; /* borrowed: only compared; NULL: it is gone */
    bool is_freed_by_owner, is_freed_by_other;
    CUDA_MEM_ALLOC_NODE_PARAMS params;
    struct graph_block *block; /* NULL: no memory behind it */
};

struct graph_node {
    struct graph *graph; /* borrowed; NULL in an instance */
    CUgraphNode handle;
    CUgraphNodeType type;
    struct graph_memory *memory; /* referred to: of allocations and frees */
    union {
        CUDA_MEMCPY3D copy;
        CUDA_MEMSET_NODE_PARAMS set;
        CUDA_HOST_NODE_PARAMS host;
    };
    struct graph_node **after; /* owned array */
    size_t after_count;
    bool is_ordered; /* while an order is made */
};

struct graph {
    CUgraph handle;
    struct graph_node **nodes; /* owned */
    size_t node_count;
    bool has_memory;         /* nodes that allocate or free */
    struct graph_exec *exec; /* borrowed: the one instance that such a graph may have */
};

struct graph_exec {
    CUgraphExec handle;
    struct graph *graph; /* borrowed; NULL once it is gone, or may have others */
    uint64_t flags;
    struct graph_node *nodes; /* owned, in order */
    size_t node_count;
    uint32_t slot; /* where and up to what its last launch goes */
    uint64_t position;
};

/* graph.c. Errors are the driver's; a node's `after` must be nodes of the graph. */
struct graph *graph_get(CUgraph handle);
struct graph_node *graph_get_node(CUgraphNode handle);
struct graph_exec *graph_get_exec(CUgraphExec handle);
CUresult graph_new(struct graph **ret_graph);
void graph_free(struct graph *graph);
/* A node like this one; a reference to its memory becomes the node's. */
CUresult graph_add(struct graph *graph, const struct graph_node *like, const CUgraphNode *after,
                   size_t after_count, struct graph_node **ret_node);
CUresult graph_add_edge(struct graph_node *from, struct graph_node *to);
void graph_remove(struct graph_node *node);
CUresult graph_instantiate(struct graph *graph, uint64_t flags, struct graph_exec **ret_exec);
void graph_exec_free(struct graph_exec *exec);
/* What an allocation node of any graph gives at the address; NULL: none does. */
struct graph_memory *graph_find_given(CUdeviceptr address);

/* graph_memory.c */
CUresult graph_memory_new(const CUDA_MEM_ALLOC_NODE_PARAMS *params,
                          struct graph_memory **ret_memory);
void graph_memory_ref(struct graph_memory *memory);
void graph_memory_unref(struct graph_memory *memory);
/* What starts at an address and has memory behind it; NULL: nothing. */
struct graph_memory *graph_memory_find(CUdeviceptr address);
/* Memory behind the addresses, for a stream; CUDA_ERROR_OUT_OF_MEMORY. */
CUresult graph_memory_map(struct graph_memory *memory, const struct stream *stream);
/* Its block is free for the stream, and for all others once the stream has come so far. */
void graph_memory_release(struct graph_memory *memory, const struct stream *stream);
/* The addresses lead nowhere any more. */
void graph_memory_unmap(struct graph_memory *memory);
/* Both, at a free in a stream or (NULL) at once. */
void graph_memory_free(struct graph_memory *memory, const struct stream *stream, const char *call);
void graph_memory_trim(uint32_t gpu);
/* NULL: no such attribute. */
uint64_t *graph_memory_attribute(uint32_t gpu, CUgraphMem_attribute attribute);

/* cuda_copy2d.c: what a node does, in a stream, asked for already. */
CUresult copy_node_box(const CUDA_MEMCPY3D *copy, CUstream stream);
CUresult copy_node_fill(const CUDA_MEMSET_NODE_PARAMS *set, CUstream stream);

#endif
