/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A gpu: what it has, what is in use, and the sparse file that holds the bytes.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "cuda/cuda.h"
#include "server.h"

/* A name made from what the card is: the same command line gives the same card again, so that what
 * was learned about it under --state is found. FNV-1a, twice, with the version bits of RFC 4122. */
static void make_uuid(struct card *card, uint32_t index)
{
    char text[160];
    unsigned char *const id = card->info.uuid;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    (void)snprintf(text, sizeof(text), "brim emulated gpu %u %s %s %llu", index, card->profile,
                   card->info.product, (unsigned long long)card->info.capacity_bytes);
    for (int half = 0; half < 2; half++) {
        for (const char *c = text; *c; c++)
            hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
        memcpy(id + (size_t)half * 8, &hash, 8);
    }
    id[6] = (unsigned char)((id[6] & 0x0f) | 0x40);
    id[8] = (unsigned char)((id[8] & 0x3f) | 0x80);
    (void)snprintf(card->uuid, sizeof(card->uuid),
                   "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                   id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7], id[8], id[9], id[10],
                   id[11], id[12], id[13], id[14], id[15]);
}

int card_open(struct card *card, uint32_t index, struct error *err)
{
    const uint64_t page_count = card->info.capacity_bytes / EMU_PAGE_BYTES * EMU_SPARE;

    make_uuid(card, index);
    card->info.space_bytes = page_count * EMU_PAGE_BYTES;
    card->memfd = memfd_create("brim-emulated-gpu", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (card->memfd < 0)
        return error_set(err, -errno, "memfd_create: %s", strerror(errno));
    /* Sealed, so that no program can cut the file short under the others. */
    if (ftruncate(card->memfd, (off_t)card->info.space_bytes) < 0 ||
        fcntl(card->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return error_set(err, -errno, "the gpu's memory file: %s", strerror(errno));
    card->by_page = calloc(page_count, sizeof(struct extent *));
    if (!card->by_page || spans_init(&card->spans, page_count) < 0)
        return error_set(err, -ENOMEM, "out of host memory");
    return 0;
}

void card_close(struct card *card)
{
    fd_close(&card->memfd);
    spans_deinit(&card->spans);
    free(card->by_page);
    card->by_page = NULL;
}

int card_charge(struct card *card, uint64_t bytes)
{
    if (books_take(&card->at, bytes, card->info.capacity_bytes))
        return CUDA_SUCCESS;
    card_count_oom(card);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

void card_count_oom(const struct card *card)
{
    (void)atomic_fetch_add(&card->at.books->cards[card->at.card].oom_count, 1);
}

void card_release(struct card *card, uint64_t bytes)
{
    books_give(&card->at, bytes);
}

uint64_t card_used(const struct card *card)
{
    return books_used_bytes(card->at.books, card->at.card);
}

uint64_t card_wipe(struct card *card, uint64_t page, uint64_t page_count, uint64_t limit)
{
    const uint64_t now = page_count < limit ? page_count : limit;

    /* Last pages first, so that the extent keeps its start. Failing leaves old bytes in place, as
     * a real card would. */
    (void)fallocate(card->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    (off_t)((page + page_count - now) * EMU_PAGE_BYTES),
                    (off_t)(now * EMU_PAGE_BYTES));
    return page_count - now;
}
