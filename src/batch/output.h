/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_OUTPUT_H
#define BATCH_OUTPUT_H

#include <stdint.h>

#include "base/error.h"
#include "batch/digest.h"

/*
 * Output: where a segment's result lies, and how it gets there (law 8).
 *
 *   attempt 1 of out/000012.wav writes   out/.000012.attempt-1.wav
 *   success                              fsync, rename to out/000012.wav, fsync of out/
 *
 * Only then the caller commits size and hash. A path is one attempt's alone: a late writer of an
 * attempt that was given up never touches a result. The suffix stays the last part of the name, as
 * programs choose formats by it; the dot in front hides unfinished files from the shell's patterns.
 */

#define OUTPUT_ID_BYTES 16 /* "000012" and the end of the string */

/* "000012": six digits, more where needed. Returns id. */
const char *output_id(uint64_t index, char id[OUTPUT_ID_BYTES]);

/* Fresh texts, the caller's to free; NULL when memory is out. */
char *output_path(const char *pattern, uint64_t index);
char *output_attempt_path(const char *path, uint32_t attempt);
/* Where --again number `generation` puts the old result: out/000012.old-1.wav. */
char *output_old_path(const char *path, uint64_t generation);

/* Make the directory of a path, with its parents. */
int output_make_dir(const char *path, struct error *err) __attribute__((warn_unused_result));

/* Make that directory's own name durable, and those of its parents: once a run, as an earlier one
 * may have been killed between the two. */
int output_sync_dir_name(const char *path, struct error *err) __attribute__((warn_unused_result));

/* Make a path's name durable; whether two paths lie in one directory, and one such call serves
 * both.
 */
int output_sync_dir(const char *path) __attribute__((warn_unused_result));
int output_share_dir(const char *path, const char *other);

/* Make the attempt the result and durable. -ENOENT: the worker wrote none; -EINVAL: it is no
 * regular file; -ENOSPC, -EIO …: it is not safely there. */
int output_commit(const char *attempt_path, const char *path, uint64_t *ret_bytes,
                  unsigned char ret_hash[DIGEST_BYTES], struct error *err)
    __attribute__((warn_unused_result));

/* Remove the attempts of this path that numbers 1 .. last may have left behind. */
void output_remove_attempts(const char *path, uint32_t last);

/* Whether a regular file of that size is there. */
int output_is_there(const char *path, uint64_t bytes);

/* 1 where the file system of this path has no room left, else 0. */
int output_is_full(const char *path);

#endif
