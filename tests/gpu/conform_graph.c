/* SPDX-License-Identifier: Apache-2.0 */

/* Memory nodes of graphs: when their memory is taken, kept and given back. */

#include <string.h>

#include "conform.h"
#include "cuda/graph.h"

#define BYTES (8 * MIB)

static const CUDA_MEM_ALLOC_NODE_PARAMS on_gpu = {
    .poolProps = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                   .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 } },
    .bytesize = BYTES,
};

static uint64_t attribute(CUgraphMem_attribute which)
{
    uint64_t value = UINT64_MAX;

    conform_status(DRV(cuDeviceGetGraphMemAttribute)(0, which, &value), CUDA_SUCCESS,
                   "cuDeviceGetGraphMemAttribute");
    return value;
}

static CUgraph create(void)
{
    CUgraph graph = NULL;

    conform_status(DRV(cuGraphCreate)(&graph, 0), CUDA_SUCCESS, "cuGraphCreate");
    return graph;
}

static CUgraphNode add_alloc(CUgraph graph, CUdeviceptr *ret_address)
{
    CUDA_MEM_ALLOC_NODE_PARAMS params = on_gpu;
    CUgraphNode node = NULL;

    conform_status(DRV(cuGraphAddMemAllocNode)(&node, graph, NULL, 0, &params), CUDA_SUCCESS,
                   "cuGraphAddMemAllocNode");
    *ret_address = params.dptr;
    return node;
}

static CUgraphExec instantiate(CUgraph graph, unsigned long long flags)
{
    CUgraphExec exec = NULL;

    conform_status(DRV(cuGraphInstantiateWithFlags)(&exec, graph, flags), CUDA_SUCCESS,
                   "cuGraphInstantiate");
    return exec;
}

static void launch(CUgraphExec exec, CUstream stream, const char *what)
{
    conform_status(DRV(cuGraphLaunch)(exec, stream), CUDA_SUCCESS, what);
    conform_status(DRV(cuStreamSynchronize)(stream), CUDA_SUCCESS, "cuStreamSynchronize");
}

static void check_arguments(void)
{
    CUDA_MEM_ALLOC_NODE_PARAMS params = on_gpu, told = { .bytesize = 1 };
    CUgraphNode node = NULL, freed = NULL;
    CUgraphNodeType type = CU_GRAPH_NODE_TYPE_KERNEL;
    CUgraph graph = NULL;
    uint64_t one = 1;
    size_t count = 0;

    conform_status(DRV(cuGraphCreate)(&graph, 1), CUDA_ERROR_INVALID_VALUE,
                   "cuGraphCreate with flags is an invalid value");
    graph = create();
    params.bytesize = 0;
    conform_status(DRV(cuGraphAddMemAllocNode)(&node, graph, NULL, 0, &params),
                   CUDA_ERROR_INVALID_VALUE, "an allocation of 0 bytes is an invalid value");
    params = on_gpu;
    conform_status(DRV(cuGraphAddMemFreeNode)(&node, graph, NULL, 0, 4096),
                   CUDA_ERROR_INVALID_VALUE, "freeing what no node gave is an invalid value");
    conform_status(DRV(cuGraphAddMemAllocNode)(&node, graph, NULL, 0, &params), CUDA_SUCCESS,
                   "cuGraphAddMemAllocNode");
    conform_holds(params.dptr != 0, "it says where the memory will be");
    conform_status(DRV(cuGraphMemAllocNodeGetParams)(node, &told), CUDA_SUCCESS,
                   "cuGraphMemAllocNodeGetParams");
    conform_holds(told.dptr == params.dptr && told.bytesize == BYTES, "and says it again");
    conform_status(DRV(cuGraphAddMemFreeNode)(&freed, graph, &node, 1, params.dptr), CUDA_SUCCESS,
                   "cuGraphAddMemFreeNode");
    conform_status(DRV(cuGraphAddMemFreeNode)(&freed, graph, &node, 1, params.dptr),
                   CUDA_ERROR_INVALID_VALUE, "freeing it twice is an invalid value");
    conform_status(DRV(cuGraphNodeGetType)(node, &type), CUDA_SUCCESS, "cuGraphNodeGetType");
    conform_number(type, CU_GRAPH_NODE_TYPE_MEM_ALLOC, "it is an allocation");
    conform_status(DRV(cuGraphGetNodes)(graph, NULL, &count), CUDA_SUCCESS, "cuGraphGetNodes");
    conform_number(count, 2, "there are two nodes");
    conform_holds(DRV(cuGraphDestroyNode)(node) != CUDA_SUCCESS,
                  "nodes of such a graph can not be destroyed");
    conform_status(DRV(cuDeviceSetGraphMemAttribute)(0, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &one),
                   CUDA_ERROR_INVALID_VALUE, "a high mark set to 1 is an invalid value");
    conform_status(DRV(cuGraphDestroy)(graph), CUDA_SUCCESS, "cuGraphDestroy");
}

