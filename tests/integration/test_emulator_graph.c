/* SPDX-License-Identifier: Apache-2.0 */

/* Graphs with memory: what launches take from the card, share and keep, and their order. */

#include "cuda/graph.h"
#include "emulated_cuda.h"

#define MIB ((uint64_t)1 << 20)

static CUgraphNode add_alloc(CUgraph graph, CUgraphNode after, uint64_t bytes,
                             CUdeviceptr *ret_address)
{
    CUDA_MEM_ALLOC_NODE_PARAMS params = {
        .poolProps = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                       .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 } },
        .bytesize = bytes,
    };
    CUgraphNode node = NULL;

    CHECK_CU(CU(cuGraphAddMemAllocNode)(&node, graph, &after, after ? 1 : 0, &params));
    *ret_address = params.dptr;
    return node;
}

static CUgraphNode add_free(CUgraph graph, CUgraphNode after, CUdeviceptr address)
{
    CUgraphNodeParams params = { .type = CU_GRAPH_NODE_TYPE_MEM_FREE, .free = { .dptr = address } };
    CUgraphNode node = NULL;

    CHECK_CU(CU(cuGraphAddNode_v2)(&node, graph, &after, NULL, 1, &params));
    return node;
}

static CUgraphNode add_set(CUgraph graph, CUgraphNode after, CUdeviceptr address, size_t bytes)
{
    const CUDA_MEMSET_NODE_PARAMS set = {
        .dst = address, .value = 0x77, .elementSize = 1, .width = bytes, .height = 1
    };
    CUgraphNode node = NULL;

    CHECK_CU(CU(cuGraphAddMemsetNode)(&node, graph, &after, 1, &set, NULL));
    return node;
}

static CUgraphExec instantiate(CUgraph graph)
{
    CUgraphExec exec = NULL;

    CHECK_CU(CU(cuGraphInstantiateWithFlags)(&exec, graph, 0));
    return exec;
}

static uint64_t reserved(void)
{
    uint64_t bytes = 0;

    CHECK_CU(CU(cuDeviceGetGraphMemAttribute)(0, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &bytes));
    return bytes;
}

