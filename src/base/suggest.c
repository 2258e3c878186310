/* SPDX-License-Identifier: Apache-2.0 */

#include "base/suggest.h"

#include <string.h>

#define WORD_MAX 47 /* what is longer was no slip of the finger */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment distance: three rows of the usual table are enough. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][WORD_MAX + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];

    for (size_t j = 0; j <= b_length; j++)
        above[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            row[j] = smaller(above[j], row[j - 1]) + 1;
            row[j] = smaller(row[j], above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = smaller(row[j], before[j - 2] + 1);
        }
        size_t *const oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[b_length];
}

const char *suggest_nearest(const char *word, const char *const *candidates, size_t count)
{
    const size_t length = strnlen(word, WORD_MAX + 1);
    const char *best = NULL;
    size_t best_distance = length / 3 + (length == 2) + 1;

    if (length > WORD_MAX)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        const size_t other = candidates[i] ? strnlen(candidates[i], WORD_MAX + 1) : WORD_MAX + 1;
        if (other > WORD_MAX)
            continue;
        if (length >= 3 && strncmp(word, candidates[i], length) == 0)
            return candidates[i]; /* its beginning: the rest was forgotten */
        const size_t found = distance(word, length, candidates[i], other);
        if (found < best_distance) {
            best_distance = found;
            best = candidates[i];
        }
    }
    return best;
}
