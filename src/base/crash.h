/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CRASH_H
#define BASE_CRASH_H

/*
 * Crash points: the places where a program of ours may be killed and nothing may be lost. Each is
 * named here, stands in the code as CRASH_POINT(name), and is reached by tests/e2e/
 * test_crash_points.py, which fails when one of this list is never hit.
 *
 *   BRIM_CRASH=name[:n],…   the process that passes the point for the n-th time (default 1) dies
 *                           there by SIGKILL
 *   BRIM_CRASH_MARKS=DIR    it leaves DIR/name behind, and nobody dies at a point whose mark is
 *                           there already: the same environment serves for going on afterwards
 *
 * They exist only in builds with the Meson option crash_points, which `make install` leaves out:
 * there CRASH_POINT() is nothing at all. Otherwise it is one comparison after the first.
 */

/* clang-format off */
#define CRASH_POINTS(X)                                                            \
    X(run_granted)           /* brim run: granted, not yet the program */          \
    X(batch_prepared)        /* a batch: its segments are known, none is begun */  \
    X(batch_begun)           /* an attempt is noted */                             \
    X(batch_spawned)         /* a worker is started */                             \
    X(batch_sent)            /* it was told its segment */                         \
    X(batch_answer_read)     /* it said done */                                    \
    X(batch_output_synced)   /* the attempt's file is durable */                   \
    X(batch_renamed)         /* it has the output's name */                        \
    X(batch_dir_synced)      /* so has the directory */                            \
    X(batch_committed)       /* the segment is done */                             \
    X(batch_finished)        /* all are; the summary is not in its place */        \
    X(segments_load_half)    /* inside of the transaction that loads the input */  \
    X(segments_loaded)       /* behind it */                                       \
    X(worker_forked)         /* a worker's process before its program */           \
    X(worker_segment_taken)  /* libbrim: it has a segment */                       \
    X(worker_answering)      /* its output is written, the answer is not */        \
    X(worker_answered)       /* the answer is sent */                              \
    X(journal_begun)         /* the daemon's journal: a transaction is open */     \
    X(journal_half)          /* its rows are written */                            \
    X(journal_committed)     /* it is committed */                                 \
    X(daemon_decided)        /* the budget has granted, the holder is not told */  \
    X(daemon_answered)       /* it is told, the journal is not */                  \
    X(daemon_released)       /* a lease is draining, the journal does not know */  \
    X(daemon_restoring)      /* after a restart: leases are read, none is back */  \
    X(daemon_restored)       /* they are back */                                   \
    X(daemon_reattached)     /* a holder came back and is not answered yet */
/* clang-format on */

enum crash_point {
#define CRASH_POINT_ENUMERATOR(name) CRASH_##name,
    CRASH_POINTS(CRASH_POINT_ENUMERATOR)
#undef CRASH_POINT_ENUMERATOR
    CRASH_POINT_COUNT
};

#ifdef BRIM_CRASH_POINTS
void crash_here(enum crash_point point);
#    define CRASH_POINT(name) crash_here(CRASH_##name)
#else
#    define CRASH_POINT(name) ((void)0)
#endif

#endif
