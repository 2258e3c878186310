/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_BATCH_FLAGS_H
#define CLI_BATCH_FLAGS_H

#include <stdbool.h>

#include "stack/stack.h"

/* What `brim batch run` was told: a batch of brim.yaml, or flags alone, or flags over the file. */
struct batch_flags {
    struct stack_batch spec; /* owned: end it with stack_batch_deinit(), also on failure */
    const char *file;        /* borrowed, as summary; NULL: none */
    const char *summary;
    bool starts_over;
    bool is_detached;
};

/* -1: go on; otherwise it is told and this is the status to end with. */
int batch_flags_read(struct batch_flags *flags, int argc, char **argv);

#endif