/* Allocate, set, copy to the host, free. */
static void check_freed_inside(CUstream stream)
{
    const uint64_t free_before = conform_free_bytes();
    const CUgraph graph = create(); /* NOLINT: the handle is constant */
    CUgraphNode nodes[4] = { NULL };
    CUgraphExec exec = NULL, second = NULL;
    CUdeviceptr address = 0;
    unsigned char *pinned = NULL;

    conform_status(DRV(cuMemAllocHost_v2)((void **)&pinned, 64), CUDA_SUCCESS, "cuMemAllocHost");
    memset(pinned, 0, 64);
    nodes[0] = add_alloc(graph, &address);
    const CUDA_MEMSET_NODE_PARAMS set = {
        .dst = address, .value = 0x6d, .elementSize = 1, .width = BYTES, .height = 1
    };
    const CUDA_MEMCPY3D copy = { .srcMemoryType = CU_MEMORYTYPE_DEVICE,
                                 .srcDevice = address,
                                 .dstMemoryType = CU_MEMORYTYPE_HOST,
                                 .dstHost = pinned,
                                 .WidthInBytes = 64,
                                 .Height = 1,
                                 .Depth = 1 };
    CUcontext context = NULL;
    conform_status(DRV(cuCtxGetCurrent)(&context), CUDA_SUCCESS, "cuCtxGetCurrent");
    conform_status(DRV(cuGraphAddMemsetNode)(&nodes[1], graph, &nodes[0], 1, &set, context),
                   CUDA_SUCCESS, "cuGraphAddMemsetNode");
    conform_status(DRV(cuGraphAddMemcpyNode)(&nodes[2], graph, &nodes[1], 1, &copy, context),
                   CUDA_SUCCESS, "cuGraphAddMemcpyNode");
    conform_status(DRV(cuGraphAddMemFreeNode)(&nodes[3], graph, &nodes[2], 1, address),
                   CUDA_SUCCESS, "cuGraphAddMemFreeNode");
    exec = instantiate(graph, 0);
    conform_holds(DRV(cuGraphInstantiateWithFlags)(&second, graph, 0) != CUDA_SUCCESS,
                  "a second instance of a graph with memory is refused");
    launch(exec, stream, "cuGraphLaunch");
    conform_number(pinned[63], 0x6d, "the nodes did their work");
    conform_number(attribute(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT), 0, "nothing is used");
    conform_holds(attribute(CU_GRAPH_MEM_ATTR_USED_MEM_HIGH) >= BYTES, "the high mark remembers");
    conform_holds(attribute(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) >= BYTES,
                  "the memory is kept for the next launch");
    conform_holds(free_before - conform_free_bytes() >= BYTES, "and is missing on the card");
    launch(exec, stream, "a second launch");
    conform_status(DRV(cuGraphExecDestroy)(exec), CUDA_SUCCESS, "cuGraphExecDestroy");
    conform_status(DRV(cuGraphDestroy)(graph), CUDA_SUCCESS, "cuGraphDestroy");
    conform_status(DRV(cuDeviceGraphMemTrim)(0), CUDA_SUCCESS, "cuDeviceGraphMemTrim");
    conform_number(attribute(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT), 0, "nothing is kept");
    conform_status(DRV(cuMemFreeHost)(pinned), CUDA_SUCCESS, "cuMemFreeHost");
    conform_number(conform_free_bytes(), free_before, "the card has it back");
}

