/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_ANSWER_H
#define BATCH_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * The worker protocol as data (docs/internals/worker-protocol.md): a worker's lines read strictly,
 * the batch's lines written. Pure.
 */

#define ANSWER_LINE_MAX_BYTES ((size_t)1 << 20)
#define ANSWER_REASON_BYTES   400

enum answer_kind {
    ANSWER_READY = 1,
    ANSWER_BURST,
    ANSWER_DONE,
    ANSWER_FAILED,
    ANSWER_HEARTBEAT,
    ANSWER_FLUSHED,
};

struct answer {
    enum answer_kind kind;
    uint64_t number; /* BURST: bytes; DONE, FAILED: the segment */
    bool is_good;    /* FLUSHED: whether it could */
    bool can_flush;  /* READY, as the next two */
    bool has_heartbeat;
    bool asks;                        /* it asks for every burst */
    char reason[ANSWER_REASON_BYTES]; /* FAILED; "" where none was given */
};

/* -EPROTO, with a message that shows the line's beginning, for what is no answer. */
int answer_parse(const char *line, size_t line_bytes, struct answer *ret_answer, struct error *err)
    __attribute__((warn_unused_result));

/* Each gives one line with its newline, which the caller frees; NULL when memory is out. */
char *request_segment(uint64_t index, const char *id, const char *input, bool is_json,
                      const char *out);
char *request_granted(uint64_t bytes);
char *request_refused(const char *why);
char *request_flush(void);
char *request_stop(const char *why);

#endif
