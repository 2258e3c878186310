/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What one burst costs a program that links libbrim: brim_burst_begin() and brim_burst_end() of one
 * lease, granted at once. Prints burst_us; bench/py_burst.py runs it as the floor of its own.
 */

#include <stdio.h>
#include <stdlib.h>

#include <brim/brim.h>

#include "base/clock.h"
#include "measure.h"

#define COUNT 2000

int main(void)
{
    const struct brim_claim claim = { .struct_bytes = sizeof(claim),
                                      .name = "burst",
                                      .resident_bytes = 1u << 30,
                                      .burst_bytes = 1u << 30,
                                      .max_wait_ms = BRIM_WAIT_FOREVER };
    struct samples samples;
    brim_lease *lease = NULL;
    int r = brim_acquire(&claim, &lease);

    if (r == 0)
        r = brim_ready(lease);
    if (r < 0 || samples_init(&samples, COUNT) < 0) {
        fprintf(stderr, "bench_burst: %s\n", brim_strerror(r));
        return EXIT_FAILURE;
    }
    for (unsigned i = 0; i < COUNT && r == 0; i++) {
        const uint64_t start_ns = clock_now_ns();
        r = brim_burst_begin(lease, 0, BRIM_WAIT_FOREVER);
        if (r == 0)
            r = brim_burst_end(lease);
        samples_add(&samples, clock_now_ns() - start_ns);
    }
    brim_release(lease);
    if (r == 0)
        measure_print("burst_us", samples_percentile(&samples, 50) / 1e3, "us", 0.0, samples.count);
    else
        fprintf(stderr, "bench_burst: %s\n", brim_strerror(r));
    samples_deinit(&samples);
    return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
