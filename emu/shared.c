/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory with references, and their ends: a released handle, a closed descriptor, a dead process.
 */

#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "cuda/cuda.h"

static uint64_t memory_bytes(const struct memory *memory)
{
    return memory->extent->page_count * EMU_PAGE_BYTES;
}

static struct hold *find_hold(const struct memory *memory, const struct client *client)
{
    for (struct hold *hold = memory->holds; hold; hold = hold->next) {
        if (hold->client == client)
            return hold;
    }
    return NULL;
}

/* What a request names, if the client holds it. */
static struct hold *find_named(const struct server *server, const struct client *client,
                               const struct emu_request *request)
{
    const struct card *const card = &server->cards[request->gpu];
    const struct extent *const extent = request->args[0] < card->info.space_bytes
                                            ? card->by_page[request->args[0] / EMU_PAGE_BYTES]
                                            : NULL;

    return extent && extent->memory ? find_hold(extent->memory, client) : NULL;
}

static int add_hold(struct memory *memory, struct client *client)
{
    struct hold **last = &memory->holds;
    struct hold *const known = find_hold(memory, client);

    if (known) {
        known->count++;
        return 0;
    }
    struct hold *const hold = calloc(1, sizeof(*hold));
    if (!hold)
        return -ENOMEM;
    while (*last)
        last = &(*last)->next;
    *last = hold;
    hold->memory = memory;
    hold->client = client;
    hold->count = 1;
    hold->next_of_client = client->holds;
    if (hold->next_of_client)
        hold->next_of_client->previous_of_client = hold;
    client->holds = hold;
    if (memory->holds == hold)
        client->used_bytes[memory->extent->gpu] += memory_bytes(memory);
    return 0;
}

/* Nobody refers to it any more. Its place is wiped before anybody gets it again. */
static void memory_free(struct server *server, struct memory *memory)
{
    struct extent *const extent = memory->extent;

    server->cards[extent->gpu].by_page[extent->page] = NULL;
    extent->memory = NULL;
    extent_link(&server->wipe, extent);
    free(memory);
}

/* Takes the hold away. True if the memory has gone with it: its bytes still count for the client,
 * who gives them back now or late. Else they count for the next in line. */
static bool remove_hold(struct server *server, struct hold *hold)
{
    struct memory *const memory = hold->memory;
    struct client *const client = hold->client;
    const uint32_t gpu = memory->extent->gpu;
    const bool is_charged = memory->holds == hold;
    struct hold **link = &memory->holds;

    while (*link != hold)
        link = &(*link)->next;
    *link = hold->next;
    if (hold->previous_of_client)
        hold->previous_of_client->next_of_client = hold->next_of_client;
    else
        client->holds = hold->next_of_client;
    if (hold->next_of_client)
        hold->next_of_client->previous_of_client = hold->previous_of_client;
    free(hold);
    if (!memory->holds && memory->export_count == 0) {
        memory_free(server, memory);
        return true;
    }
    if (is_charged) {
        client->used_bytes[gpu] -= memory_bytes(memory);
        if (memory->holds)
            memory->holds->client->used_bytes[gpu] += memory_bytes(memory);
    }
    return false;
}

int shared_adopt(struct server *server, struct client *client, const struct emu_request *request)
{
    const uint32_t gpu = request->gpu;
    int status = CUDA_ERROR_OUT_OF_MEMORY;

    if (request->args[1] > account_bytes(server, client, gpu))
        return CUDA_ERROR_INVALID_VALUE;
    struct memory *const memory = calloc(1, sizeof(*memory));
    if (!memory)
        return status;
    memory->extent = lease_cut(server, client, request, &status);
    if (!memory->extent) {
        free(memory);
        return status;
    }
    if (add_hold(memory, client) < 0) {
        extent_link(&client->extents, memory->extent);
        free(memory);
        return status;
    }
    memory->extent->memory = memory;
    server->cards[gpu].by_page[memory->extent->page] = memory->extent;
    client->taken_over_bytes[gpu] += request->args[1];
    return CUDA_SUCCESS;
}

static uint64_t count_holders(const struct memory *memory)
{
    uint64_t count = 0;

    for (const struct hold *hold = memory->holds; hold; hold = hold->next)
        count++;
    return count;
}

