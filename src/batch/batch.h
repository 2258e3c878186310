/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_BATCH_H
#define BATCH_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/paths.h"
#include "stack/stack.h"

/*
 * Batch: identical workers take segments from a durable queue, as many as the gpu holds right now.
 * docs/internals/batch.md tells the whole story; this is the door for the command line.
 */

/* Files of a batch's directory, $STATE/batches/NAME: batch.db (store/segments.h) and */
#define BATCH_LOG_NAME        "batch.log"
#define BATCH_WORKER_LOG_NAME "worker-%u.log" /* 1 ... */

enum batch_end {
    BATCH_END_DONE = 0,    /* every segment is done */
    BATCH_END_INCOMPLETE,  /* some were set aside */
    BATCH_END_INTERRUPTED, /* by a signal; what is done stays done */
    BATCH_END_NEVER_FITS,  /* a worker is larger than any gpu */
};

struct batch_options {
    const char *dir;          /* borrowed: the batch's directory */
    const char *summary_path; /* borrowed; NULL: none */
    bool starts_over;         /* --again */
    bool is_detached;         /* lines go to the log alone */
    int ready_fd;             /* one byte is written here when the batch is under way; -1: none */
    /* What the driver shows for a lease's processes, for flush.on_growth; 0 or negative. NULL:
     * cannot be asked. */
    int (*measure)(uint64_t lease_id, uint64_t *ret_bytes);
};

struct batch_result {
    enum batch_end end;
    int signal_number; /* INTERRUPTED */
    bool is_told;      /* a failure's reason is already among the lines */
};

/* Run it to its end; blocks, takes over SIGINT, SIGTERM, SIGHUP and SIGUSR1 meanwhile. Negative,
 * with a message, when it could not run or had to give up; the reason of NEVER_FITS is in *err,
 * too. */
int batch_run(const struct stack_batch *spec, const struct batch_options *options,
              struct batch_result *ret_result, struct error *err)
    __attribute__((warn_unused_result));

/* $STATE/batches and $STATE/batches/NAME, as text. */
int batch_root_dir(char ret_path[PATHS_BYTES], struct error *err);
int batch_dir(const char *name, char ret_path[PATHS_BYTES], struct error *err);

/* Whether the command can be found (on PATH, or where its path says): -ENOENT or -EACCES with a
 * message, before anything is asked for. */
int batch_check_command(const struct stack_batch *spec, struct error *err)
    __attribute__((warn_unused_result));

#endif
