/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The bytes of the gpus: reads, writes and fills in the sparse memfd that all processes map.
 *
 * A page that was never written is a hole. Reading one through the mapping would make it real, so
 * reads look for holes first; zeros that are to be written over much memory make holes instead.
 *
 * Which pages (of 2 MiB) this process has made real it remembers in a bit each, so that giving back
 * what was never touched costs no call of the kernel. The bits are set without a lock, before the
 * bytes are touched, and cleared under the process's lock when the pages are given back: a program
 * that still copies into what it frees gets what it asked for.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "cuda_state.h"

#define HOST_PAGE_BYTES  UINT64_C(4096)
#define SMALL_READ_BYTES (2 * HOST_PAGE_BYTES) /* looking for holes costs more than it saves */
#define HOLE_MIN_BYTES   (16 * HOST_PAGE_BYTES)

void bytes_touch(const struct gpu *gpu, uint64_t offset, uint64_t bytes)
{
    const uint64_t end = bytes > 0 ? (offset + bytes - 1) / EMU_PAGE_BYTES + 1 : 0;

    for (uint64_t page = offset / EMU_PAGE_BYTES; page < end; page++) {
        const uint64_t bit = UINT64_C(1) << (page % 64);
        if ((atomic_load_explicit(&gpu->written[page / 64], memory_order_relaxed) & bit) == 0)
            (void)atomic_fetch_or(&gpu->written[page / 64], bit);
    }
}

void bytes_write(const struct gpu *gpu, uint64_t offset, const void *from, size_t bytes)
{
    bytes_touch(gpu, offset, bytes);
    memcpy(gpu->bytes + offset, from, bytes);
}

size_t bytes_extent(const struct gpu *gpu, uint64_t offset, size_t bytes, bool *ret_is_data)
{
    const int saved_errno = errno;
    const off_t data = lseek(gpu->memfd, (off_t)offset, SEEK_DATA);
    off_t end = data;

    *ret_is_data = data == (off_t)offset;
    if (data < 0) {
        /* ENXIO: nothing but hole to the end. Any other failure: take it for data. */
        *ret_is_data = errno != ENXIO;
        errno = saved_errno;
        return bytes;
    }
    if (*ret_is_data)
        end = lseek(gpu->memfd, (off_t)offset, SEEK_HOLE);
    errno = saved_errno;
    if (end < 0 || (uint64_t)end - offset > bytes)
        return bytes;
    return (size_t)((uint64_t)end - offset);
}

void bytes_read(const struct gpu *gpu, uint64_t offset, void *to, size_t bytes)
{
    unsigned char *out = to;

    if (bytes <= SMALL_READ_BYTES) {
        bytes_touch(gpu, offset, bytes);
        memcpy(out, gpu->bytes + offset, bytes);
        return;
    }
    while (bytes > 0) {
        bool is_data = false;
        const size_t now = bytes_extent(gpu, offset, bytes, &is_data);
        if (is_data)
            memcpy(out, gpu->bytes + offset, now);
        else
            memset(out, 0, now);
        out += now;
        offset += now;
        bytes -= now;
    }
}

void bytes_drop(const struct gpu *gpu, uint64_t offset, size_t bytes)
{
    const int saved_errno = errno;

    (void)fallocate(gpu->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                    (off_t)bytes);
    errno = saved_errno;
}

/* Takes the page's bit; false if it had none. */
static bool take_written(const struct gpu *gpu, uint64_t page)
{
    const uint64_t bit = UINT64_C(1) << (page % 64);

    return (atomic_load_explicit(&gpu->written[page / 64], memory_order_relaxed) & bit) != 0 &&
           (atomic_fetch_and(&gpu->written[page / 64], ~bit) & bit) != 0;
}

void bytes_wipe(const struct gpu *gpu, uint64_t offset, uint64_t bytes)
{
    const uint64_t end = (offset + bytes) / EMU_PAGE_BYTES;
    uint64_t page = offset / EMU_PAGE_BYTES;

    while (page < end) {
        const uint64_t start = page;
        if (page % 64 == 0 && end - page >= 64 && atomic_load(&gpu->written[page / 64]) == 0) {
            page += 64;
            continue;
        }
        while (page < end && take_written(gpu, page))
            page++;
        if (page > start)
            bytes_drop(gpu, start * EMU_PAGE_BYTES, (page - start) * EMU_PAGE_BYTES);
        else
            page++;
    }
}

static void fill_zero(const struct gpu *gpu, uint64_t offset, size_t bytes)
{
    if (bytes >= HOLE_MIN_BYTES) {
        bytes_drop(gpu, offset, bytes); /* zeroes what is no whole page */
        return;
    }
    bytes_touch(gpu, offset, bytes);
    memset(gpu->bytes + offset, 0, bytes);
}

void bytes_copy(const struct gpu *to_gpu, uint64_t to, const struct gpu *from_gpu, uint64_t from,
                size_t bytes)
{
    /* Overlapping ranges are undefined for the driver; here they are one plain move. */
    const bool overlaps =
        to_gpu->bytes == from_gpu->bytes && to < from + bytes && from < to + bytes;

    while (bytes > 0) {
        bool is_data = true;
        const size_t now = overlaps || bytes <= SMALL_READ_BYTES
                               ? bytes
                               : bytes_extent(from_gpu, from, bytes, &is_data);
        if (is_data) {
            bytes_touch(to_gpu, to, now);
            bytes_touch(from_gpu, from, now);
            memmove(to_gpu->bytes + to, from_gpu->bytes + from, now);
        } else {
            fill_zero(to_gpu, to, now);
        }
        to += now;
        from += now;
        bytes -= now;
    }
}

void bytes_fill_host(unsigned char *to, uint32_t value, unsigned value_bytes, size_t count)
{
    if (value_bytes == 1) {
        memset(to, (int)value, count);
        return;
    }
    for (size_t i = 0; i < count; i++, to += value_bytes)
        memcpy(to, &value, value_bytes);
}

void bytes_fill(const struct gpu *gpu, uint64_t offset, uint32_t value, unsigned value_bytes,
                size_t count)
{
    if (value == 0) {
        fill_zero(gpu, offset, count * value_bytes);
        return;
    }
    bytes_touch(gpu, offset, count * value_bytes);
    bytes_fill_host(gpu->bytes + offset, value, value_bytes, count);
}
