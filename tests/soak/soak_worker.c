/* SPDX-License-Identifier: Apache-2.0 */

/*
 * soak_worker: a worker of a batch that holds device memory all the time and takes its burst for
 * each segment, through the driver.
 *
 *   soak_worker RESIDENT BURST TELL
 *
 * The sizes are device bytes beside the CUDA context. Each step goes to the FIFO (or file) TELL in
 * one write, so that a kill never leaves half a line:
 *   begin ID PID      the segment is in work
 *   end ID PID        its result lies complete, and the batch has been told
 *   oom ID PID        the card refused memory that was granted
 * The result is the segment's text and its id, nothing that differs between attempts.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <brim/brim.h>

#include "base/size.h"
#include "driver/cuda.h"

#define TOUCHED_BYTES (64 * KIB) /* of each allocation: written, read back */

struct soak {
    struct driver_cuda driver;
    brim_worker *worker;
    int tell_fd;
    uint64_t resident_bytes, burst_bytes;
};

static void tell(const struct soak *soak, const char *what, const char *id)
{
    char line[96];
    const int bytes = snprintf(line, sizeof(line), "%s %s %d\n", what, id, (int)getpid());

    (void)!write(soak->tell_fd, line, (size_t)bytes);
}

static int complain(const struct error *err)
{
    fprintf(stderr, "soak_worker: %s\n", err->message);
    return EXIT_FAILURE;
}

/* Takes, writes and reads device memory. */
static int take(const struct soak *soak, uint64_t bytes, CUdeviceptr *ret_address,
                struct error *err)
{
    const struct driver_cuda *const driver = &soak->driver;
    unsigned char first = 0;
    int r = driver_cuda_check(driver, driver->alloc(ret_address, bytes), "cuMemAlloc", err);

    if (r == 0)
        r = driver_cuda_check(driver, driver->fill_bytes(*ret_address, 0x5a, TOUCHED_BYTES),
                              "cuMemsetD8", err);
    if (r == 0)
        r = driver_cuda_check(driver, driver->copy_to_host(&first, *ret_address, 1), "cuMemcpyDtoH",
                              err);
    if (r == 0 && first != 0x5a)
        r = error_set(err, -EIO, "the device memory is not what was written to it");
    return r;
}

static int load(struct soak *soak, struct error *err)
{
    CUcontext context = NULL;
    CUdeviceptr model = 0;
    int r = driver_cuda_open(&soak->driver, err);

    if (r == 0)
        r = driver_cuda_check(&soak->driver, soak->driver.primary_retain(&context, 0),
                              "cuDevicePrimaryCtxRetain", err);
    if (r == 0)
        r = driver_cuda_check(&soak->driver, soak->driver.context_set(context), "cuCtxSetCurrent",
                              err);
    return r == 0 ? take(soak, soak->resident_bytes, &model, err) : r;
}

static int write_result(const struct brim_segment *segment)
{
    FILE *const file = fopen(segment->out, "we");

    if (!file)
        return -1;
    fprintf(file, "%s|%s\n", segment->input, segment->id);
    return fclose(file);
}

static int work(struct soak *soak, const struct brim_segment *segment, struct error *err)
{
    CUdeviceptr scratch = 0;
    int r = brim_worker_burst(soak->worker, 0);

    if (r == BRIM_ERR_CANCELLED)
        return 1; /* stopped in place of an answer: the segment has gone back */
    if (r < 0)
        return error_set(err, -EIO, "no burst: %s", brim_strerror(r));
    r = take(soak, soak->burst_bytes, &scratch, err);
    if (r == -ENOMEM)
        tell(soak, "oom", segment->id);
    if (r == 0)
        r = driver_cuda_check(&soak->driver, soak->driver.free(scratch), "cuMemFree", err);
    if (r == 0 && write_result(segment) < 0)
        r = error_set(err, -EIO, "cannot write %s", segment->out);
    return r;
}

static int run(struct soak *soak, struct error *err)
{
    struct brim_segment segment;
    int r = 0;

    while ((r = brim_worker_next(soak->worker, &segment)) == 1) {
        char id[32];

        (void)snprintf(id, sizeof(id), "%s", segment.id);
        tell(soak, "begin", id);
        r = work(soak, &segment, err);
        if (r != 0)
            return r < 0 ? r : 0;
        r = brim_worker_done(soak->worker);
        if (r < 0)
            break; /* the batch has gone */
        tell(soak, "end", id);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct soak soak = { .tell_fd = -1 };
    struct error err = { 0 };

    if (argc != 4 || size_parse(argv[1], &soak.resident_bytes, &err) < 0 ||
        size_parse(argv[2], &soak.burst_bytes, &err) < 0) {
        fprintf(stderr, "usage: soak_worker RESIDENT BURST TELL\n");
        return 2;
    }
    soak.tell_fd = open(argv[3], O_RDWR | O_APPEND | O_CLOEXEC);
    if (soak.tell_fd < 0 || brim_worker_open(&soak.worker) < 0) {
        fprintf(stderr, "soak_worker: needs %s and a batch\n", argv[3]);
        return EXIT_FAILURE;
    }
    int r = load(&soak, &err);
    if (r == -ENOMEM)
        tell(&soak, "oom", "load");
    if (r == 0)
        r = run(&soak, &err);
    brim_worker_close(soak.worker);
    return r < 0 ? complain(&err) : EXIT_SUCCESS;
}
