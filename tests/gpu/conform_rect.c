/* SPDX-License-Identifier: Apache-2.0 */

/* Memory with a pitch, and copies and sets of rectangles and boxes. */

#include <string.h>

#include "conform.h"
#include "cuda/array.h"
#include "cuda/context.h"

#define WIDTH  ((size_t)300)
#define HEIGHT ((size_t)7)
#define DEPTH  ((size_t)3)

static CUdeviceptr pitched;
static size_t pitch;

static void check_pitch(void)
{
    CUdeviceptr address = 0;
    size_t unused = 0;

    conform_status(DRV(cuMemAllocPitch_v2)(&address, &unused, WIDTH, HEIGHT, 3),
                   CUDA_ERROR_INVALID_VALUE, "elements of 3 bytes are an invalid value");
    conform_status(DRV(cuMemAllocPitch_v2)(&address, &unused, 0, HEIGHT, 4),
                   CUDA_ERROR_INVALID_VALUE, "rows of nothing are an invalid value");
    conform_status(DRV(cuMemAllocPitch_v2)(&pitched, &pitch, WIDTH, HEIGHT * DEPTH, 4),
                   CUDA_SUCCESS, "cuMemAllocPitch");
    conform_holds(pitch >= WIDTH && pitch % 32 == 0, "a pitch is aligned and holds a row");
}

static void fill_pattern(unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (unsigned char)(i * 13 + i / 300);
}

static CUDA_MEMCPY2D to_device(const unsigned char *bytes)
{
    return (CUDA_MEMCPY2D){ .srcMemoryType = CU_MEMORYTYPE_HOST,
                            .srcHost = bytes,
                            .srcPitch = WIDTH,
                            .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                            .dstDevice = pitched,
                            .dstPitch = pitch,
                            .WidthInBytes = WIDTH,
                            .Height = HEIGHT };
}

static void check_rectangles(void)
{
    static unsigned char out[WIDTH * HEIGHT], back[WIDTH * HEIGHT], row[WIDTH];
    CUDA_MEMCPY2D rect = to_device(out);

    fill_pattern(out, sizeof(out));
    rect.srcPitch = WIDTH - 1;
    conform_status(DRV(cuMemcpy2D_v2)(&rect), CUDA_ERROR_INVALID_VALUE,
                   "rows that are longer than the pitch are an invalid value");
    rect = to_device(out);
    rect.dstMemoryType = 9;
    conform_status(DRV(cuMemcpy2D_v2)(&rect), CUDA_ERROR_INVALID_VALUE,
                   "an unknown kind of memory is an invalid value");
    rect = to_device(out);
    conform_status(DRV(cuMemcpy2D_v2)(&rect), CUDA_SUCCESS, "cuMemcpy2D to the device");
    conform_status(DRV(cuMemcpyDtoH_v2)(row, pitched + 3 * pitch, WIDTH), CUDA_SUCCESS,
                   "a row of it");
    conform_holds(memcmp(row, out + 3 * WIDTH, WIDTH) == 0, "rows are a pitch apart");
    rect = (CUDA_MEMCPY2D){ .srcXInBytes = 10,
                            .srcY = 2,
                            .srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                            .srcDevice = pitched,
                            .srcPitch = pitch,
                            .dstXInBytes = 10,
                            .dstY = 2,
                            .dstMemoryType = CU_MEMORYTYPE_HOST,
                            .dstHost = back,
                            .dstPitch = WIDTH,
                            .WidthInBytes = WIDTH - 10,
                            .Height = HEIGHT - 2 };
    conform_status(DRV(cuMemcpy2DUnaligned_v2)(&rect), CUDA_SUCCESS, "a part of it, by address");
    conform_number(back[0], 0, "what was not asked for is not copied");
    conform_holds(memcmp(back + 2 * WIDTH + 10, out + 2 * WIDTH + 10, WIDTH - 10) == 0 &&
                      memcmp(back + 6 * WIDTH + 10, out + 6 * WIDTH + 10, WIDTH - 10) == 0,
                  "the bytes come back");
}

