/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KEEPER_JOURNAL_H
#define KEEPER_JOURNAL_H

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * The log file of a child: its standard output and error go straight into it (no copying by the
 * keeper, so nothing is lost when the keeper dies). Rotated once, when it has grown and is opened
 * anew: NAME becomes NAME.1.
 */

#define KEEPER_JOURNAL_LIMIT_BYTES ((off_t)8 << 20)

/* Open for appending, 0600. *ret_start is where this child's part begins. Returns the descriptor
 * (close-on-exec) or -errno. */
int keeper_journal_open(const char *path, off_t *ret_start, struct error *err)
    __attribute__((warn_unused_result));

/* The last lines that stand behind `start`, made harmless for a terminal, joined by " | " and cut
 * to text_bytes from the front. "" where there are none. Returns text. */
const char *keeper_journal_tail(const char *path, off_t start, char *text, size_t text_bytes);

#endif
