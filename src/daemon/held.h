/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_HELD_H
#define DAEMON_HELD_H

#include "daemon/session.h"

/*
 * Held requests. What can charge bytes (ACQUIRE, REATTACH, BURST_BEGIN) is put to the budget only
 * with fresh facts, or when it is certain that there are none. Until then it is held here, in the
 * order of arrival, which later ones do not overtake.
 */

/* Put it to the budget now, or hold it. */
void request_hold(struct session *session, const struct message *message);
/* Facts are in, or cannot be had: put the held ones to the budget. */
void requests_resume(struct daemon *daemon);
/* Once a second: those whose wait has passed while the driver has never answered. true: some are
 * held. */
bool requests_expire(struct daemon *daemon);
/* The session is gone: forget its held ones. */
void requests_forget(struct session *session);
/* BURST_END: its held bursts are answered as cancelled. */
void requests_cancel_bursts(struct session *session);

#endif