static void check_sets(void)
{
    CUcontext context = NULL;
    unsigned char bytes[8] = { 0 };

    conform_status(DRV(cuMemsetD2D32_v2)(pitched + 2, pitch, 1, 4, 2), CUDA_ERROR_INVALID_VALUE,
                   "cuMemsetD2D32 to an odd address is an invalid value");
    conform_status(DRV(cuMemsetD2D8_v2)(pitched, pitch, 9, 4, HEIGHT), CUDA_SUCCESS,
                   "cuMemsetD2D8");
    conform_status(DRV(cuMemsetD2D16_v2)(pitched + pitch, pitch, 0x1122, 2, 1), CUDA_SUCCESS,
                   "cuMemsetD2D16");
    conform_status(DRV(cuMemcpyDtoH_v2)(bytes, pitched + 2 * pitch, sizeof(bytes)), CUDA_SUCCESS,
                   "cuMemcpyDtoH");
    conform_holds(bytes[0] == 9 && bytes[3] == 9 && bytes[4] != 9, "so many bytes of each row");
    conform_status(DRV(cuMemcpyDtoH_v2)(bytes, pitched + pitch, 4), CUDA_SUCCESS, "cuMemcpyDtoH");
    conform_holds(memcmp(bytes, "\x22\x11\x22\x11", 4) == 0, "and two of 16 bits");
    conform_status(DRV(cuCtxGetCurrent)(&context), CUDA_SUCCESS, "cuCtxGetCurrent");
    conform_status(DRV(cuMemcpyPeer)(pitched, context, pitched + pitch, context, 4), CUDA_SUCCESS,
                   "cuMemcpyPeer inside a context");
    conform_status(DRV(cuMemcpyDtoH_v2)(bytes, pitched, 4), CUDA_SUCCESS, "cuMemcpyDtoH");
    conform_number(bytes[0], 0x22, "the bytes are there");
}

static void check_boxes(void)
{
    static unsigned char out[WIDTH * HEIGHT * DEPTH], back[WIDTH * HEIGHT * DEPTH];
    CUstream stream = NULL;
    CUDA_MEMCPY3D box = { .srcMemoryType = CU_MEMORYTYPE_HOST,
                          .srcHost = out,
                          .srcPitch = WIDTH,
                          .srcHeight = HEIGHT,
                          .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                          .dstDevice = pitched,
                          .dstPitch = pitch,
                          .dstHeight = HEIGHT,
                          .WidthInBytes = WIDTH,
                          .Height = HEIGHT,
                          .Depth = DEPTH };

    fill_pattern(out, sizeof(out));
    box.srcHeight = HEIGHT - 1;
    conform_status(DRV(cuMemcpy3D_v2)(&box), CUDA_ERROR_INVALID_VALUE,
                   "slices that are higher than the height are an invalid value");
    box.srcHeight = HEIGHT;
    conform_status(DRV(cuMemcpy3D_v2)(&box), CUDA_SUCCESS, "cuMemcpy3D to the device");
    box.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    box.srcDevice = pitched;
    box.srcPitch = pitch;
    box.dstMemoryType = CU_MEMORYTYPE_HOST;
    box.dstHost = back;
    box.dstPitch = WIDTH;
    conform_status(DRV(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS,
                   "cuStreamCreate");
    conform_status(DRV(cuMemcpy3DAsync_v2)(&box, stream), CUDA_SUCCESS, "cuMemcpy3DAsync back");
    conform_status(DRV(cuStreamSynchronize)(stream), CUDA_SUCCESS, "cuStreamSynchronize");
    conform_holds(memcmp(out, back, sizeof(out)) == 0, "the bytes come back");
    conform_status(DRV(cuStreamDestroy_v2)(stream), CUDA_SUCCESS, "cuStreamDestroy");
}

void conform_rect(void)
{
    check_pitch();
    check_rectangles();
    check_sets();
    check_boxes();
    conform_status(DRV(cuMemFree_v2)(pitched), CUDA_SUCCESS, "cuMemFree");
}
