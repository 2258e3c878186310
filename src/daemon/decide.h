/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_DECIDE_H
#define DAEMON_DECIDE_H

#include <stdint.h>
#include <sys/types.h>

#include "budget/budget.h"

/* Carry out what the budget decided: answers, events, the journal, fresh facts. */

struct daemon;
struct session;

void decide_all(struct daemon *daemon);

/* Keep a refusal for `brim why`; returns its id, 0 where it could not be kept. */
uint64_t refusal_keep(struct daemon *daemon, const struct refusal *refusal, const char *name,
                      pid_t pid, uid_t uid);

#endif
