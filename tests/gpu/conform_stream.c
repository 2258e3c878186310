/* SPDX-License-Identifier: Apache-2.0 */

/* Streams and events: what they are made with, what they tell, and what may not be mixed. */

#include "conform.h"
#include "cuda/context.h"

static void check_streams(void)
{
    CUcontext context = NULL, current = NULL;
    CUstream stream = NULL;
    CUdevice device = 77;
    unsigned int flags = 77;
    int least = 77, greatest = 77, priority = 77;

    conform_status(DRV(cuStreamCreate)(NULL, 0), CUDA_ERROR_INVALID_VALUE,
                   "cuStreamCreate without a place is an invalid value");
    conform_status(DRV(cuStreamCreate)(&stream, 6), CUDA_ERROR_INVALID_VALUE,
                   "cuStreamCreate with unknown flags is an invalid value");
    conform_status(DRV(cuCtxGetStreamPriorityRange)(&least, &greatest), CUDA_SUCCESS,
                   "cuCtxGetStreamPriorityRange");
    conform_holds(greatest <= least, "the greatest priority is the least number");
    conform_status(DRV(cuStreamCreateWithPriority)(&stream, CU_STREAM_NON_BLOCKING, greatest - 100),
                   CUDA_SUCCESS, "cuStreamCreateWithPriority beyond the greatest");
    conform_status(DRV(cuStreamGetPriority)(stream, &priority), CUDA_SUCCESS,
                   "cuStreamGetPriority");
    conform_number((uint64_t)(int64_t)priority, (uint64_t)(int64_t)greatest,
                   "a priority out of range is the nearest one");
    conform_status(DRV(cuStreamGetFlags)(stream, &flags), CUDA_SUCCESS, "cuStreamGetFlags");
    conform_number(flags, CU_STREAM_NON_BLOCKING, "the stream's flags");
    conform_status(DRV(cuStreamGetCtx)(stream, &context), CUDA_SUCCESS, "cuStreamGetCtx");
    conform_status(DRV(cuCtxGetCurrent)(&current), CUDA_SUCCESS, "cuCtxGetCurrent");
    conform_holds(context == current, "a stream belongs to the context that it was created in");
    if (conform_has("cuStreamGetDevice")) {
        conform_status(DRV(cuStreamGetDevice)(stream, &device), CUDA_SUCCESS, "cuStreamGetDevice");
        conform_number((uint64_t)device, 0, "the stream's device");
    }
    conform_status(DRV(cuStreamQuery)(stream), CUDA_SUCCESS, "an empty stream is done");
    conform_status(DRV(cuStreamSynchronize)(stream), CUDA_SUCCESS, "cuStreamSynchronize");
    conform_status(DRV(cuStreamDestroy_v2)(stream), CUDA_SUCCESS, "cuStreamDestroy");
}

