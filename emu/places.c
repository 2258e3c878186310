/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A card's memory as this process takes it: charged in the books, with a place in the card's file
 * that the server has leased to the process. Neither needs a word to the server, but for a new
 * lease now and then.
 *
 * What processes hold that have ended a moment ago is in the books until the server has settled it.
 * Who looks at what is free must not see that: whenever it matters (nothing is free, more is in use
 * than ever before, the program asks) the server is asked first, if it has news.
 */

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cuda_state.h"

#define LEASE_BYTES  (UINT64_C(256) << 20)
#define CHARGE_TRIES 100

static struct books_at at_card(const struct gpu *gpu)
{
    return (struct books_at){ cuda.books, gpu->server_index, cuda.account };
}

/* After this, the ends of all processes that had ended before are in the books. */
static CUresult settle(const struct gpu *gpu)
{
    struct pollfd news = { .fd = cuda.gone_fd, .events = POLLIN };
    struct emu_reply reply = { 0 };
    const int saved_errno = errno;
    const int count = poll(&news, 1, 0);

    errno = saved_errno;
    return count == 0 ? CUDA_SUCCESS : cuda_ask(EMU_MEMORY, gpu, 0, &reply);
}

static bool is_closed(void)
{
    return atomic_load(&cuda.books->accounts[cuda.account].is_closed) != 0;
}

CUresult cuda_used(const struct gpu *gpu, uint64_t *ret_bytes)
{
    const CUresult status = is_closed() ? CUDA_ERROR_UNKNOWN : settle(gpu);

    *ret_bytes = books_used_bytes(cuda.books, gpu->server_index);
    return status;
}

