/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The places that processes have: whose pages of a card's file are whose. They are leased many at a
 * time, so that a process has room for its next allocations without asking, and say nothing of what
 * is in use, which is in the books.
 *
 * What lies idle in one process is no room for another. So each is told how much may: a fourth of
 * what is free now, divided among all. However many come and however much they keep for ever, a
 * part is left for the next.
 */

#include <stdlib.h>

#include "client.h"
#include "cuda/cuda.h"

#define IDLE_SHARE UINT64_C(4)

void extent_link(struct extent **list, struct extent *extent)
{
    extent->previous = NULL;
    extent->next = *list;
    if (*list)
        (*list)->previous = extent;
    *list = extent;
}

void extent_unlink(struct extent **list, struct extent *extent)
{
    if (extent->previous)
        extent->previous->next = extent->next;
    else
        *list = extent->next;
    if (extent->next)
        extent->next->previous = extent->previous;
}

static bool is_pages(uint64_t bytes)
{
    return bytes > 0 && bytes % EMU_PAGE_BYTES == 0;
}

/* As many pages as are wanted, or as are needed; in the end with what is still to be wiped. */
static int take_place(struct server *server, struct card *card, const struct emu_request *request,
                      struct extent *extent)
{
    const uint64_t wanted = request->args[0] / EMU_PAGE_BYTES;
    const uint64_t needed = request->args[1] / EMU_PAGE_BYTES;
    int r = spans_take(&card->spans, wanted, &extent->page);

    extent->page_count = r == 0 ? wanted : needed;
    if (r < 0)
        r = spans_take(&card->spans, needed, &extent->page);
    if (r < 0) {
        while (holding_wipe_some(server))
            continue;
        r = spans_take(&card->spans, needed, &extent->page);
    }
    return r;
}

int lease_open(struct server *server, struct client *client, const struct emu_request *request,
               uint64_t ret_values[3])
{
    struct card *const card = &server->cards[request->gpu];
    struct extent *const extent = calloc(1, sizeof(*extent));

    if (!extent || !is_pages(request->args[0]) || !is_pages(request->args[1]) ||
        client->account == 0) {
        free(extent);
        return extent ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (take_place(server, card, request, extent) < 0) {
        free(extent);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    extent->gpu = request->gpu;
    extent_link(&client->extents, extent);
    ret_values[0] = extent->page * EMU_PAGE_BYTES;
    ret_values[1] = extent->page_count * EMU_PAGE_BYTES;
    ret_values[2] =
        spans_free(&card->spans) / (IDLE_SHARE * server->account_count) * EMU_PAGE_BYTES;
    return CUDA_SUCCESS;
}

static uint64_t overlap(const struct extent *extent, uint64_t page, uint64_t page_count)
{
    const uint64_t start = extent->page > page ? extent->page : page;
    const uint64_t end = extent->page + extent->page_count < page + page_count
                             ? extent->page + extent->page_count
                             : page + page_count;

    return end > start ? end - start : 0;
}

/* All of these pages are leased to the client. */
static bool is_leased(const struct client *client, uint32_t gpu, uint64_t page, uint64_t page_count)
{
    uint64_t found = 0;

    for (const struct extent *extent = client->extents; extent; extent = extent->next)
        found += extent->gpu == gpu ? overlap(extent, page, page_count) : 0;
    return found == page_count;
}

/* Takes the pages of `cut` away from a lease, of which up to two parts stay. *spare becomes the
 * second one, which only a lease that reaches beyond both ends has. */
static void shorten(struct server *server, struct client *client, struct extent *lease,
                    const struct extent *cut, struct extent **spare)
{
    const uint64_t end = lease->page + lease->page_count, cut_end = cut->page + cut->page_count;
    struct spans *const spans = &server->cards[cut->gpu].spans;

    if (lease->page < cut->page && end > cut_end) {
        **spare = *lease;
        (*spare)->page = cut_end;
        (*spare)->page_count = end - cut_end;
        extent_link(&client->extents, *spare);
        *spare = NULL;
        spans->taken_count++;
    }
    if (lease->page < cut->page) {
        lease->page_count = cut->page - lease->page;
    } else if (end > cut_end) {
        lease->page = cut_end;
        lease->page_count = end - cut_end;
    } else {
        extent_unlink(&client->extents, lease);
        free(lease);
        spans->taken_count--;
    }
}

struct extent *lease_cut(struct server *server, struct client *client,
                         const struct emu_request *request, int *ret_status)
{
    struct card *const card = &server->cards[request->gpu];
    struct extent *next = NULL;

    *ret_status = CUDA_ERROR_INVALID_VALUE;
    if (request->args[0] % EMU_PAGE_BYTES != 0 || !is_pages(request->args[1]) ||
        request->args[0] >= card->info.space_bytes ||
        request->args[1] > card->info.space_bytes - request->args[0])
        return NULL;
    const struct extent named = { .gpu = request->gpu,
                                  .page = request->args[0] / EMU_PAGE_BYTES,
                                  .page_count = request->args[1] / EMU_PAGE_BYTES };
    if (!is_leased(client, named.gpu, named.page, named.page_count))
        return NULL;
    struct extent *const cut = malloc(sizeof(*cut));
    struct extent *spare = malloc(sizeof(*spare));
    *ret_status = CUDA_ERROR_OUT_OF_MEMORY;
    if (!cut || !spare || spans_expect(&card->spans, 2) < 0) {
        free(cut);
        free(spare);
        return NULL;
    }
    *cut = named;
    for (struct extent *lease = client->extents; lease; lease = next) {
        next = lease->next;
        if (lease->gpu == cut->gpu && overlap(lease, cut->page, cut->page_count) > 0)
            shorten(server, client, lease, cut, &spare);
    }
    free(spare);
    card->spans.taken_count++;
    return cut;
}

/* The process says that it has left no bytes there; they are wiped all the same. */
int lease_close(struct server *server, struct client *client, const struct emu_request *request)
{
    int status = CUDA_SUCCESS;
    struct extent *const extent = lease_cut(server, client, request, &status);

    if (!extent)
        return status;
    extent_link(&server->wipe, extent);
    return CUDA_SUCCESS;
}
