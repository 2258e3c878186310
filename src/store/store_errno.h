/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_STORE_ERRNO_H
#define STORE_STORE_ERRNO_H

#include <sqlite3.h>

/* What went wrong last with a database, as a negative errno: -ENOSPC, -ENOMEM, -EBADMSG (it is
 * damaged, or none), -EBUSY, else -EIO. A full disk is told as such also where SQLite only says
 * that a call failed: the shared memory beside a log wants room too. */
int store_errno(sqlite3 *db);

#endif
