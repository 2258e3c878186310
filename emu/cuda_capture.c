/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Streams are never being captured: cuStreamBeginCapture is refused. Programs ask all the same, and
 * profilers are told to start and stop where nothing listens.
 */

#include "cuda/capture.h"
#include "stream.h"

static __thread unsigned int mode; /* kept for its thread, without a use */

static CUresult answer(const char *call, CUstream stream, unsigned int *status)
{
    struct CUctx_st *context = NULL;
    struct stream *found = NULL;
    CUresult result = cuda_enter_context_call(call, &context);

    if (result != CUDA_SUCCESS)
        return result;
    result = stream_find(context, stream, &found);
    if (result == CUDA_SUCCESS && !status)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return cuda_leave(result);
}

CUresult cuThreadExchangeStreamCaptureMode(unsigned int *inout_mode)
{
    const CUresult status = cuda_enter();

    if (status != CUDA_SUCCESS)
        return status;
    if (!inout_mode || *inout_mode > CU_STREAM_CAPTURE_MODE_MAX)
        return cuda_leave(CUDA_ERROR_INVALID_VALUE);
    const unsigned int before = mode;
    mode = *inout_mode;
    *inout_mode = before;
    return cuda_leave(CUDA_SUCCESS);
}

static CUresult do_nothing(const char *call)
{
    struct CUctx_st *context = NULL;
    const CUresult status = cuda_enter_context_call(call, &context);

    return status == CUDA_SUCCESS ? cuda_leave(CUDA_SUCCESS) : status;
}

CUresult cuProfilerStart(void)
{
    return do_nothing(__func__);
}

CUresult cuProfilerStop(void)
{
    return do_nothing(__func__);
}

/* What an information beside the status would be is not touched. */
#define INFO(name, suffix, stream_of)                                                              \
    CUresult name##suffix(CUstream stream, unsigned int *status, ...)                              \
    {                                                                                              \
        return answer(#name, stream_of, status);                                                   \
    }
#define OWN(stream) ((stream) ? (stream) : CU_STREAM_PER_THREAD)

INFO(cuStreamGetCaptureInfo, , stream)
INFO(cuStreamGetCaptureInfo, _ptsz, OWN(stream))
INFO(cuStreamGetCaptureInfo_v2, , stream)
INFO(cuStreamGetCaptureInfo_v2, _ptsz, OWN(stream))
INFO(cuStreamGetCaptureInfo_v3, , stream)
INFO(cuStreamGetCaptureInfo_v3, _ptsz, OWN(stream))

CUresult cuStreamIsCapturing(CUstream stream, unsigned int *status)
{
    return answer(__func__, stream, status);
}

CUresult cuStreamIsCapturing_ptsz(CUstream stream, unsigned int *status)
{
    return cuStreamIsCapturing(OWN(stream), status);
}