static void check_events(void)
{
    CUevent first = NULL, second = NULL, untimed = NULL;
    float ms = -1;

    conform_status(DRV(cuEventCreate)(NULL, 0), CUDA_ERROR_INVALID_VALUE,
                   "cuEventCreate without a place is an invalid value");
    conform_status(DRV(cuEventCreate)(&first, CU_EVENT_INTERPROCESS), CUDA_ERROR_INVALID_VALUE,
                   "an event for other processes that is timed is an invalid value");
    conform_status(DRV(cuEventCreate)(&first, 0), CUDA_SUCCESS, "cuEventCreate");
    conform_status(DRV(cuEventCreate)(&second, CU_EVENT_BLOCKING_SYNC), CUDA_SUCCESS,
                   "cuEventCreate");
    conform_status(DRV(cuEventCreate)(&untimed, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS,
                   "cuEventCreate");
    conform_status(DRV(cuEventQuery)(first), CUDA_SUCCESS,
                   "an event that was not recorded is of no work");
    conform_status(DRV(cuEventElapsedTime)(&ms, first, second), CUDA_ERROR_INVALID_HANDLE,
                   "the time of events that were not recorded is an invalid handle");
    conform_status(DRV(cuEventRecord)(first, NULL), CUDA_SUCCESS, "cuEventRecord");
    conform_status(DRV(cuEventRecord)(second, NULL), CUDA_SUCCESS, "cuEventRecord");
    conform_status(DRV(cuEventRecord)(untimed, NULL), CUDA_SUCCESS, "cuEventRecord");
    conform_status(DRV(cuEventSynchronize)(second), CUDA_SUCCESS, "cuEventSynchronize");
    conform_status(DRV(cuEventQuery)(second), CUDA_SUCCESS, "it has passed");
    conform_status(DRV(cuEventElapsedTime)(&ms, first, second), CUDA_SUCCESS, "cuEventElapsedTime");
    conform_holds(ms >= 0, "time does not run back");
    conform_status(DRV(cuEventElapsedTime)(&ms, first, untimed), CUDA_ERROR_INVALID_HANDLE,
                   "the time of an event without timing is an invalid handle");
    conform_status(DRV(cuStreamWaitEvent)(NULL, NULL, 0), CUDA_ERROR_INVALID_HANDLE,
                   "waiting for no event is an invalid handle");
    conform_status(DRV(cuEventDestroy_v2)(first), CUDA_SUCCESS, "cuEventDestroy");
    conform_status(DRV(cuEventDestroy_v2)(second), CUDA_SUCCESS, "cuEventDestroy");
    conform_status(DRV(cuEventDestroy_v2)(untimed), CUDA_SUCCESS, "cuEventDestroy");
}

static void check_mixture(void)
{
    CUcontext other = NULL;
    CUstream stream = NULL;
    CUevent event = NULL;

    conform_status(DRV(cuEventCreate)(&event, 0), CUDA_SUCCESS, "cuEventCreate");
    conform_status(DRV(cuCtxCreate_v2)(&other, 0, 0), CUDA_SUCCESS, "cuCtxCreate");
    conform_status(DRV(cuStreamCreate)(&stream, 0), CUDA_SUCCESS, "cuStreamCreate");
    conform_status(DRV(cuEventRecord)(event, stream), CUDA_ERROR_INVALID_HANDLE,
                   "recording an event of another context is an invalid handle");
    conform_status(DRV(cuStreamWaitEvent)(stream, event, 0), CUDA_SUCCESS,
                   "waiting for one is not");
    conform_status(DRV(cuCtxDestroy_v2)(other), CUDA_SUCCESS, "cuCtxDestroy");
    conform_status(DRV(cuEventDestroy_v2)(event), CUDA_SUCCESS, "cuEventDestroy");
}

struct called {
    CUstream stream;
    CUresult status, inside;
    int count;
};

static void on_callback(CUstream stream, CUresult status, void *data)
{
    struct called *const called = data;
    CUdeviceptr address = 0;

    called->stream = stream;
    called->status = status;
    called->inside = DRV(cuMemAlloc_v2)(&address, 512);
    called->count++;
}

static void check_callbacks(void)
{
    struct called called = { .status = CUDA_ERROR_UNKNOWN };
    CUstream stream = NULL;

    conform_status(DRV(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS,
                   "cuStreamCreate");
    conform_status(DRV(cuStreamAddCallback)(stream, on_callback, &called, 0), CUDA_SUCCESS,
                   "cuStreamAddCallback");
    conform_status(DRV(cuStreamSynchronize)(stream), CUDA_SUCCESS, "cuStreamSynchronize");
    conform_number((uint64_t)called.count, 1, "a callback is called once");
    conform_status(called.status, CUDA_SUCCESS, "it is told that all went well");
    conform_holds(called.stream == stream, "and in which stream");
    conform_status(called.inside, CUDA_ERROR_NOT_PERMITTED, "a callback may not call the driver");
    conform_status(DRV(cuStreamDestroy_v2)(stream), CUDA_SUCCESS, "cuStreamDestroy");
}

void conform_stream(void)
{
    check_streams();
    check_events();
    check_mixture();
    check_callbacks();
}
