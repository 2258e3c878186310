/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STACK_STACK_H
#define STACK_STACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Stack: what one brim.yaml describes, as structs. Pure: no files, no clock. config/ fills it from
 * YAML, the command line from flags; batch/ runs what it says.
 *
 * A stack_batch is complete after stack_batch_check(): names are safe as file names, paths are
 * absolute, numbers are in their ranges.
 */

#define STACK_NAME_BYTES     64 /* with the end of the string */
#define STACK_WORKER_MAX     64
#define STACK_RETRY_MAX      100
#define STACK_ARGUMENT_MAX   4096
#define STACK_RETRY_DEFAULT  2
#define STACK_GROWTH_MAX_PCT 1000

enum stack_input {
    STACK_INPUT_NONE = 0,
    STACK_INPUT_LINES, /* one segment a line that is not blank */
    STACK_INPUT_JSONL, /* one JSON object a line */
    STACK_INPUT_FILES, /* one file of a glob pattern, sorted */
};

enum stack_protocol {
    STACK_PROTOCOL_FD = 0, /* on the descriptor BRIM_FD */
    STACK_PROTOCOL_STDIO,  /* on standard input and output */
    STACK_PROTOCOL_EACH,   /* none: one process a segment */
};

enum stack_flush {
    STACK_FLUSH_AUTO = 0, /* worker where it says it can, else restart */
    STACK_FLUSH_WORKER,
    STACK_FLUSH_RESTART,
};

enum stack_priority {
    STACK_PRIORITY_NORMAL = 0,
    STACK_PRIORITY_INTERACTIVE,
    STACK_PRIORITY_BACKGROUND,
};

struct stack_batch {
    char *name;     /* owned */
    char **command; /* owned, ends with NULL */
    char *dir;      /* owned: the workers' working directory, absolute */
    enum stack_input input;
    char *input_path; /* owned: absolute; a pattern for STACK_INPUT_FILES */
    char *output;     /* owned: absolute, with ${SEGMENT} */
    char **env;       /* owned, "NAME=value", ends with NULL; NULL: none */
    char *gpu;        /* owned; NULL: where it fits best */
    uint64_t resident_bytes;
    uint64_t burst_bytes;
    uint64_t load_peak_bytes;  /* 0: resident_bytes */
    uint32_t workers_min;      /* 1 .. workers_max */
    uint32_t workers_max;      /* 1 .. STACK_WORKER_MAX */
    uint32_t retries;          /* tries after the first one */
    uint32_t flush_every;      /* segments of one worker; 0: never by count */
    uint32_t flush_growth_pct; /* 0: not by growth */
    enum stack_flush flush_by;
    enum stack_protocol protocol;
    enum stack_priority priority;
    uint64_t timeout_ms;   /* per segment; 0: none */
    uint64_t heartbeat_ms; /* 0: none is expected */
};

struct stack {
    struct stack_batch *batches; /* owned */
    size_t batch_count;
};

/* Defaults: auto workers, STACK_RETRY_DEFAULT retries. */
void stack_batch_init(struct stack_batch *batch);
void stack_batch_deinit(struct stack_batch *batch);

/* Whether it is whole: -EINVAL with what is missing or out of range, and how to write it. */
int stack_batch_check(const struct stack_batch *batch, struct error *err)
    __attribute__((warn_unused_result));

/* NULL where there is none of that name. */
const struct stack_batch *stack_find_batch(const struct stack *stack, const char *name);
void stack_deinit(struct stack *stack);

/* The words of brim.yaml and of the flags. -EINVAL with the words that would be right. */
int stack_workers_parse(const char *text, uint32_t *ret_min, uint32_t *ret_max, struct error *err)
    __attribute__((warn_unused_result));
int stack_protocol_parse(const char *text, enum stack_protocol *ret_protocol, struct error *err)
    __attribute__((warn_unused_result));
int stack_flush_parse(const char *text, enum stack_flush *ret_flush, struct error *err)
    __attribute__((warn_unused_result));
int stack_priority_parse(const char *text, enum stack_priority *ret_priority, struct error *err)
    __attribute__((warn_unused_result));
/* A whole number up to limit. */
int stack_count_parse(const char *text, uint32_t limit, uint32_t *ret_count, struct error *err)
    __attribute__((warn_unused_result));
/* 1 .. 63 letters, digits, '.', '_', '-', not starting with '.' or '-': also a directory's name. */
int stack_name_check(const char *name, struct error *err) __attribute__((warn_unused_result));

#endif
