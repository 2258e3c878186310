/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_TEMPLATE_H
#define BATCH_TEMPLATE_H

/*
 * ${SEGMENT}, ${INPUT} and ${OUT} in arguments and in the output's path. Replaced in one pass, so
 * that what stands in an input is never replaced in turn; any other ${...} stays as it is. Pure.
 */

struct template_values {
    const char *segment; /* borrowed, as the others; NULL: stays as it is */
    const char *input;
    const char *out;
};

/* Fresh text, the caller's to free; NULL when memory is out. */
char *template_expand(const char *text, const struct template_values *values);

#endif
