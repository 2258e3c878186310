/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The books of checkpoints: what a process gives back to its cards, what it takes again, what it
 * has to save, and how long that takes.
 *
 * What a process shares with others stays on the card. Its places in the cards' files stay its own,
 * empty, so that the same bytes come to the same addresses.
 */

#include <stdlib.h>

#include "checkpoint.h"
#include "shared.h"

static bool is_of(const struct client *client, pid_t pid)
{
    return client->pid == pid && client->role == EMU_ROLE_CUDA;
}

static bool is_shared(const struct memory *memory)
{
    return memory->export_count > 0 || memory->serial != 0 ||
           (memory->holds && memory->holds->next);
}

static bool shares_memory(const struct server *server, pid_t pid)
{
    for (const struct client *client = server->clients; client; client = client->next) {
        for (const struct hold *hold = is_of(client, pid) ? client->holds : NULL; hold;
             hold = hold->next_of_client) {
            if (is_shared(hold->memory))
                return true;
        }
    }
    return false;
}

bool checkpoint_is_importer(const struct server *server, pid_t pid)
{
    for (const struct client *client = server->clients; client; client = client->next) {
        for (const struct hold *hold = is_of(client, pid) ? client->holds : NULL; hold;
             hold = hold->next_of_client) {
            if (is_shared(hold->memory) && hold->memory->holds != hold)
                return true;
        }
    }
    return false;
}

static bool has_managed_memory(const struct server *server, pid_t pid)
{
    for (const struct client *client = server->clients; client; client = client->next) {
        for (uint32_t gpu = 0; is_of(client, pid) && gpu < server->card_count; gpu++) {
            if (client->managed_bytes[gpu] > 0)
                return true;
        }
    }
    return false;
}

/*
 * Memory that processes share, by driver. 570: refused (NVIDIA's README of cuda-checkpoint). 580:
 * saved, but an importer can never be loaded again; 595: fails after half a minute and the process
 * is lost (both: github.com/VivianSobers/gpunap, validation/FINDINGS.md). 610: refused, but for
 * trees that cuda-checkpoint itself has started (NVIDIA/cuda-checkpoint issue 55).
 *
 * A process with an NCCL process group is lost on 595 as well, and saved on 580 (gpunap,
 * results_gpu1/nccl1_p5_s1.json).
 *
 * Managed memory is refused by all of them; on 595 the context is lost by it, which shows after the
 * unlock (gpunap, results_gpu1/fault_uvm.json and results_gpu2/fault_uvm.json).
 */
struct checkpoint_refusal checkpoint_check(const struct server *server, pid_t pid)
{
    const bool loses = server->options.driver == 595;

    if (has_managed_memory(server, pid))
        return (struct checkpoint_refusal){
            CUDA_ERROR_NOT_SUPPORTED,
            loses ? "has managed memory, and its context is lost by the checkpoint that is refused"
                  : NULL,
            EMU_RESTORE_BREAK,
        };
    if (loses && checkpoint_has_nccl(pid))
        return (struct checkpoint_refusal){
            CUDA_ERROR_OPERATING_SYSTEM,
            "has an NCCL process group, and a checkpoint loses it",
            EMU_RESTORE_FAIL,
        };
    if (!shares_memory(server, pid) || server->options.driver == 580)
        return (struct checkpoint_refusal){ .status = CUDA_SUCCESS };
    if (!loses)
        return (struct checkpoint_refusal){ .status = CUDA_ERROR_NOT_SUPPORTED };
    return (struct checkpoint_refusal){
        CUDA_ERROR_OPERATING_SYSTEM,
        "shares memory with another process, and a checkpoint loses it",
        EMU_RESTORE_FAIL,
    };
}

static uint64_t shared_bytes(const struct client *client, uint32_t gpu)
{
    uint64_t bytes = 0;

    for (const struct hold *hold = client->holds; hold; hold = hold->next_of_client) {
        const struct memory *const memory = hold->memory;
        if (memory->extent->gpu == gpu && memory->holds == hold && is_shared(memory))
            bytes += memory->extent->page_count * EMU_PAGE_BYTES;
    }
    return bytes;
}

uint64_t checkpoint_give_back(struct server *server, pid_t pid)
{
    uint64_t all_bytes = 0;

    for (struct client *client = server->clients; client; client = client->next) {
        for (uint32_t gpu = 0; is_of(client, pid) && gpu < server->card_count; gpu++) {
            managed_leave(server, client, gpu);
            const uint64_t own_bytes = account_bytes(server, client, gpu);
            const uint64_t ours_bytes = client->used_bytes[gpu] - shared_bytes(client, gpu);
            card_release(&server->cards[gpu], own_bytes + ours_bytes);
            client->taken_over_bytes[gpu] += own_bytes;
            client->used_bytes[gpu] -= ours_bytes;
            client->parked_own_bytes[gpu] = own_bytes;
            client->parked_bytes[gpu] = own_bytes + ours_bytes;
            all_bytes += own_bytes + ours_bytes;
        }
    }
    return all_bytes;
}

/* As much as there is, up to what was given back. True: all of it. Then its own part is its own
 * again; a process that got less never runs again, and all is ours to give back. */
static bool take_again(struct card *card, struct client *client, uint32_t gpu)
{
    const uint64_t wanted = client->parked_bytes[gpu];
    uint64_t bytes = 0;

    do {
        const uint64_t free_bytes = card->info.capacity_bytes - card_used(card);
        bytes = wanted <= free_bytes ? wanted : free_bytes / EMU_PAGE_BYTES * EMU_PAGE_BYTES;
    } while (!books_take(&card->at, bytes, card->info.capacity_bytes));
    client->used_bytes[gpu] += bytes;
    client->parked_bytes[gpu] -= bytes;
    if (bytes < wanted)
        return false;
    client->used_bytes[gpu] -= client->parked_own_bytes[gpu];
    client->taken_over_bytes[gpu] -= client->parked_own_bytes[gpu];
    client->parked_own_bytes[gpu] = 0;
    return true;
}

