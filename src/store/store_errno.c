/* SPDX-License-Identifier: Apache-2.0 */

#include "store/store_errno.h"

#include <errno.h>

int store_errno(sqlite3 *db)
{
    switch (sqlite3_errcode(db) & 0xff) {
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    case SQLITE_BUSY:
        return -EBUSY;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return sqlite3_system_errno(db) == ENOSPC || sqlite3_system_errno(db) == EDQUOT ? -ENOSPC
                                                                                        : -EIO;
    default:
        return -EIO;
    }
}