CUresult cuda_count_oom(const struct gpu *gpu)
{
    (void)atomic_fetch_add(&cuda.books->cards[gpu->server_index].oom_count, 1);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

/* Nothing is left, but somebody may have ended since, or managed memory can give way. Others take
 * what is freed as well: again, as long as there is something, but not for ever. */
static CUresult charge_late(const struct gpu *gpu, uint64_t bytes)
{
    const struct books_at at = at_card(gpu);
    struct emu_reply reply = { 0 };

    for (int i = 0; i < CHARGE_TRIES; i++) {
        const CUresult status = cuda_ask(EMU_ROOM, gpu, bytes, &reply);
        if (status != CUDA_SUCCESS || books_take(&at, bytes, gpu->info.capacity_bytes))
            return status;
        if (reply.values[0] == 0)
            break;
    }
    return cuda_count_oom(gpu);
}

static CUresult charge(const struct gpu *gpu, uint64_t bytes)
{
    const struct books_at at = at_card(gpu);
    const uint64_t used_bytes = books_used_bytes(cuda.books, gpu->server_index);
    CUresult status = CUDA_SUCCESS;

    if (is_closed())
        return CUDA_ERROR_UNKNOWN;
    if (bytes > gpu->info.capacity_bytes)
        return cuda_count_oom(gpu);
    if (used_bytes + bytes > books_peak_bytes(cuda.books, gpu->server_index))
        status = settle(gpu);
    if (status != CUDA_SUCCESS || books_take(&at, bytes, gpu->info.capacity_bytes))
        return status;
    return charge_late(gpu, bytes);
}

static CUresult lease(struct gpu *gpu, uint64_t bytes)
{
    const uint64_t wanted = bytes > LEASE_BYTES ? bytes : LEASE_BYTES;
    const struct emu_request request = { .op = EMU_LEASE,
                                         .gpu = gpu->server_index,
                                         .args = { wanted, bytes } };
    struct emu_reply reply = { 0 };
    const int status = link_call(&cuda.link, &request, &reply);

    if (status != CUDA_SUCCESS)
        return status < 0 ? CUDA_ERROR_UNKNOWN : (CUresult)status;
    gpu->idle_most_pages = reply.values[2] / EMU_PAGE_BYTES;
    gpu->idle_pages += reply.values[1] / EMU_PAGE_BYTES;
    if (spans_add(&gpu->places, reply.values[0] / EMU_PAGE_BYTES,
                  reply.values[1] / EMU_PAGE_BYTES) == 0)
        return CUDA_SUCCESS;
    gpu->idle_pages -= reply.values[1] / EMU_PAGE_BYTES;
    return CUDA_ERROR_OUT_OF_MEMORY; /* of host memory; the lease is lost until we end */
}

/* The longest idle span goes back. False: there is none. */
static bool unlease_one(struct gpu *gpu)
{
    uint64_t page = 0, page_count = 0;
    struct emu_reply reply = { 0 };

    if (spans_take_longest(&gpu->places, &page, &page_count) < 0 || page_count == 0)
        return false;
    const struct emu_request request = { .op = EMU_UNLEASE,
                                         .gpu = gpu->server_index,
                                         .args = { page * EMU_PAGE_BYTES,
                                                   page_count * EMU_PAGE_BYTES } };
    (void)link_call(&cuda.link, &request, &reply);
    spans_forget(&gpu->places);
    gpu->idle_pages -= page_count;
    return true;
}

static CUresult find_place(struct gpu *gpu, uint64_t page_count, uint64_t *ret_page)
{
    CUresult status = CUDA_SUCCESS;

    if (spans_take(&gpu->places, page_count, ret_page) == 0)
        return CUDA_SUCCESS;
    status = lease(gpu, page_count * EMU_PAGE_BYTES);
    if (status == CUDA_ERROR_OUT_OF_MEMORY) { /* no place is free that is long enough */
        while (unlease_one(gpu))
            continue;
        status = lease(gpu, page_count * EMU_PAGE_BYTES);
    }
    if (status != CUDA_SUCCESS)
        return status;
    return spans_take(&gpu->places, page_count, ret_page) == 0 ? CUDA_SUCCESS
                                                               : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuda_take(struct gpu *gpu, uint64_t bytes, uint64_t *ret_offset)
{
    const struct books_at at = at_card(gpu);
    uint64_t page = 0;
    CUresult status = charge(gpu, bytes);

    if (status != CUDA_SUCCESS)
        return status;
    status = find_place(gpu, bytes / EMU_PAGE_BYTES, &page);
    if (status == CUDA_SUCCESS) {
        gpu->idle_pages -= bytes / EMU_PAGE_BYTES;
        *ret_offset = page * EMU_PAGE_BYTES;
        return CUDA_SUCCESS;
    }
    books_give(&at, bytes);
    return status == CUDA_ERROR_OUT_OF_MEMORY ? cuda_count_oom(gpu) : status;
}

void cuda_give(struct gpu *gpu, uint64_t offset, uint64_t bytes)
{
    const struct books_at at = at_card(gpu);

    bytes_wipe(gpu, offset, bytes);
    if (!is_closed())
        books_give(&at, bytes);
    spans_give(&gpu->places, offset / EMU_PAGE_BYTES, bytes / EMU_PAGE_BYTES);
    gpu->idle_pages += bytes / EMU_PAGE_BYTES;
    while (gpu->idle_pages > gpu->idle_most_pages && unlease_one(gpu))
        continue;
}

CUresult cuda_share(struct gpu *gpu, uint64_t offset, uint64_t bytes)
{
    const struct emu_request request = { .op = EMU_ADOPT,
                                         .gpu = gpu->server_index,
                                         .args = { offset, bytes } };
    struct emu_reply reply = { 0 };
    const int status = link_call(&cuda.link, &request, &reply);

    if (status == CUDA_SUCCESS)
        spans_forget(&gpu->places);
    return status < 0 ? CUDA_ERROR_UNKNOWN : (CUresult)status;
}

static int map_books(int fd)
{
    void *const books = mmap(NULL, sizeof(*cuda.books), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    (void)close(fd);
    if (books == MAP_FAILED)
        return -ENOMEM;
    (void)madvise(books, sizeof(*cuda.books), MADV_DONTFORK); /* a child has no account */
    cuda.books = books;
    return 0;
}

int places_open(void)
{
    struct emu_request request = { .op = EMU_BOOKS, .args = { EMU_BOOKS_GONE } };
    struct emu_reply reply = { 0 };
    int fd = -1;
    int r = link_call_payload(&cuda.link, &request, &reply, NULL, 0, &cuda.gone_fd);

    if (r == 0 && cuda.gone_fd >= 0) {
        request.args[0] = EMU_BOOKS_FILE;
        r = link_call_payload(&cuda.link, &request, &reply, NULL, 0, &fd);
    }
    cuda.account = (uint32_t)reply.values[0];
    if (r == 0 && fd >= 0 && cuda.account < BOOKS_ACCOUNT_MAX && map_books(fd) == 0)
        return 0;
    if (cuda.gone_fd >= 0)
        (void)close(cuda.gone_fd);
    cuda.gone_fd = -1;
    return -EPROTO;
}