/* Of 3518 MB that were free a restore of 8804 MB kept 3496, and of 8184 it kept 8104, for no
 * process in nvidia-smi (gpunap, results_gpu1/fault_short_far.json and fault_short_near.json). */
int checkpoint_take_again(struct server *server, pid_t pid)
{
    bool is_whole = true;

    for (struct client *client = server->clients; client; client = client->next) {
        for (uint32_t gpu = 0; is_of(client, pid) && gpu < server->card_count && is_whole; gpu++) {
            is_whole = take_again(&server->cards[gpu], client, gpu);
            if (!is_whole)
                card_count_oom(&server->cards[gpu]);
        }
    }
    for (struct client *client = server->clients; client; client = client->next)
        client->is_unlisted = client->is_unlisted || (is_of(client, pid) && !is_whole);
    return is_whole ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static bool is_same_chip(const struct emu_gpu_info *a, const struct emu_gpu_info *b)
{
    return a->compute_major == b->compute_major && a->compute_minor == b->compute_minor &&
           a->multiprocessor_count == b->multiprocessor_count;
}

int checkpoint_check_cards(const struct server *server, pid_t pid, uint32_t cards, uint64_t to)
{
    if (server->options.driver < 580)
        return CUDA_ERROR_NOT_SUPPORTED;
    for (const struct client *client = server->clients; client; client = client->next) {
        for (uint32_t gpu = 0; is_of(client, pid) && gpu < server->card_count; gpu++) {
            const uint32_t new_gpu = (uint32_t)(to >> 4 * gpu) & 0xf;
            if (client->parked_bytes[gpu] == 0)
                continue;
            if ((cards >> gpu & 1) == 0 || new_gpu >= server->card_count ||
                !is_same_chip(&server->cards[gpu].info, &server->cards[new_gpu].info))
                return CUDA_ERROR_INVALID_VALUE;
            if (new_gpu != gpu) /* moving between cards is not emulated */
                return CUDA_ERROR_NOT_SUPPORTED;
        }
    }
    return CUDA_SUCCESS;
}

/*
 * Seconds a save and a load take: a fixed part and so many bytes a second. Fitted to medians of
 * three runs at 1.1 to 21 GB on an RTX 4090 (github.com/VivianSobers/gpunap,
 * validation/FINDINGS.md: 595.84, and 580.178 on a machine with slower host memory); for an H100
 * PCIe NVIDIA/cuda-checkpoint issue 29 tells about 15 s for 80 GB either way.
 */
static const struct rates {
    int driver;
    uint64_t save_mbps, load_mbps, save_fixed_ms, load_fixed_ms;
} rates[] = {
    { 570, 1165, 2285, 118, 99 }, /* as 580: nothing was published */
    { 580, 1165, 2285, 118, 99 },
    { 595, 4270, 7450, 34, 62 },
    { 610, 4270, 7450, 34, 62 }, /* as 595: nothing was published */
};
#define H100_MBPS UINT64_C(5300)

uint64_t checkpoint_time_ns(const struct server *server, pid_t pid, bool is_save)
{
    const struct rates *rate = &rates[0];
    uint64_t ns = 0;

    if (!server->options.is_checkpoint_timed)
        return 0;
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        if (rates[i].driver == server->options.driver)
            rate = &rates[i];
    }
    for (const struct client *client = server->clients; client; client = client->next) {
        for (uint32_t gpu = 0; is_of(client, pid) && gpu < server->card_count; gpu++) {
            const uint64_t bytes =
                is_save ? holding_bytes(server, client, gpu) : client->parked_bytes[gpu];
            const uint64_t mbps = server->cards[gpu].info.compute_major == 9 ? H100_MBPS
                                  : is_save                                  ? rate->save_mbps
                                                                             : rate->load_mbps;
            ns += bytes * 1000 / mbps;
        }
    }
    return ns + (is_save ? rate->save_fixed_ms : rate->load_fixed_ms) * 1000000;
}

static void add_place(const struct extent *extent, uint64_t first, uint64_t *at, uint32_t *count,
                      struct emu_place list[EMU_PLACE_MAX])
{
    if (*at >= first && *count < EMU_PLACE_MAX)
        list[(*count)++] = (struct emu_place){ .gpu = extent->gpu,
                                               .page_count = (uint32_t)extent->page_count,
                                               .offset = extent->page * EMU_PAGE_BYTES };
    ++*at;
}

uint32_t checkpoint_places(const struct server *server, pid_t pid, uint64_t first,
                           struct emu_place list[EMU_PLACE_MAX], uint64_t *ret_all)
{
    uint64_t at = 0;
    uint32_t count = 0;

    for (const struct client *client = server->clients; client; client = client->next) {
        if (!is_of(client, pid))
            continue;
        for (const struct extent *it = client->extents; it; it = it->next)
            add_place(it, first, &at, &count, list);
        for (const struct hold *hold = client->holds; hold; hold = hold->next_of_client) {
            if (!is_shared(hold->memory))
                add_place(hold->memory->extent, first, &at, &count, list);
        }
    }
    *ret_all = at;
    return count;
}

uint64_t checkpoint_image_bytes(const struct server *server)
{
    uint64_t bytes = 0;

    for (const struct client *client = server->clients; client; client = client->next) {
        if (client->checkpoint)
            bytes += client->checkpoint->image_bytes;
    }
    return bytes;
}
