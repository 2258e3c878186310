/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_NOTE_H
#define DAEMON_NOTE_H

#include <stdint.h>

/*
 * Notes: what happened, for those who follow events, for the log, and for the journal's numbers.
 */

struct daemon;
struct holder;

/* About a lease; bytes and text may be 0 and NULL. */
void note_holder(struct holder *holder, const char *kind, uint64_t bytes, const char *text);
/* About a gpu, or, with gpu -1, the daemon itself. */
void note_gpu(struct daemon *daemon, const char *kind, int gpu, uint64_t bytes, const char *text);
/* Any other. */
struct event;
void note_plain(struct daemon *daemon, const struct event *event);

#endif
