/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_BATCH_H
#define CLI_BATCH_H

#include "base/error.h"
#include "store/segments.h"

/* What the commands that speak of batches share: batch.c has ls, show and cancel, batch_run.c has
 * run, flush.c and logs.c their own. */

int batch_run_command(int argc, char **argv);

/* What is known of a batch by its name. -ENOENT, with a message, where there is none. */
int batch_find(const char *name, struct segments_info *ret_info, struct error *err)
    __attribute__((warn_unused_result));

/* A pidfd of the process that runs it: -ESRCH, with a message, when nobody does. */
int batch_runner(const char *name, const struct segments_info *info, struct error *err)
    __attribute__((warn_unused_result));

#endif
