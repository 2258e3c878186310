/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What processes hold: contexts and pages, each charged to its card and to one client, and how all
 * of it comes back when the process ends.
 */

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "client.h"
#include "cuda/cuda.h"
#include "shared.h"

#define WIPE_PAGES_AT_ONCE UINT64_C(16)

static void free_place(struct server *server, struct extent *extent)
{
    struct card *const card = &server->cards[extent->gpu];

    spans_give(&card->spans, extent->page, extent->page_count);
    free(extent);
}

uint64_t holding_bytes(const struct server *server, const struct client *client, uint32_t gpu)
{
    return client->used_bytes[gpu] + account_bytes(server, client, gpu);
}

/* Moves what the client holds into bytes: it holds nothing any more. True if that is something. */
static bool collect(struct server *server, struct client *client, uint64_t bytes[EMU_GPU_MAX])
{
    bool is_some = false;

    for (uint32_t i = 0; i < server->card_count; i++) {
        const uint64_t charged_bytes = account_bytes(server, client, i);
        bytes[i] = client->used_bytes[i] + charged_bytes;
        client->used_bytes[i] = 0;
        client->taken_over_bytes[i] += charged_bytes;
        is_some = is_some || bytes[i] > 0;
    }
    return is_some;
}

void holding_end(struct server *server, struct client *client)
{
    struct late *const late =
        server->options.free_lag_ms > 0 ? calloc(1, sizeof(struct late)) : NULL;
    uint64_t bytes[EMU_GPU_MAX] = { 0 };

    shared_end(server, client);
    while (client->extents) {
        struct extent *const extent = client->extents;
        extent_unlink(&client->extents, extent);
        extent_link(&server->wipe, extent);
    }
    if (!collect(server, client, bytes) || !late) {
        for (uint32_t i = 0; i < server->card_count; i++)
            card_release(&server->cards[i], bytes[i]);
        free(late);
        return;
    }
    memcpy(late->bytes, bytes, sizeof(bytes));
    late->due_ms = clock_after_ms(clock_now_ms(), server->options.free_lag_ms);
    struct late **link = &server->late_first; /* by their time, for the lag may have been longer */
    while (*link && (*link)->due_ms <= late->due_ms)
        link = &(*link)->next;
    late->next = *link;
    *link = late;
}

void holding_settle(struct server *server, uint64_t now_ms)
{
    while (server->late_first && server->late_first->due_ms <= now_ms) {
        struct late *const late = server->late_first;
        for (uint32_t i = 0; i < server->card_count; i++)
            card_release(&server->cards[i], late->bytes[i]);
        server->late_first = late->next;
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
    extent_unlink(&server->wipe, extent);
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

/* Each process once, whatever number of connections it has. */
uint32_t holding_list(const struct server *server, uint32_t gpu,
                      struct emu_process list[EMU_PROCESS_MAX])
{
    uint32_t count = 0;

    for (const struct client *client = server->clients; client; client = client->next) {
        uint32_t at = 0;
        const uint64_t bytes = holding_bytes(server, client, gpu);
        if (bytes == 0 || client->is_unlisted)
            continue;
        while (at < count && list[at].pid != (uint32_t)client->pid)
            at++;
        if (at == EMU_PROCESS_MAX)
            break;
        if (at == count)
            list[count++] = (struct emu_process){ .pid = (uint32_t)client->pid };
        list[at].used_bytes += bytes;
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
