/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker of a batch over libbrim, with device memory: each segment's output is its input in
 * capitals. It is what the tests kill.
 *
 *     segment_worker BYTES [GATE]
 *
 * GATE is a FIFO: each segment begins when a byte has come from it.
 */

#include <ctype.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <brim/brim.h>

#include "cuda/cuda.h"

#define SYMBOL(library, name) ((__typeof__(&name))dlsym(library, #name))

static int take_memory(size_t bytes)
{
    void *const library = dlopen("libcuda.so.1", RTLD_NOW);
    CUcontext context = NULL;
    CUdeviceptr address = 0;

    if (!library || SYMBOL(library, cuInit)(0) != CUDA_SUCCESS ||
        SYMBOL(library, cuDevicePrimaryCtxRetain)(&context, 0) != CUDA_SUCCESS ||
        SYMBOL(library, cuCtxSetCurrent)(context) != CUDA_SUCCESS)
        return -1;
    return SYMBOL(library, cuMemAlloc_v2)(&address, bytes) == CUDA_SUCCESS ? 0 : -1;
}

static int work(const struct brim_segment *segment)
{
    FILE *const out = fopen(segment->out, "we");

    if (!out)
        return -1;
    for (const char *at = segment->input; *at; at++)
        (void)fputc((toupper)((unsigned char)*at), out); /* the function: the macro nests deep */
    (void)fputc('\n', out);
    return fclose(out);
}

int main(int argc, char **argv)
{
    const int gate_fd = argc == 3 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
    struct brim_segment segment;
    brim_worker *worker = NULL;
    char byte = 0;

    if (argc < 2 || take_memory(strtoull(argv[1], NULL, 10)) < 0 || brim_worker_open(&worker) < 0)
        return EXIT_FAILURE;
    while (brim_worker_next(worker, &segment) > 0) {
        if ((gate_fd < 0 || read(gate_fd, &byte, 1) == 1) && work(&segment) == 0)
            (void)brim_worker_done(worker);
        else
            (void)brim_worker_failed(worker, "its output cannot be written");
    }
    brim_worker_close(worker);
    return EXIT_SUCCESS;
}
