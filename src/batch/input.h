/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_INPUT_H
#define BATCH_INPUT_H

#include <stdint.h>

#include "base/error.h"
#include "stack/stack.h"

/*
 * Input: the segments of a batch, read once at its start and kept, so that a file that changes or
 * vanishes meanwhile changes nothing in this run.
 *
 *   lines   a segment for each line that is not blank; UTF-8, without the line's end
 *   jsonl   the same, and each line a JSON object
 *   files   a segment for each regular file of the pattern, sorted; its content stays where it is
 *
 * A segment's hash is that of its text; of a file, that of its path, size and time of change, so
 * that a terabyte of videos need not be read to see that nothing is new.
 */

#define INPUT_LIMIT_BYTES ((size_t)1 << 30)
#define INPUT_LINE_BYTES  ((size_t)768 << 10) /* fits a protocol line also when much is escaped */
#define INPUT_SEGMENT_MAX 10000000

struct input {
    char **texts;          /* owned, each of them too */
    unsigned char *hashes; /* owned: count of 32 bytes */
    uint64_t count;
    uint64_t room;
};

/* -ENOENT, -EINVAL … with a message that names the file and the line. An input without any segment
 * is an error. */
int input_read(const struct stack_batch *spec, struct input *ret_input, struct error *err)
    __attribute__((warn_unused_result));
void input_deinit(struct input *input);

#endif
