/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is found and refused: a caller that looks for it finds a driver of its time, and takes its
 * path without it.
 */

#include "cuda/refused.h"
#include "cuda_state.h"

CUresult cuda_refuse(const char *call)
{
    const CUresult status = cuda_enter_call(call);

    return status == CUDA_SUCCESS ? cuda_leave(CUDA_ERROR_NOT_SUPPORTED) : status;
}

#define X(name, since, symbol)                                                                     \
    CUresult symbol(void)                                                                          \
    {                                                                                              \
        return cuda_refuse(#symbol);                                                               \
    }
CUDA_REFUSED_MAP(X)
#undef X
#define X(name, since, symbol, per_thread)                                                         \
    CUresult symbol(void)                                                                          \
    {                                                                                              \
        return cuda_refuse(#symbol);                                                               \
    }                                                                                              \
    CUresult per_thread(void)                                                                      \
    {                                                                                              \
        return cuda_refuse(#symbol);                                                               \
    }
CUDA_REFUSED_STREAM_MAP(X)
#undef X
