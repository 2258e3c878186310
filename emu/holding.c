/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What processes hold: contexts and pages, each charged to its card and to one client, and how all
 * of it comes back when the process ends.
 */

#include <stdlib.h>

#include "base/clock.h"
#include "client.h"
#include "cuda/cuda.h"
#include "shared.h"

#define WIPE_PAGES_AT_ONCE UINT64_C(16)

static void link_extent(struct extent **list, struct extent *extent)
{
    extent->previous = NULL;
    extent->next = *list;
    if (*list)
        (*list)->previous = extent;
    *list = extent;
}

static void unlink_extent(struct extent **list, struct extent *extent)
{
    if (extent->previous)
        extent->previous->next = extent->next;
    else
        *list = extent->next;
    if (extent->next)
        extent->next->previous = extent->previous;
}

static void free_place(struct server *server, struct extent *extent)
{
    struct card *const card = &server->cards[extent->gpu];

    spans_give(&card->spans, extent->page, extent->page_count);
    free(extent);
}

/* All that the client held: its places are wiped later, its bytes come back now or after the lag.
 */
void holding_end(struct server *server, struct client *client)
{
    struct late *const late =
        server->options.free_lag_ms > 0 ? calloc(1, sizeof(struct late)) : NULL;

    shared_end(server, client);
    while (client->extents) {
        struct extent *const extent = client->extents;
        unlink_extent(&client->extents, extent);
        server->cards[extent->gpu].by_page[extent->page] = NULL;
        extent->owner = NULL;
        link_extent(&server->wipe, extent);
    }
    for (uint32_t i = 0; i < server->card_count; i++) {
        if (late)
            late->bytes[i] = client->used_bytes[i];
        else
            card_release(&server->cards[i], client->used_bytes[i]);
    }
    if (!late)
        return;
    late->due_ms = clock_after_ms(clock_now_ms(), server->options.free_lag_ms);
    *server->late_last = late;
    server->late_last = &late->next;
}

void holding_settle(struct server *server, uint64_t now_ms)
{
    while (server->late_first && server->late_first->due_ms <= now_ms) {
        struct late *const late = server->late_first;
        for (uint32_t i = 0; i < server->card_count; i++)
            card_release(&server->cards[i], late->bytes[i]);
        server->late_first = late->next;
        if (!server->late_first)
            server->late_last = &server->late_first;
        free(late);
    }
}

bool holding_wipe_some(struct server *server)
{
    struct extent *const extent = server->wipe;

    if (!extent)
        return false;
    struct card *const card = &server->cards[extent->gpu];
    const uint64_t left = card_wipe(card, extent->page, extent->page_count, WIPE_PAGES_AT_ONCE);
    spans_give(&card->spans, extent->page + left, extent->page_count - left);
    if (left > 0) {
        extent->page_count = left;
        card->spans.taken_count++; /* its rest is still one taken span */
        return true;
    }
    unlink_extent(&server->wipe, extent);
    free(extent);
    return server->wipe != NULL;
}

int holding_add_context(struct server *server, struct client *client, uint32_t gpu)
{
    struct card *const card = &server->cards[gpu];

    if (client->contexts[gpu] == UINT32_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    if (client->contexts[gpu] == 0) {
        const int status = managed_charge(server, gpu, card->info.context_bytes);
        if (status != CUDA_SUCCESS)
            return status;
        client->used_bytes[gpu] += card->info.context_bytes;
    }
    client->contexts[gpu]++;
    return CUDA_SUCCESS;
}

int holding_remove_context(struct server *server, struct client *client, uint32_t gpu)
{
    struct card *const card = &server->cards[gpu];

    if (client->contexts[gpu] == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (--client->contexts[gpu] == 0) {
        card_release(card, card->info.context_bytes);
        client->used_bytes[gpu] -= card->info.context_bytes;
    }
    return CUDA_SUCCESS;
}

int holding_alloc(struct server *server, struct client *client, const struct emu_request *request,
                  uint64_t *ret_offset)
{
    struct card *const card = &server->cards[request->gpu];
    const uint64_t bytes = request->args[0];
    struct extent *extent = NULL;

    if (bytes == 0 || bytes % EMU_PAGE_BYTES != 0)
        return CUDA_ERROR_INVALID_VALUE;
    const int status = managed_charge(server, request->gpu, bytes);
    if (status != CUDA_SUCCESS)
        return status;
    extent = calloc(1, sizeof(*extent));
    if (!extent || spans_take(&card->spans, bytes / EMU_PAGE_BYTES, &extent->page) < 0) {
        free(extent);
        card_release(card, bytes);
        card->oom_count++;
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    extent->owner = client;
    extent->gpu = request->gpu;
    extent->page_count = bytes / EMU_PAGE_BYTES;
    link_extent(&client->extents, extent);
    card->by_page[extent->page] = extent;
    card->allocations++;
    client->used_bytes[request->gpu] += bytes;
    *ret_offset = extent->page * EMU_PAGE_BYTES;
    return CUDA_SUCCESS;
}

/* The library has already punched the hole, at its own expense. */
int holding_free(struct server *server, struct client *client, const struct emu_request *request)
{
    struct card *const card = &server->cards[request->gpu];
    const uint64_t page = request->args[0] / EMU_PAGE_BYTES;

    if (request->args[0] >= card->info.space_bytes)
        return CUDA_ERROR_INVALID_VALUE;
    struct extent *const extent = card->by_page[page];
    if (!extent || extent->memory || extent->owner != client)
        return CUDA_ERROR_INVALID_VALUE;
    const uint64_t bytes = extent->page_count * EMU_PAGE_BYTES;
    card->by_page[page] = NULL;
    unlink_extent(&client->extents, extent);
    client->used_bytes[request->gpu] -= bytes;
    card_release(card, bytes);
    free_place(server, extent);
    return CUDA_SUCCESS;
}

void holding_detach(struct client *client, struct extent *extent)
{
    unlink_extent(&client->extents, extent);
    extent->owner = NULL;
    client->used_bytes[extent->gpu] -= extent->page_count * EMU_PAGE_BYTES;
}

void holding_attach(struct client *client, struct extent *extent)
{
    link_extent(&client->extents, extent);
    extent->owner = client;
    extent->memory = NULL;
    client->used_bytes[extent->gpu] += extent->page_count * EMU_PAGE_BYTES;
}

/* Each process once, whatever number of connections it has. */
uint32_t holding_list(const struct server *server, uint32_t gpu,
                      struct emu_process list[EMU_PROCESS_MAX])
{
    uint32_t count = 0;

    for (const struct client *client = server->clients; client; client = client->next) {
        uint32_t at = 0;
        if (client->used_bytes[gpu] == 0 || client->is_unlisted)
            continue;
        while (at < count && list[at].pid != (uint32_t)client->pid)
            at++;
        if (at == EMU_PROCESS_MAX)
            break;
        if (at == count)
            list[count++] = (struct emu_process){ .pid = (uint32_t)client->pid };
        list[at].used_bytes += client->used_bytes[gpu];
    }
    return count;
}

void holding_deinit(struct server *server)
{
    shared_deinit(server);
    while (server->wipe) {
        struct extent *const extent = server->wipe;
        server->wipe = extent->next;
        free_place(server, extent);
    }
    holding_settle(server, CLOCK_NEVER_MS);
}