static void test_allocations_one_after_the_other_share_their_memory(void)
{
    CUgraph graph = NULL;
    CUgraphNode node = NULL;
    CUdeviceptr addresses[4];

    (void)emulated_context();
    CHECK_CU(CU(cuGraphCreate)(&graph, 0));
    for (int i = 0; i < 4; i++) { /* 1.2 GB in all, on a card of 1 GiB */
        node = add_alloc(graph, node, 300 * MIB, &addresses[i]);
        node = add_set(graph, node, addresses[i] + MIB, 64);
        node = add_free(graph, node, addresses[i]);
        CHECK(i == 0 || addresses[i] != addresses[i - 1]);
    }
    CUgraphExec exec = instantiate(graph);
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuGraphUpload)(exec, NULL));
    CHECK_EQ_U64(reserved(), 300 * MIB);
    for (int i = 0; i < 3; i++)
        CHECK_CU(CU(cuGraphLaunch)(exec, NULL));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES + 300 * MIB);
    CHECK_CU(CU(cuDeviceGraphMemTrim)(0)); /* nothing has run yet */
    CHECK_EQ_U64(reserved(), 300 * MIB);
    CHECK_CU(CU(cuCtxSynchronize)());
    CHECK_CU(CU(cuDeviceGraphMemTrim)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuGraphDestroy)(graph)); /* the instance has what it needs */
    CHECK_CU(CU(cuGraphLaunch)(exec, NULL));
    CHECK_CU(CU(cuCtxSynchronize)());
    CHECK_CU(CU(cuGraphExecDestroy)(exec));
    CHECK_CU(CU(cuDeviceGraphMemTrim)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_EQ_U64(emulated_stats().async_faults, 0);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_a_launch_without_room_does_nothing(void)
{
    CUgraph graph = NULL;
    CUdeviceptr first = 0, second = 0;
    unsigned char byte = 0;

    (void)emulated_context();
    const CUdeviceptr other = emulated_alloc(500 * MIB);
    CHECK_CU(CU(cuGraphCreate)(&graph, 0));
    CUgraphNode node = add_alloc(graph, NULL, 300 * MIB, &first);
    node = add_set(graph, node, first, 64);
    (void)add_alloc(graph, node, 300 * MIB, &second);
    CUgraphExec exec = instantiate(graph);
    CHECK_CU_IS(CU(cuGraphLaunch)(exec, NULL), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_CU_IS(CU(cuMemcpyDtoH_v2)(&byte, first, 1), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(CU(cuMemFree_v2)(other));
    CHECK_CU(CU(cuGraphLaunch)(exec, NULL));
    CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, first + 63, 1));
    CHECK(byte == 0x77);
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES + 600 * MIB);
    CHECK_CU_IS(CU(cuGraphLaunch)(exec, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(CU(cuGraphExecDestroy)(exec));
    CHECK_CU(CU(cuGraphDestroy)(graph));
    CHECK_CU(CU(cuMemcpyDtoH_v2)(&byte, first + 63, 1)); /* it outlives both */
    CHECK_CU(CU(cuMemFree_v2)(first));
    CHECK_CU_IS(CU(cuMemFree_v2)(first), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(CU(cuMemFreeAsync)(second, NULL));
    CHECK_CU(CU(cuCtxSynchronize)());
    CHECK_CU(CU(cuDeviceGraphMemTrim)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_EQ_U64(emulated_stats().oom_count, 1);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_one_graph_frees_what_another_has_allocated(void)
{
    CUgraph giver = NULL, taker = NULL;
    CUgraphNode node = NULL;
    CUdeviceptr address = 0;

    (void)emulated_context();
    CHECK_CU(CU(cuGraphCreate)(&giver, 0));
    CHECK_CU(CU(cuGraphCreate)(&taker, 0));
    CUgraphNode allocation = add_alloc(giver, NULL, 10 * MIB, &address);
    CHECK_CU(CU(cuGraphAddMemFreeNode)(&node, taker, NULL, 0, address));
    CHECK_CU_IS(CU(cuGraphAddMemFreeNode)(&node, giver, &allocation, 1, address),
                CUDA_ERROR_INVALID_VALUE);
    CUgraphExec give = instantiate(giver), take = instantiate(taker);
    CHECK_CU_IS(CU(cuGraphLaunch)(take, NULL), CUDA_ERROR_INVALID_VALUE); /* not there yet */
    for (int i = 0; i < 2; i++) {
        CHECK_CU(CU(cuGraphLaunch)(give, NULL));
        CHECK_CU(CU(cuGraphLaunch)(take, NULL));
    }
    CHECK_EQ_U64(reserved(), 10 * MIB);
    CHECK_CU(CU(cuCtxSynchronize)());
    CHECK_CU(CU(cuGraphExecDestroy)(give));
    CHECK_CU(CU(cuGraphExecDestroy)(take));
    CHECK_CU(CU(cuGraphDestroy)(giver));
    CHECK_CU(CU(cuGraphDestroy)(taker));
    CHECK_CU(CU(cuDeviceGraphMemTrim)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static char said[8];

static void say_first(void *count)
{
    said[(*(size_t *)count)++] = '1';
}

static void say_second(void *count)
{
    said[(*(size_t *)count)++] = '2';
}

static void test_nodes_are_done_in_the_order_of_their_edges(void)
{
    static size_t count;
    CUgraph graph = NULL;
    CUgraphNode first = NULL, second = NULL, nothing = NULL;
    const CUDA_HOST_NODE_PARAMS says_first = { say_first, &count };
    const CUDA_HOST_NODE_PARAMS says_second = { say_second, &count };

    (void)emulated_context();
    CHECK_CU(CU(cuGraphCreate)(&graph, 0));
    CHECK_CU(CU(cuGraphAddHostNode)(&second, graph, NULL, 0, &says_second));
    CHECK_CU(CU(cuGraphAddHostNode)(&first, graph, NULL, 0, &says_first));
    CHECK_CU(CU(cuGraphAddEmptyNode)(&nothing, graph, &first, 1));
    CHECK_CU(CU(cuGraphAddDependencies)(graph, &nothing, &second, 1));
    CUgraphExec exec = instantiate(graph), again = instantiate(graph);
    CHECK_CU(CU(cuGraphLaunch)(exec, NULL));
    CHECK(count == 0); /* late */
    CHECK_CU(CU(cuCtxSynchronize)());
    CHECK(strcmp(said, "12") == 0);
    CHECK_CU(CU(cuGraphExecDestroy)(exec));
    CHECK_CU(CU(cuGraphExecDestroy)(again));
    CHECK_CU(CU(cuGraphDestroy)(graph));
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_what_is_no_graph_is_refused(void)
{
    CUgraph graph = NULL;
    CUgraphNode first = NULL, second = NULL;
    CUgraphExec exec = NULL;

    (void)emulated_context();
    CHECK_CU(CU(cuGraphCreate)(&graph, 0));
    CHECK_CU(CU(cuGraphAddEmptyNode)(&first, graph, NULL, 0));
    CHECK_CU(CU(cuGraphAddEmptyNode)(&second, graph, &first, 1));
    CHECK_CU(CU(cuGraphAddDependencies)(graph, &second, &first, 1)); /* a circle */
    CHECK_CU_IS(CU(cuGraphInstantiateWithFlags)(&exec, graph, 0), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU_IS(CU(cuGraphAddKernelNode_v2)(&second, graph, NULL, 0, NULL),
                CUDA_ERROR_NOT_SUPPORTED);
    CHECK_CU(CU(cuGraphDestroyNode)(second));
    CHECK_CU_IS(CU(cuGraphDestroyNode)(second), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(CU(cuGraphInstantiateWithFlags)(&exec, graph, 0));
    CHECK_CU(CU(cuGraphExecDestroy)(exec));
    CHECK_CU_IS(CU(cuGraphLaunch)(exec, NULL), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(CU(cuGraphDestroy)(graph));
    CHECK_CU_IS(CU(cuGraphDestroy)(graph), CUDA_ERROR_INVALID_VALUE);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

static void test_launches_of_one_instance_follow_each_other(void)
{
    CUgraph graph = NULL;
    CUdeviceptr address = 0;
    CUstream streams[2];

    (void)emulated_context();
    CHECK_CU(CU(cuGraphCreate)(&graph, 0));
    CUgraphNode node = add_alloc(graph, NULL, 300 * MIB, &address);
    node = add_set(graph, node, address, 64);
    (void)add_free(graph, node, address);
    CUgraphExec exec = instantiate(graph);
    for (int i = 0; i < 2; i++)
        CHECK_CU(CU(cuStreamCreate)(&streams[i], CU_STREAM_NON_BLOCKING));
    for (int i = 0; i < 4; i++)
        CHECK_CU(CU(cuGraphLaunch)(exec, streams[i % 2]));
    CHECK(reserved() <= 600 * MIB);
    CHECK_CU(CU(cuStreamSynchronize)(streams[1]));
    CHECK_CU(CU(cuStreamQuery)(streams[0])); /* the last one comes after all of them */
    CHECK_EQ_U64(emulated_stats().async_faults, 0);
    for (int i = 0; i < 2; i++)
        CHECK_CU(CU(cuStreamDestroy_v2)(streams[i]));
    CHECK_CU(CU(cuGraphExecDestroy)(exec));
    CHECK_CU(CU(cuGraphDestroy)(graph));
    CHECK_CU(CU(cuDeviceGraphMemTrim)(0));
    CHECK_EQ_U64(emulated_stats().used_bytes, EMULATED_CONTEXT_BYTES);
    CHECK_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        TEST(test_allocations_one_after_the_other_share_their_memory),
        TEST(test_a_launch_without_room_does_nothing),
        TEST(test_one_graph_frees_what_another_has_allocated),
        TEST(test_nodes_are_done_in_the_order_of_their_edges),
        TEST(test_what_is_no_graph_is_refused),
        TEST(test_launches_of_one_instance_follow_each_other),
    };

    (void)argc;
    emulated_become(argv, (const char *const[]){ EMULATED_CARD, NULL });
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
