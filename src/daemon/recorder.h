/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_RECORDER_H
#define DAEMON_RECORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/refusals.h"

/*
 * The recorder writes the journal behind the daemon: changes are gathered for RECORDER_DELAY_MS and
 * written in one transaction by a thread of libuv's pool, on copied input; the loop never waits for
 * a disk. A lease that came and went in between is never written. What a crash loses is found again
 * from the kernel, the driver and the holders, who know their leases themselves.
 *
 * Where the journal cannot be opened there is no recorder: all functions take NULL, and do nothing.
 */

#define RECORDER_DELAY_MS 50

struct daemon;
struct holder;
struct recorder;

/* Opens the journal (a broken one is moved aside, and a fresh one begun) and takes from it the
 * refusals and the next lease's number; leases wait for recorder_restore(). Only -ENOMEM is a
 * failure: a daemon without a journal is better than none. */
int recorder_open(struct daemon *daemon, struct recorder **ret_recorder);
/* The gpus are known: put back the leases whose processes live. Nothing happens the second time. */
void recorder_restore(struct daemon *daemon);

/* The lease's row may be wrong now. is_urgent: nobody but the journal remembers it. */
void recorder_lease(struct recorder *recorder, struct holder *holder, bool is_urgent);
/* Whether what is handed over is likely to be written soon. */
bool recorder_is_sound(const struct recorder *recorder);
/* It is gone. */
void recorder_lease_gone(struct recorder *recorder, struct holder *holder);
void recorder_refusal(struct recorder *recorder, const struct refusal_record *record);

/* No more timers: the loop is about to end. */
void recorder_stop(struct recorder *recorder);
/* After the loop: write what is left, in this thread, and close. */
void recorder_close(struct recorder *recorder);

#endif
