/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_REQUEST_H
#define DAEMON_REQUEST_H

#include <stdint.h>

#include "daemon/session.h"

/*
 * Requests of clients, put to the budget: each is answered, now or when the budget decides.
 */

/* The session may be closing afterwards. Call daemon_pump() when a batch of them is done. */
void request_handle(struct session *session, const struct message *message);

/* A BURST_BEGIN, once the facts are fresh; its wait counts from arrived_ms. */
void request_burst(struct session *session, const struct message *message, uint64_t arrived_ms);

#endif
