/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_RESTORE_H
#define DAEMON_RESTORE_H

#include "store/journal.h"

/*
 * The leases of the daemon before this one, between reading them and knowing the gpus. Those whose
 * processes live (pid and start time: the kernel is believed) are put back; one that its connection
 * holds waits REATTACH_MS for its holder to come back, charged meanwhile.
 */

struct daemon;
struct restorable;

/* Adds a copy; *list is NULL at first. 0 or -ENOMEM. */
int restorable_add(struct restorable **list, const struct journal_lease *lease);
void restorable_free(struct restorable *list); /* NULL is fine */
void restorable_put_back(struct daemon *daemon, const struct restorable *list);

#endif
