/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CUDA_ARRAY_H
#define CUDA_ARRAY_H

#include "cuda/cuda.h"

/* Arrays, and copies of boxes. As cuda.h: our own declarations of NVIDIA's names. */

/* NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's */

typedef struct CUarray_st *CUarray;
typedef struct CUmipmappedArray_st *CUmipmappedArray;

#define CU_MEMORYTYPE_ARRAY   3U
#define CU_MEMORYTYPE_UNIFIED 4U

#define CUDA_ARRAY3D_LAYERED          0x01U
#define CUDA_ARRAY3D_SURFACE_LDST     0x02U
#define CUDA_ARRAY3D_CUBEMAP          0x04U
#define CUDA_ARRAY3D_TEXTURE_GATHER   0x08U
#define CUDA_ARRAY3D_DEPTH_TEXTURE    0x10U
#define CUDA_ARRAY3D_COLOR_ATTACHMENT 0x20U
#define CUDA_ARRAY3D_SPARSE           0x40U
#define CUDA_ARRAY3D_DEFERRED_MAPPING 0x80U

/* Attributes of devices, which cuda.h's type has no names for. */
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_WIDTH               21
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_WIDTH               22
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_HEIGHT              23
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_WIDTH               24
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_HEIGHT              25
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_DEPTH               26
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_WIDTH       27
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_HEIGHT      28
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_LAYERS      29
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_WIDTH       42
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_LAYERS      43
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_GATHER_WIDTH        45
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_GATHER_HEIGHT       46
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_WIDTH          52
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH  53
#define CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS 54

typedef enum {
    CU_AD_FORMAT_UNSIGNED_INT8 = 0x01,
    CU_AD_FORMAT_UNSIGNED_INT16 = 0x02,
    CU_AD_FORMAT_UNSIGNED_INT32 = 0x03,
    CU_AD_FORMAT_SIGNED_INT8 = 0x08,
    CU_AD_FORMAT_SIGNED_INT16 = 0x09,
    CU_AD_FORMAT_SIGNED_INT32 = 0x0a,
    CU_AD_FORMAT_HALF = 0x10,
    CU_AD_FORMAT_FLOAT = 0x20,
    CU_AD_FORMAT_MAX = 0x7fffffff,
} CUarray_format;

typedef struct {
    size_t Width, Height;
    CUarray_format Format;
    unsigned int NumChannels;
} CUDA_ARRAY_DESCRIPTOR;

typedef struct {
    size_t Width, Height, Depth;
    CUarray_format Format;
    unsigned int NumChannels, Flags;
} CUDA_ARRAY3D_DESCRIPTOR;

typedef struct {
    size_t size, alignment;
    unsigned int reserved[4];
} CUDA_ARRAY_MEMORY_REQUIREMENTS;

typedef struct {
    size_t srcXInBytes, srcY;
    unsigned int srcMemoryType;
    const void *srcHost;
    CUdeviceptr srcDevice;
    CUarray srcArray;
    size_t srcPitch;
    size_t dstXInBytes, dstY;
    unsigned int dstMemoryType;
    void *dstHost;
    CUdeviceptr dstDevice;
    CUarray dstArray;
    size_t dstPitch;
    size_t WidthInBytes, Height;
} CUDA_MEMCPY2D;

typedef struct {
    size_t srcXInBytes, srcY, srcZ, srcLOD;
    unsigned int srcMemoryType;
    const void *srcHost;
    CUdeviceptr srcDevice;
    CUarray srcArray;
    void *reserved0;
    size_t srcPitch, srcHeight;
    size_t dstXInBytes, dstY, dstZ, dstLOD;
    unsigned int dstMemoryType;
    void *dstHost;
    CUdeviceptr dstDevice;
    CUarray dstArray;
    void *reserved1;
    size_t dstPitch, dstHeight;
    size_t WidthInBytes, Height, Depth;
} CUDA_MEMCPY3D;

