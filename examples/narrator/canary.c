/* SPDX-License-Identifier: Apache-2.0 */
#include "canary.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define PAGE_WORDS (CANARY_PAGE_BYTES / sizeof(uint64_t))

static uint64_t page_count(const struct canary_block *block)
{
    return (block->bytes + CANARY_STEP_BYTES - 1) / CANARY_STEP_BYTES;
}

/* The last step may be shorter than a page. */
static uint64_t page_bytes(const struct canary_block *block, uint64_t index)
{
    uint64_t left_bytes = block->bytes - index * CANARY_STEP_BYTES;
    return left_bytes < CANARY_PAGE_BYTES ? left_bytes : CANARY_PAGE_BYTES;
}

/* splitmix64: every word differs from its neighbours, and from those of any other page. */
static uint64_t next_word(uint64_t *state)
{
    uint64_t word = *state += UINT64_C(0x9e3779b97f4a7c15);
    word = (word ^ (word >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    word = (word ^ (word >> 27)) * UINT64_C(0x94d049bb133111eb);
    return word ^ (word >> 31);
}

static void page_fill(uint64_t page[PAGE_WORDS], uint64_t seed, uint64_t index)
{
    uint64_t state = seed ^ (index << 32);
    for (size_t i = 0; i < PAGE_WORDS; i++)
        page[i] = next_word(&state);
}

int canary_alloc(struct gpu *gpu, uint64_t bytes, uint64_t seed, struct canary_block *ret_block,
                 struct error *err)
{
    uint64_t address = 0;
    int r = gpu_alloc(gpu, bytes, &address, err);
    if (r == 0)
        *ret_block = (struct canary_block){ .address = address, .bytes = bytes, .seed = seed };
    return r;
}

int canary_free(struct gpu *gpu, struct canary_block *block, struct error *err)
{
    if (block->address == 0)
        return 0;
    int r = gpu_free(gpu, block->address, err);
    *block = (struct canary_block){ 0 };
    return r;
}

int canary_write(struct gpu *gpu, const struct canary_block *block, struct error *err)
{
    uint64_t page[PAGE_WORDS];
    for (uint64_t i = 0; i < page_count(block); i++) {
        page_fill(page, block->seed, i);
        int r =
            gpu_write(gpu, block->address + i * CANARY_STEP_BYTES, page, page_bytes(block, i), err);
        if (r < 0)
            return r;
    }
    return 0;
}

int canary_check(struct gpu *gpu, const struct canary_block *block, struct error *err)
{
    uint64_t page[PAGE_WORDS], wanted[PAGE_WORDS];
    for (uint64_t i = 0; i < page_count(block); i++) {
        uint64_t address = block->address + i * CANARY_STEP_BYTES;
        int r = gpu_read(gpu, address, page, page_bytes(block, i), err);
        if (r < 0)
            return r;
        page_fill(wanted, block->seed, i);
        if (memcmp(page, wanted, page_bytes(block, i)) != 0)
            return error_set(err, -EBADMSG,
                             "device memory at 0x%" PRIx64
                             " is not as this process left it: somebody else writes there",
                             address);
    }
    return 0;
}

size_t canary_pages_bytes(const struct canary_block *block)
{
    return page_count(block) * CANARY_PAGE_BYTES;
}

int canary_save(struct gpu *gpu, const struct canary_block *block, void *ret_pages,
                struct error *err)
{
    uint8_t *pages = ret_pages;
    for (uint64_t i = 0; i < page_count(block); i++) {
        int r = gpu_read(gpu, block->address + i * CANARY_STEP_BYTES, pages + i * CANARY_PAGE_BYTES,
                         page_bytes(block, i), err);
        if (r < 0)
            return r;
    }
    return 0;
}

int canary_restore(struct gpu *gpu, const struct canary_block *block, const void *pages,
                   struct error *err)
{
    const uint8_t *from = pages;
    for (uint64_t i = 0; i < page_count(block); i++) {
        int r = gpu_write(gpu, block->address + i * CANARY_STEP_BYTES, from + i * CANARY_PAGE_BYTES,
                          page_bytes(block, i), err);
        if (r < 0)
            return r;
    }
    return 0;
}
