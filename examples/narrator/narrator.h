/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NARRATOR_NARRATOR_H
#define NARRATOR_NARRATOR_H

#include <stdbool.h>

#include "diary.h"
#include "model.h"
#include "voice.h"

/*
 * One narrator: its voice, its model on the gpu and its line in the diary. narrator_speak() turns
 * one segment into a file; where segments come from is the caller's business: a batch (worker.c) or
 * a plain list (naive.c).
 */

#define NARRATOR_MODEL_BYTES UINT64_C(5200000000)
#define NARRATOR_WORK_BYTES  UINT64_C(2100000000)

struct narrator {
    struct voice voice;
    struct diary diary;
    struct gpu *gpu; /* owned */
    struct model model;
    uint64_t work_bytes; /* the most that a segment takes beyond the model */
    uint64_t done_count;
};

struct naive_list {
    const char *path; /* one sentence a line */
    const char *out;  /* directory for the audio */
    uint64_t stride;  /* every stride-th line is ours */
};

/* The voice first, then the gpu and the model: 0, GPU_REFUSED (the model does not fit) or negative.
 * Close it in any case. */
int narrator_open(struct narrator *narrator, const char *diary_path, uint64_t model_bytes,
                  struct error *err) __attribute__((warn_unused_result));
void narrator_close(struct narrator *narrator);

/* 0; GPU_REFUSED where the card has no room for the working memory; -EBADMSG where device memory
 * was overwritten; other negatives where only this segment cannot be spoken. */
int narrator_speak(struct narrator *narrator, const char *text, const char *out,
                   struct voice_result *ret_result, struct error *err)
    __attribute__((warn_unused_result));

/* Work for the batch behind $BRIM_FD until it has no more. */
int worker_run(struct narrator *narrator, struct error *err) __attribute__((warn_unused_result));

/* Work through a list. *segment is the first line's index, and then that of the line at hand. */
int naive_run(struct narrator *narrator, const struct naive_list *list, uint64_t *segment,
              struct error *err) __attribute__((warn_unused_result));

#endif
