/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_ACQUIRE_H
#define DAEMON_ACQUIRE_H

#include <stdint.h>

#include "daemon/session.h"

/* How a lease begins: by asking for it, by adopting a program that runs, or by coming back for it
 * after the daemon's restart. Facts are fresh, or known to be missing. */

/* ACQUIRE; its wait counts from arrived_ms. */
void acquire_new(struct session *session, const struct message *message, uint64_t arrived_ms);
/* REATTACH. */
void acquire_again(struct session *session, const struct message *message);

#endif