CUDA_API CUresult cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *descriptor);
CUDA_API CUresult cuArray3DCreate_v2(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor);
CUDA_API CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *descriptor, CUarray array);
CUDA_API CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *descriptor, CUarray array);
CUDA_API CUresult cuArrayDestroy(CUarray array);
CUDA_API CUresult cuArrayGetPlane(CUarray *plane, CUarray array, unsigned int index);
CUDA_API CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *requirements,
                                               CUarray array, CUdevice device);
CUDA_API CUresult cuMipmappedArrayCreate(CUmipmappedArray *array,
                                         const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
                                         unsigned int level_count);
CUDA_API CUresult cuMipmappedArrayGetLevel(CUarray *level_array, CUmipmappedArray array,
                                           unsigned int level);
CUDA_API CUresult cuMipmappedArrayDestroy(CUmipmappedArray array);
CUDA_API CUresult cuMipmappedArrayGetMemoryRequirements(
    CUDA_ARRAY_MEMORY_REQUIREMENTS *requirements, CUmipmappedArray array, CUdevice device);
CUDA_API CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width_bytes,
                                     size_t height, unsigned int element_bytes);

#define CUDA_ARRAY_COPY_MAP(X)                                                                     \
    X(cuMemcpy2D_v2, (const CUDA_MEMCPY2D *copy))                                                  \
    X(cuMemcpy2DUnaligned_v2, (const CUDA_MEMCPY2D *copy))                                         \
    X(cuMemcpy3D_v2, (const CUDA_MEMCPY3D *copy))                                                  \
    X(cuMemcpyDtoA_v2, (CUarray to, size_t to_at, CUdeviceptr from, size_t bytes))                 \
    X(cuMemcpyAtoD_v2, (CUdeviceptr to, CUarray from, size_t from_at, size_t bytes))               \
    X(cuMemcpyHtoA_v2, (CUarray to, size_t to_at, const void *from, size_t bytes))                 \
    X(cuMemcpyAtoH_v2, (void *to, CUarray from, size_t from_at, size_t bytes))                     \
    X(cuMemcpyAtoA_v2, (CUarray to, size_t to_at, CUarray from, size_t from_at, size_t bytes))     \
    X(cuMemsetD2D8_v2,                                                                             \
      (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height))            \
    X(cuMemsetD2D16_v2,                                                                            \
      (CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height))           \
    X(cuMemsetD2D32_v2,                                                                            \
      (CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height))
#define CUDA_ARRAY_STREAM_MAP(X)                                                                   \
    X(cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *copy, CUstream stream))                            \
    X(cuMemcpy3DAsync_v2, (const CUDA_MEMCPY3D *copy, CUstream stream))                            \
    X(cuMemcpyHtoAAsync_v2,                                                                        \
      (CUarray to, size_t to_at, const void *from, size_t bytes, CUstream stream))                 \
    X(cuMemcpyAtoHAsync_v2,                                                                        \
      (void *to, CUarray from, size_t from_at, size_t bytes, CUstream stream))                     \
    X(cuMemsetD2D8Async, (CUdeviceptr to, size_t pitch, unsigned char value, size_t width,         \
                          size_t height, CUstream stream))                                         \
    X(cuMemsetD2D16Async, (CUdeviceptr to, size_t pitch, unsigned short value, size_t width,       \
                           size_t height, CUstream stream))                                        \
    X(cuMemsetD2D32Async, (CUdeviceptr to, size_t pitch, unsigned int value, size_t width,         \
                           size_t height, CUstream stream))
#define X(name, arguments)                                                                         \
    CUDA_API CUresult name arguments;                                                              \
    CUDA_API CUresult name##_ptds arguments;
CUDA_ARRAY_COPY_MAP(X)
#undef X
#define X(name, arguments)                                                                         \
    CUDA_API CUresult name arguments;                                                              \
    CUDA_API CUresult name##_ptsz arguments;
CUDA_ARRAY_STREAM_MAP(X)
#undef X

/* NOLINTEND(readability-identifier-naming) */

#endif
