/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_SUGGEST_H
#define BASE_SUGGEST_H

#include <stddef.h>

/*
 * "Did you mean …?": the candidate that is nearest to a word that nobody knows, by the count of
 * letters to insert, delete, replace or swap with their neighbour. NULL where even the nearest is
 * too far away to be a slip of the finger (more than a third of the word). A NULL candidate is
 * skipped; the first of equals wins. The result is one of the candidates.
 */
const char *suggest_nearest(const char *word, const char *const *candidates, size_t count);

#endif
