/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Managed memory as the server counts it: how much of each process's is on a card. It takes what is
 * free, then what other processes' managed memory has there, and never fails; memory of any other
 * kind takes its place when there is no room, as with the real driver.
 */

#include "client.h"
#include "cuda/cuda.h"

static uint64_t free_bytes(const struct card *card)
{
    return card->info.capacity_bytes - card_used(card);
}

static void give_back(struct card *card, struct client *client, uint32_t gpu, uint64_t bytes)
{
    client->managed_resident_bytes[gpu] -= bytes;
    client->used_bytes[gpu] -= bytes;
    card_release(card, bytes);
}

/* Managed memory goes to the host until so much is free, or none of it is left. What is free
 * changes meanwhile: other processes take and give as they like. */
static void make_room(struct server *server, uint32_t gpu, uint64_t bytes,
                      const struct client *but_not)
{
    struct card *const card = &server->cards[gpu];

    for (struct client *it = server->clients; it; it = it->next) {
        const uint64_t now_free = free_bytes(card);
        if (now_free >= bytes)
            break;
        const uint64_t missing = bytes - now_free;
        const uint64_t there = it->managed_resident_bytes[gpu];
        const uint64_t pages = missing / EMU_PAGE_BYTES + (missing % EMU_PAGE_BYTES != 0);
        if (it != but_not)
            give_back(card, it, gpu,
                      there / EMU_PAGE_BYTES < pages ? there : pages * EMU_PAGE_BYTES);
    }
}

void managed_leave(struct server *server, struct client *client, uint32_t gpu)
{
    give_back(&server->cards[gpu], client, gpu, client->managed_resident_bytes[gpu]);
}

bool managed_make_room(struct server *server, uint32_t gpu, uint64_t bytes)
{
    const struct card *const card = &server->cards[gpu];

    if (bytes <= card->info.capacity_bytes)
        make_room(server, gpu, bytes, NULL);
    return free_bytes(card) >= bytes;
}

int managed_charge(struct server *server, uint32_t gpu, uint64_t bytes)
{
    struct card *const card = &server->cards[gpu];

    while (managed_make_room(server, gpu, bytes)) {
        if (books_take(&card->at, bytes, card->info.capacity_bytes))
            return CUDA_SUCCESS;
    }
    card_count_oom(card);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

int managed_set(struct server *server, struct client *client, const struct emu_request *request,
                uint64_t *ret_resident_bytes)
{
    const uint32_t gpu = request->gpu;
    struct card *const card = &server->cards[gpu];
    uint64_t wanted = request->args[1];

    if (wanted % EMU_PAGE_BYTES != 0)
        return CUDA_ERROR_INVALID_VALUE;
    client->managed_bytes[gpu] = request->args[0];
    give_back(card, client, gpu, client->managed_resident_bytes[gpu]);
    if (wanted > card->info.capacity_bytes)
        wanted = card->info.capacity_bytes / EMU_PAGE_BYTES * EMU_PAGE_BYTES;
    make_room(server, gpu, wanted, client);
    do {
        const uint64_t now_free = free_bytes(card);
        if (wanted > now_free)
            wanted = now_free / EMU_PAGE_BYTES * EMU_PAGE_BYTES;
    } while (!books_take(&card->at, wanted, card->info.capacity_bytes));
    client->managed_resident_bytes[gpu] = wanted;
    client->used_bytes[gpu] += wanted;
    *ret_resident_bytes = wanted;
    return CUDA_SUCCESS;
}
