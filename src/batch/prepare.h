/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_PREPARE_H
#define BATCH_PREPARE_H

#include <signal.h>

#include "batch/run.h"

/* The beginning of a run: lock, store, input, what is done already, strays of the last run. */
int run_prepare(const struct stack_batch *spec, const struct batch_options *options,
                struct run **ret_run, struct error *err) __attribute__((warn_unused_result));

/* -EEXIST, with a message, where another batch has its results at this output pattern. */
int run_check_output(const struct batch_options *options, const char *output, struct error *err)
    __attribute__((warn_unused_result));

/* From here SIGINT, SIGTERM, SIGUSR1 and SIGHUP come through run->signal_fd. */
int run_take_signals(struct run *run, sigset_t *ret_before, struct error *err)
    __attribute__((warn_unused_result));

#endif