static void check_freed_outside(CUstream stream)
{
    const CUgraph graph = create(); /* NOLINT: the handle is constant */
    CUdeviceptr address = 0;
    unsigned char byte = 0;

    (void)add_alloc(graph, &address);
    const CUgraphExec exec = instantiate(graph, 0); /* NOLINT: the handle is constant */
    launch(exec, stream, "a launch that frees nothing");
    conform_holds(attribute(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) >= BYTES, "its memory is used");
    conform_status(DRV(cuGraphLaunch)(exec, stream), CUDA_ERROR_INVALID_VALUE,
                   "another launch before the free is an invalid value");
    conform_status(DRV(cuMemsetD8Async)(address, 0x2e, BYTES, stream), CUDA_SUCCESS,
                   "a set of its memory");
    conform_status(DRV(cuMemcpyDtoHAsync_v2)(&byte, address + MIB, 1, stream), CUDA_SUCCESS,
                   "and a copy");
    conform_status(DRV(cuMemFreeAsync)(address, stream), CUDA_SUCCESS, "cuMemFreeAsync of it");
    conform_status(DRV(cuStreamSynchronize)(stream), CUDA_SUCCESS, "cuStreamSynchronize");
    conform_number(byte, 0x2e, "the work before the free was done");
    conform_number(attribute(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT), 0, "nothing is used");
    launch(exec, stream, "then it can be launched again");
    conform_status(DRV(cuMemFree_v2)(address), CUDA_SUCCESS, "cuMemFree of its memory");
    conform_status(DRV(cuGraphExecDestroy)(exec), CUDA_SUCCESS, "cuGraphExecDestroy");
    conform_status(DRV(cuGraphDestroy)(graph), CUDA_SUCCESS, "cuGraphDestroy");
    conform_status(DRV(cuDeviceGraphMemTrim)(0), CUDA_SUCCESS, "cuDeviceGraphMemTrim");
}

static void check_auto_free(CUstream stream)
{
    const CUgraph graph = create(); /* NOLINT: the handle is constant */
    CUdeviceptr address = 0;

    (void)add_alloc(graph, &address);
    const CUgraphExec exec = /* NOLINT: the handle is constant */
        instantiate(graph, CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    launch(exec, stream, "a launch of what frees itself");
    launch(exec, stream, "and another");
    conform_status(DRV(cuMemFreeAsync)(address, stream), CUDA_SUCCESS, "cuMemFreeAsync of it");
    conform_status(DRV(cuStreamSynchronize)(stream), CUDA_SUCCESS, "cuStreamSynchronize");
    conform_status(DRV(cuGraphExecDestroy)(exec), CUDA_SUCCESS, "cuGraphExecDestroy");
    conform_status(DRV(cuGraphDestroy)(graph), CUDA_SUCCESS, "cuGraphDestroy");
    conform_status(DRV(cuDeviceGraphMemTrim)(0), CUDA_SUCCESS, "cuDeviceGraphMemTrim");
    conform_number(attribute(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT), 0, "nothing is kept");
}

void conform_graph(void)
{
    CUstream stream = NULL;

    conform_status(DRV(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS,
                   "cuStreamCreate");
    check_arguments();
    check_freed_inside(stream);
    check_freed_outside(stream);
    check_auto_free(stream);
    conform_status(DRV(cuStreamDestroy_v2)(stream), CUDA_SUCCESS, "cuStreamDestroy");
}
