/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_CAPTURE_H
#define CUDA_CAPTURE_H

#include "cuda/cuda.h"

/* Whether streams are captured, and for profilers. As cuda.h: our own declarations of NVIDIA's
 * names. */

/* NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's */

#define CU_STREAM_CAPTURE_STATUS_NONE 0U
#define CU_STREAM_CAPTURE_MODE_MAX    2U

CUDA_API CUresult cuStreamIsCapturing(CUstream stream, unsigned int *status);
CUDA_API CUresult cuStreamIsCapturing_ptsz(CUstream stream, unsigned int *status);
/* What follows differs by version: id, graph, dependencies. */
CUDA_API CUresult cuStreamGetCaptureInfo(CUstream stream, unsigned int *status, ...);
CUDA_API CUresult cuStreamGetCaptureInfo_ptsz(CUstream stream, unsigned int *status, ...);
CUDA_API CUresult cuStreamGetCaptureInfo_v2(CUstream stream, unsigned int *status, ...);
CUDA_API CUresult cuStreamGetCaptureInfo_v2_ptsz(CUstream stream, unsigned int *status, ...);
CUDA_API CUresult cuStreamGetCaptureInfo_v3(CUstream stream, unsigned int *status, ...);
CUDA_API CUresult cuStreamGetCaptureInfo_v3_ptsz(CUstream stream, unsigned int *status, ...);
CUDA_API CUresult cuThreadExchangeStreamCaptureMode(unsigned int *inout_mode);
CUDA_API CUresult cuProfilerStart(void);
CUDA_API CUresult cuProfilerStop(void);

/* NOLINTEND(readability-identifier-naming) */

#endif
