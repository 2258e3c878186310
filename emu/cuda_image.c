/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The image of a checkpoint: device memory as this process's own anonymous memory, as with the real
 * driver. What was never written is not copied, so the image of an empty allocation costs nothing,
 * where the real one is as large as the memory.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "restore.h"

/* What is data in one place; the copies lie one after the other. */
struct saved {
    const struct gpu *gpu;
    uint64_t offset;
    uint64_t bytes;
};

static struct {
    struct saved *saved; /* owned */
    size_t saved_count, saved_room;
    unsigned char *bytes; /* owned mapping */
    size_t byte_count;
} image;

static const struct gpu *find_gpu(uint32_t server_index)
{
    for (uint32_t i = 0; i < cuda.gpu_count; i++) {
        if (cuda.gpus[i].server_index == server_index)
            return &cuda.gpus[i];
    }
    return NULL;
}

static CUresult add_saved(const struct gpu *gpu, uint64_t offset, uint64_t bytes)
{
    if (image.saved_count == image.saved_room) {
        const size_t room = image.saved_room > 0 ? 2 * image.saved_room : 64;
        struct saved *const more = realloc(image.saved, room * sizeof(*more));
        if (!more)
            return CUDA_ERROR_OUT_OF_MEMORY;
        image.saved = more;
        image.saved_room = room;
    }
    image.saved[image.saved_count++] = (struct saved){ gpu, offset, bytes };
    image.byte_count += bytes;
    return CUDA_SUCCESS;
}

/* What was never written needs no copy. */
static CUresult add_place(const struct emu_place *place)
{
    const struct gpu *const gpu = find_gpu(place->gpu);
    uint64_t offset = place->offset, left = (uint64_t)place->page_count * EMU_PAGE_BYTES;
    CUresult status = gpu ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;

    while (left > 0 && status == CUDA_SUCCESS) {
        bool is_data = false;
        const size_t now = bytes_extent(gpu, offset, left, &is_data);
        if (is_data)
            status = add_saved(gpu, offset, now);
        offset += now;
        left -= now;
    }
    return status;
}

static CUresult find_places(struct link *link)
{
    static struct emu_place list[EMU_PLACE_MAX]; /* there is one restore thread */
    struct emu_reply reply = { .values = { 1 } };
    CUresult status = CUDA_SUCCESS;

    for (uint64_t first = 0; first < reply.values[0] && status == CUDA_SUCCESS;
         first += reply.count) {
        const struct emu_request request = { .op = EMU_PLACES, .args = { first } };
        if (link_call_payload(link, &request, &reply, list, sizeof(list), NULL) != 0 ||
            (reply.count == 0 && reply.values[0] > first))
            return CUDA_ERROR_UNKNOWN;
        for (uint32_t i = 0; i < reply.count && status == CUDA_SUCCESS; i++)
            status = add_place(&list[i]);
    }
    return status;
}

static void drop_image(void)
{
    if (image.bytes)
        (void)munmap(image.bytes, image.byte_count);
    free(image.saved);
    image.saved = NULL;
    image.saved_count = image.saved_room = 0;
    image.bytes = NULL;
    image.byte_count = 0;
}

static CUresult map_image(void)
{
    if (image.byte_count == 0)
        return CUDA_SUCCESS;
    void *const mapped = mmap(NULL, image.byte_count, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    (void)madvise(mapped, image.byte_count, MADV_DONTFORK);
    image.bytes = mapped;
    return CUDA_SUCCESS;
}

CUresult image_save(struct link *link)
{
    CUresult status = find_places(link);
    uint64_t at = 0;

    if (status == CUDA_SUCCESS)
        status = map_image();
    if (status != CUDA_SUCCESS) {
        drop_image();
        return status;
    }
    for (size_t i = 0; i < image.saved_count; i++) {
        const struct saved *const saved = &image.saved[i];
        bytes_read(saved->gpu, saved->offset, image.bytes + at, saved->bytes);
        bytes_drop(saved->gpu, saved->offset, saved->bytes);
        at += saved->bytes;
    }
    return CUDA_SUCCESS;
}

void image_load(void)
{
    uint64_t at = 0;

    for (size_t i = 0; i < image.saved_count; i++) {
        const struct saved *const saved = &image.saved[i];
        bytes_write(saved->gpu, saved->offset, image.bytes + at, saved->bytes);
        at += saved->bytes;
    }
    drop_image();
}
