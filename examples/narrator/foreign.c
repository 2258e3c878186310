/* SPDX-License-Identifier: Apache-2.0 */

/*
 * foreign: a program that knows nothing of Brim and takes GPU memory, as a game or a notebook does.
 *
 *     foreign --bytes 5GB [--least 1GB] [--leave 800MiB]
 *
 * Takes --bytes, or what there is down to --least, and leaves --leave free on the card. Prints
 * "holding BYTES", or "no room" and ends with status 3; checks its canaries and ends when its
 * standard input does.
 */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/size.h"
#include "canary.h"

#define EXIT_USAGE   2
#define EXIT_NO_ROOM 3
#define PIECE_BYTES  (UINT64_C(256) << 20)
#define PIECE_MAX    4096
#define SEED         UINT64_C(0xf0e1)

struct hoard {
    struct gpu *gpu; /* owned */
    uint64_t wanted_bytes, least_bytes, leave_bytes, held_bytes;
    size_t piece_count;
    struct canary_block pieces[PIECE_MAX];
};

static int options_parse(int argc, char **argv, struct hoard *hoard)
{
    static const struct option known[] = {
        { "bytes", required_argument, NULL, 'b' },
        { "least", required_argument, NULL, 'm' },
        { "leave", required_argument, NULL, 'l' },
        { NULL, 0, NULL, 0 },
    };
    struct error err = { 0 };
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == '?')
            return -EINVAL;
        uint64_t *bytes = option == 'b'   ? &hoard->wanted_bytes
                          : option == 'm' ? &hoard->least_bytes
                                          : &hoard->leave_bytes;
        if (size_parse(optarg, bytes, &err) < 0) {
            fprintf(stderr, "foreign: %s\n", err.message);
            return -EINVAL;
        }
    }
    if (hoard->least_bytes == 0)
        hoard->least_bytes = hoard->wanted_bytes;
    return optind == argc && hoard->wanted_bytes > 0 ? 0 : -EINVAL;
}

/* What can be taken now: 0 and *ret_bytes, or GPU_REFUSED. */
static int hoard_size(struct hoard *hoard, uint64_t *ret_bytes, struct error *err)
{
    uint64_t free_bytes = 0;
    int r = gpu_free_bytes(hoard->gpu, &free_bytes, err);
    if (r < 0)
        return r;
    uint64_t bytes = free_bytes > hoard->leave_bytes ? free_bytes - hoard->leave_bytes : 0;
    if (bytes > hoard->wanted_bytes)
        bytes = hoard->wanted_bytes;
    *ret_bytes = bytes - bytes % CANARY_STEP_BYTES;
    return bytes < hoard->least_bytes ? GPU_REFUSED : 0;
}

static int hoard_fill(struct hoard *hoard, struct error *err)
{
    uint64_t bytes = 0;
    int r = hoard_size(hoard, &bytes, err);
    while (r == 0 && hoard->held_bytes < bytes) {
        uint64_t piece_bytes = bytes - hoard->held_bytes;
        if (piece_bytes > PIECE_BYTES)
            piece_bytes = PIECE_BYTES;
        if (hoard->piece_count == PIECE_MAX)
            return error_set(err, -E2BIG, "more than %d pieces", PIECE_MAX);
        struct canary_block *piece = &hoard->pieces[hoard->piece_count];
        r = canary_alloc(hoard->gpu, piece_bytes, SEED + hoard->piece_count, piece, err);
        if (r != 0)
            return r;
        hoard->piece_count++;
        hoard->held_bytes += piece_bytes;
        r = canary_write(hoard->gpu, piece, err);
    }
    return r;
}

static void wait_for_dismissal(const struct hoard *hoard)
{
    char byte;
    printf("holding %" PRIu64 "\n", hoard->held_bytes);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
}

static int hoard_check(struct hoard *hoard, struct error *err)
{
    for (size_t i = 0; i < hoard->piece_count; i++) {
        int r = canary_check(hoard->gpu, &hoard->pieces[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct hoard hoard;
    struct error err = { 0 };
    if (options_parse(argc, argv, &hoard) < 0) {
        fprintf(stderr, "usage: foreign --bytes SIZE [--leave SIZE]\n");
        return EXIT_USAGE;
    }
    int r = gpu_open(&hoard.gpu, &err);
    if (r == 0)
        r = hoard_fill(&hoard, &err);
    if (r == 0) {
        wait_for_dismissal(&hoard);
        r = hoard_check(&hoard, &err);
    }
    if (r < 0)
        fprintf(stderr, "foreign: %s\n", err.message);
    if (r == GPU_REFUSED)
        printf("no room\n");
    gpu_close(hoard.gpu);
    return r == 0 ? EXIT_SUCCESS : r < 0 ? EXIT_FAILURE : EXIT_NO_ROOM;
}