int shared_drop(struct server *server, struct client *client, const struct emu_request *request,
                uint64_t *ret_holders)
{
    struct hold *const hold = find_named(server, client, request);

    if (!hold)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_holders = count_holders(hold->memory);
    if (--hold->count > 0)
        return CUDA_SUCCESS;
    --*ret_holders;
    const uint64_t bytes = memory_bytes(hold->memory);
    if (remove_hold(server, hold)) {
        client->used_bytes[request->gpu] -= bytes;
        card_release(&server->cards[request->gpu], bytes);
    }
    return CUDA_SUCCESS;
}

static void export_close(struct server *server, struct export *export)
{
    struct memory *const memory = export->memory;
    struct export **link = &server->exports;

    while (*link != export)
        link = &(*link)->next;
    *link = export->next;
    server_unwatch(server, &export->watch);
    fd_close(&export->fd);
    free(export);
    if (--memory->export_count > 0 || memory->holds)
        return;
    card_release(&server->cards[memory->extent->gpu], memory_bytes(memory));
    memory_free(server, memory);
}

/* The last copy of the descriptor is closed; or somebody writes into it, which is read away. */
static void on_export(struct server *server, struct watch *watch)
{
    struct export *const export = (struct export *)((char *)watch - offsetof(struct export, watch));
    char bytes[256];

    if (read(export->fd, bytes, sizeof(bytes)) == 0)
        export_close(server, export);
}

int shared_export(struct server *server, struct client *client, const struct emu_request *request,
                  int *ret_fd)
{
    const struct hold *const hold = find_named(server, client, request);
    struct stat file = { 0 };
    int ends[2] = { -1, -1 };

    if (!hold)
        return CUDA_ERROR_INVALID_VALUE;
    struct export *const export = calloc(1, sizeof(*export));
    if (!export || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0 || fstat(ends[0], &file) < 0)
        goto fail;
    *export = (struct export){ .memory = hold->memory,
                               .watch = { on_export, ends[0] },
                               .fd = ends[0],
                               .device = file.st_dev,
                               .inode = file.st_ino };
    if (server_watch(server, &export->watch) < 0 || account_watch(server, export->fd, EPOLLIN) < 0)
        goto fail;
    export->next = server->exports;
    server->exports = export;
    hold->memory->export_count++;
    *ret_fd = ends[1];
    return CUDA_SUCCESS;
fail:
    fd_close(&ends[0]);
    fd_close(&ends[1]);
    free(export);
    return CUDA_ERROR_OPERATING_SYSTEM;
}

int shared_import(struct server *server, struct client *client, int fd, uint64_t ret_values[3])
{
    const struct export *export = server->exports;
    struct stat file = { 0 };

    if (fd < 0 || fstat(fd, &file) < 0)
        return CUDA_ERROR_INVALID_VALUE;
    while (export && (export->device != file.st_dev || export->inode != file.st_ino))
        export = export->next;
    if (!export)
        return CUDA_ERROR_INVALID_VALUE;
    if (add_hold(export->memory, client) < 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    const struct extent *const extent = export->memory->extent;
    ret_values[0] = extent->page * EMU_PAGE_BYTES;
    ret_values[1] = extent->page_count * EMU_PAGE_BYTES;
    ret_values[2] = extent->gpu;
    return CUDA_SUCCESS;
}

int shared_share(struct server *server, struct client *client, const struct emu_request *request,
                 uint64_t *ret_serial)
{
    const struct hold *const hold = find_named(server, client, request);

    if (!hold)
        return CUDA_ERROR_INVALID_VALUE;
    if (hold->memory->serial == 0)
        hold->memory->serial = ++server->last_serial;
    *ret_serial = hold->memory->serial;
    return CUDA_SUCCESS;
}

int shared_open(struct server *server, struct client *client, const struct emu_request *request,
                uint64_t *ret_bytes)
{
    const struct card *const card = &server->cards[request->gpu];
    const struct extent *const extent = request->args[0] < card->info.space_bytes
                                            ? card->by_page[request->args[0] / EMU_PAGE_BYTES]
                                            : NULL;

    if (!extent || !extent->memory || extent->memory->serial == 0 ||
        extent->memory->serial != request->args[1])
        return CUDA_ERROR_INVALID_HANDLE;
    if (add_hold(extent->memory, client) < 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    *ret_bytes = memory_bytes(extent->memory);
    return CUDA_SUCCESS;
}

void shared_end(struct server *server, struct client *client)
{
    while (client->holds)
        (void)remove_hold(server, client->holds);
}

void shared_deinit(struct server *server)
{
    while (server->exports)
        export_close(server, server->exports);
}
