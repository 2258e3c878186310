/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NARRATOR_DIARY_H
#define NARRATOR_DIARY_H

#include "voice.h"

/*
 * The workers' own account of what they did, for whoever wants to check the batch: one file, to
 * which all workers append, one write a line, so that lines of several never mix and a line is
 * there wholly or not at all.
 *
 *     begin TAB segment TAB pid TAB 0 TAB - TAB attempt's path
 *     done  TAB segment TAB pid TAB bytes of samples TAB their SHA-256 TAB attempt's path
 *     flush TAB segments done by this process TAB pid TAB 0 TAB - TAB -
 */
struct diary {
    int fd; /* owned; -1: nobody asked for a diary */
};

/* path may be NULL: then nothing is written. 0 or -errno. */
int diary_open(struct diary *diary, const char *path);
void diary_close(struct diary *diary);

int diary_begin(struct diary *diary, uint64_t segment, const char *out);
int diary_done(struct diary *diary, uint64_t segment, const struct voice_result *result,
               const char *out);
int diary_flush(struct diary *diary, uint64_t done_count);

#endif
