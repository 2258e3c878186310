/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

/*
 * What the benches share: samples, their percentiles, and the line that a figure is printed as:
 * {"key": …, "value": …, "unit": …, "reference": … or null, "ratio": … or null, "n": …}
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct samples {
    uint64_t *values; /* owned */
    size_t count, room;
};

static inline int samples_init(struct samples *samples, size_t room)
{
    samples->values = calloc(room, sizeof(*samples->values));
    samples->count = 0;
    samples->room = samples->values ? room : 0;
    return samples->values ? 0 : -1;
}

static inline void samples_deinit(struct samples *samples)
{
    free(samples->values);
    *samples = (struct samples){ 0 };
}

static inline void samples_add(struct samples *samples, uint64_t value)
{
    if (samples->count < samples->room)
        samples->values[samples->count++] = value;
}

static inline int samples_compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

/* The value that `percent` of the samples do not exceed. Sorts them. */
static inline double samples_percentile(struct samples *samples, unsigned percent)
{
    if (samples->count == 0)
        return 0.0;
    qsort(samples->values, samples->count, sizeof(*samples->values), samples_compare);
    return (double)samples->values[(samples->count - 1) * percent / 100];
}

/* reference 0: there is none. */
static inline void measure_print(const char *key, double value, const char *unit, double reference,
                                 size_t count)
{
    printf("{\"key\": \"%s\", \"value\": %.3f, \"unit\": \"%s\", ", key, value, unit);
    if (reference > 0.0)
        printf("\"reference\": %.3f, \"ratio\": %.3f, ", reference, value / reference);
    else
        printf("\"reference\": null, \"ratio\": null, ");
    printf("\"n\": %zu}\n", count);
    (void)fflush(stdout);
}

#endif
