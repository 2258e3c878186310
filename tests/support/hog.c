/* SPDX-License-Identifier: Apache-2.0 */

/*
 * hog: takes device memory and holds it, as a program does that knows nothing of Brim.
 *
 *   hog --bytes 5GB [--chunk 256MiB] [--gpu 0]
 *
 * Prints "holding BYTES" once it has all of it and ends when its standard input does, or by
 * SIGTERM. When the card refuses it prints "oom asked N free N" and exits with 3.
 */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/size.h"
#include "driver/cuda.h"

#define EXIT_OOM 3

struct wish {
    uint64_t bytes, chunk_bytes;
    int gpu;
};

static int wish_read(struct wish *wish, int argc, char **argv)
{
    static const struct option known[] = { { "bytes", required_argument, NULL, 'b' },
                                           { "chunk", required_argument, NULL, 'c' },
                                           { "gpu", required_argument, NULL, 'g' },
                                           { NULL, 0, NULL, 0 } };
    struct error err = { 0 };
    int option = 0, r = 0;

    while (r == 0 && (option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'b')
            r = size_parse(optarg, &wish->bytes, &err);
        else if (option == 'c')
            r = size_parse(optarg, &wish->chunk_bytes, &err);
        else if (option == 'g')
            wish->gpu = (int)strtol(optarg, NULL, 10);
        else
            r = -EINVAL;
    }
    if (r == 0 && wish->bytes > 0)
        return 0;
    fprintf(stderr, "hog: %s\n", err.message[0] ? err.message : "usage: hog --bytes SIZE");
    return -EINVAL;
}

static int refused(const struct driver_cuda *driver, uint64_t asked_bytes)
{
    size_t free_bytes = 0, total_bytes = 0;

    (void)driver->memory_info(&free_bytes, &total_bytes);
    printf("oom asked %" PRIu64 " free %zu\n", asked_bytes, free_bytes);
    return EXIT_OOM;
}

/* 0, EXIT_OOM or EXIT_FAILURE. */
static int take(const struct driver_cuda *driver, const struct wish *wish)
{
    struct error err = { 0 };
    CUcontext context = NULL;
    CUdeviceptr address = 0;
    int r = driver_cuda_check(driver, driver->primary_retain(&context, wish->gpu),
                              "cuDevicePrimaryCtxRetain", &err);

    if (r == 0)
        r = driver_cuda_check(driver, driver->context_set(context), "cuCtxSetCurrent", &err);
    if (r == -ENOMEM) {
        printf("oom asked %" PRIu64 " free 0\n", wish->bytes); /* no room for the context */
        return EXIT_OOM;
    }
    for (uint64_t taken = 0, now = 0; r == 0 && taken < wish->bytes; taken += now) {
        now = wish->bytes - taken;
        if (wish->chunk_bytes > 0 && now > wish->chunk_bytes)
            now = wish->chunk_bytes;
        r = driver_cuda_check(driver, driver->alloc(&address, now), "cuMemAlloc", &err);
        if (r == -ENOMEM)
            return refused(driver, now);
    }
    if (r < 0)
        fprintf(stderr, "hog: %s\n", err.message);
    return r < 0 ? EXIT_FAILURE : 0;
}

int main(int argc, char **argv)
{
    struct driver_cuda driver;
    struct wish wish = { 0 };
    struct error err = { 0 };
    char byte = 0;

    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (wish_read(&wish, argc, argv) < 0)
        return 2;
    if (driver_cuda_open(&driver, &err) < 0) {
        fprintf(stderr, "hog: %s\n", err.message);
        return EXIT_FAILURE;
    }
    const int status = take(&driver, &wish);
    if (status != 0)
        return status;
    printf("holding %" PRIu64 "\n", wish.bytes);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    return 0;
}
