/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_PROGRESS_H
#define BATCH_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Progress as text. Pure: the figures and the width are arguments. */

#define PROGRESS_TEXT_BYTES 512

struct progress {
    bool is_terminal;
    bool is_drawn;       /* a bar stands on the terminal's last line */
    uint64_t drawn_ms;   /* when it, or a line, was last written */
    uint64_t drawn_done; /* the figures it showed */
    unsigned drawn_workers;
};

struct progress_facts {
    const char *name;      /* borrowed */
    const char *waits_for; /* borrowed; NULL: nothing waits */
    uint64_t total, done, failed;
    uint64_t done_now;   /* in this run */
    uint64_t elapsed_ms; /* of this run's work */
    unsigned workers;
};

/* "312 of 600 done, 2 workers, 3.1/s, 1 m 32 s left" */
const char *progress_line(const struct progress_facts *facts, char text[PROGRESS_TEXT_BYTES]);

/* A bar of at most `width` columns: "narrate [=====>    ] 312/600 2 workers 3.1/s ETA 1 m 32 s". */
const char *progress_bar(const struct progress_facts *facts, unsigned width,
                         char text[PROGRESS_TEXT_BYTES]);

#endif
