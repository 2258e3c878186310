/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copies between contexts, also of two cards: through the host, as where there is no peer access.
 * Both contexts must be living ones; the addresses say the rest.
 */

#include "copy.h"
#include "cuda/context.h"

static CUresult copy_peer(CUcontext to_context, CUcontext from_context,
                          const struct copy_request *request)
{
    const CUresult status = cuda_enter_call(request->call);
    struct copy_request copy = *request;

    if (status != CUDA_SUCCESS)
        return status;
    const bool are_there =
        handle_get(&cuda.contexts, to_context) && handle_get(&cuda.contexts, from_context);
    (void)cuda_leave(CUDA_SUCCESS);
    copy.is_asked = true;
    copy.is_to_device = copy.is_from_device = true;
    return are_there ? copy_run(&copy) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                      CUcontext from_context, size_t bytes)
{
    return copy_peer(
        to_context, from_context,
        &(struct copy_request){
            .to = to, .from = from, .bytes = bytes, .stream = CU_STREAM_LEGACY, .call = __func__ });
}

CUresult cuMemcpyPeer_ptds(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                           CUcontext from_context, size_t bytes)
{
    return copy_peer(to_context, from_context,
                     &(struct copy_request){ .to = to,
                                             .from = from,
                                             .bytes = bytes,
                                             .stream = CU_STREAM_PER_THREAD,
                                             .call = __func__ });
}

CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                           CUcontext from_context, size_t bytes, CUstream stream)
{
    return copy_peer(to_context, from_context,
                     &(struct copy_request){ .to = to,
                                             .from = from,
                                             .bytes = bytes,
                                             .stream = stream,
                                             .is_async = true,
                                             .call = __func__ });
}

CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                                CUcontext from_context, size_t bytes, CUstream stream)
{
    return cuMemcpyPeerAsync(to, to_context, from, from_context, bytes,
                             stream ? stream : CU_STREAM_PER_THREAD);
}
