/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "api/api.h"
#include "api/history.h"
#include "base/error.h"
#include "budget/budget.h"
#include "daemon/doors.h"
#include "daemon/gpu.h"
#include "daemon/helper.h"
#include "daemon/holders.h"
#include "daemon/options.h"
#include "daemon/place.h"
#include "daemon/refusals.h"
#include "daemon/sampler.h"
#include "daemon/session.h"
#include "daemon/watch.h"

/*
 * The daemon: one loop that ties the parts together. The budget decides; everything else here
 * brings it what happened (a message, the end of a process, facts, time) and carries out what it
 * decided.
 *
 *   lease socket -> session -> request ─┐                    ┌─> session -> lease socket
 *   pidfd        -> watch   -> holder  ─┤                    ├─> events  -> API socket
 *   brim-helper  -> sampler -> gpu     ─┼─> budget ─> decide ┼─> journal (write-behind)
 *   timer        -> advance            ─┘                    └─> sampler (fresh facts)
 *
 * Everything that can make the budget decide ends in daemon_pump(), which takes the decisions.
 */

struct recorder;

struct daemon {
    uv_loop_t *loop; /* borrowed */
    struct options options;
    struct place place;
    uint64_t start_ns;        /* wall clock: names this daemon to its clients */
    uint64_t started_unix_ms; /* to be shown; */
    uint64_t started_ms;      /* to be counted from */
    bool is_emulated;
    bool is_ending;

    struct budget *budget; /* owned, all of these */
    struct events *events;
    struct events *steps;    /* see steps.h */
    struct history *history; /* NULL: it cannot be written */
    struct api *api;
    struct watches *watches;
    struct helper *helper;
    struct recorder *recorder; /* the journal, written behind; NULL: there is none */
    struct holders holders;
    struct gpus gpus;
    struct refusals refusals;
    struct sampler sampler;
    struct sessions sessions;

    uv_timer_t wakeup;  /* the budget's next deadline */
    uint64_t wakeup_ms; /* what it is set to */
    uv_timer_t chores;  /* once a second while there is something to look after */
    unsigned chores_count;
    uv_timer_t ending;
    uv_signal_t signals[3];
    struct doors doors;
};

/* Everything but the loop's turning. */
int daemon_open(uv_loop_t *loop, const struct options *options, struct place *take_place,
                struct daemon **ret_daemon, struct error *err);
/* Begin to end: programs keep what they were granted. The loop ends by itself when all is closed.
 */
void daemon_end(struct daemon *daemon, const char *reason);
/* The same in a moment, so that who asked for it can have its answer. */
void daemon_end_soon(struct daemon *daemon);
/* After the loop has ended. */
void daemon_free(struct daemon *daemon);

/* Let the budget pass the time, carry out what it decided, and plan what comes next. */
void daemon_pump(struct daemon *daemon);
/* Serve the sockets that place_reopen() has made; who is connected to the lease socket stays so. */
int daemon_change_doors(struct daemon *daemon, struct error *err);
/* Something needs looking after once a second. */
void daemon_want_chores(struct daemon *daemon);

#endif
