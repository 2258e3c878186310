/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_MANAGED_H
#define CUDA_MANAGED_H

#include "cuda/vmm.h"

/* Managed memory. As cuda.h: our own declarations of NVIDIA's names. */

/* NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's */

#define CU_DEVICE_CPU     ((CUdevice)-1)
#define CU_DEVICE_INVALID ((CUdevice)-2)

#define CU_MEM_ATTACH_GLOBAL 1U
#define CU_MEM_ATTACH_HOST   2U
#define CU_MEM_ATTACH_SINGLE 4U

typedef enum {
    CU_MEM_ADVISE_SET_READ_MOSTLY = 1,
    CU_MEM_ADVISE_UNSET_READ_MOSTLY = 2,
    CU_MEM_ADVISE_SET_PREFERRED_LOCATION = 3,
    CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION = 4,
    CU_MEM_ADVISE_SET_ACCESSED_BY = 5,
    CU_MEM_ADVISE_UNSET_ACCESSED_BY = 6,
} CUmem_advise;

typedef enum {
    CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY = 1,
    CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION = 2,
    CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY = 3,
    CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION = 4,
    CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE = 5,
    CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID = 6,
    CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE = 7,
    CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID = 8,
} CUmem_range_attribute;

CUDA_API CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned int flags);
CUDA_API CUresult cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice device,
                                     CUstream stream);
CUDA_API CUresult cuMemPrefetchAsync_ptsz(CUdeviceptr address, size_t bytes, CUdevice device,
                                          CUstream stream);
CUDA_API CUresult cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation location,
                                        unsigned int flags, CUstream stream);
CUDA_API CUresult cuMemPrefetchAsync_v2_ptsz(CUdeviceptr address, size_t bytes,
                                             CUmemLocation location, unsigned int flags,
                                             CUstream stream);
CUDA_API CUresult cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise advice,
                              CUdevice device);
CUDA_API CUresult cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise advice,
                                 CUmemLocation location);
CUDA_API CUresult cuMemRangeGetAttribute(void *data, size_t data_bytes,
                                         CUmem_range_attribute attribute, CUdeviceptr address,
                                         size_t bytes);
CUDA_API CUresult cuMemRangeGetAttributes(void **data, size_t *data_bytes,
                                          CUmem_range_attribute *attributes, size_t count,
                                          CUdeviceptr address, size_t bytes);
CUDA_API CUresult cuStreamAttachMemAsync(CUstream stream, CUdeviceptr address, size_t bytes,
                                         unsigned int flags);
CUDA_API CUresult cuStreamAttachMemAsync_ptsz(CUstream stream, CUdeviceptr address, size_t bytes,
                                              unsigned int flags);

/* NOLINTEND(readability-identifier-naming) */

#endif
