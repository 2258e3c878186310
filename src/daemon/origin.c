/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/origin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"

#define STATUS_LIMIT_BYTES      8192
#define ENVIRONMENT_LIMIT_BYTES ((size_t)1 << 20)
#define DEPTH_MAX               64 /* of a process tree; the kernel's parents cannot form a ring */

int origin_uid(pid_t pid, uid_t *ret_uid)
{
    OWNED(freep) char *text = NULL;
    char path[64];
    const char *line = NULL;
    unsigned uid = 0;
    int r = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    r = fd_read_file(path, STATUS_LIMIT_BYTES, &text, NULL);
    if (r < 0)
        return r == -ENOENT ? -ESRCH : r;
    line = strstr(text, "\nUid:");
    if (!line || sscanf(line, "\nUid: %u", &uid) != 1) /* NOLINT(cert-err34-c): the kernel's */
        return -EPROTO;
    *ret_uid = uid;
    return 0;
}

bool origin_may_claim(uid_t uid, pid_t pid)
{
    uid_t owner = 0;

    return origin_uid(pid, &owner) == 0 && (uid == 0 || owner == uid);
}

/* What a process that started after the release uses, nobody has to give back. A tick is 10 ms:
 * what started in the same one counts as later, and is foreign then, which takes no byte out of the
 * sum. */
static bool can_own(const struct holder *holder, uint64_t start_ticks)
{
    return !holder->is_released || start_ticks < holder->released_ticks;
}

/* Whether a lease starts at this process that may own what one started then uses. */
static bool is_root_of_lease(const struct holders *holders, const struct process_info *info,
                             uint64_t start_ticks)
{
    const struct holder *holder = NULL;

    while ((holder = holder_next_of_root(holders, info->pid, info->start_ticks, holder))) {
        if (can_own(holder, start_ticks))
            return true;
    }
    return false;
}

/* BRIM_LEASE=12 or BRIM_LEASE=l12 among the NUL-separated strings. */
static uint64_t lease_in_environment(const char *text, size_t text_bytes)
{
    static const char key[] = "BRIM_LEASE=";
    const char *end = text + text_bytes;

    for (const char *at = text; at < end; at += strlen(at) + 1) {
        uint64_t id = 0;
        if (strncmp(at, key, sizeof(key) - 1) != 0)
            continue;
        at += sizeof(key) - 1;
        if (*at == 'l')
            at++;
        /* NOLINTNEXTLINE(cert-err34-c): what is no number finds no lease */
        return sscanf(at, "%" SCNu64, &id) == 1 ? id : 0;
    }
    return 0;
}

static const struct holder *find_by_environment(const struct holders *holders, pid_t pid,
                                                uint64_t start_ticks)
{
    OWNED(freep) char *text = NULL;
    const struct holder *holder = NULL;
    size_t text_bytes = 0;
    char path[64];
    uint64_t id = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    if (fd_read_file(path, ENVIRONMENT_LIMIT_BYTES, &text, &text_bytes) < 0)
        return NULL; /* another user's, or gone */
    id = lease_in_environment(text, text_bytes);
    holder = id != 0 ? holder_find(holders, id) : NULL;
    return holder && can_own(holder, start_ticks) && origin_may_claim(holder->uid, pid) ? holder
                                                                                        : NULL;
}

bool origin_find(const struct holders *holders, pid_t pid, struct origin *ret_origin)
{
    const struct holder *holder = NULL;
    struct process_info info = { 0 };
    uint64_t start_ticks = 0;
    pid_t at = pid;

    if (holders->count == 0)
        return false;
    for (int depth = 0; at > 1 && depth < DEPTH_MAX; depth++) {
        if (process_read(at, &info) < 0)
            break;
        if (depth == 0)
            start_ticks = info.start_ticks;
        if (is_root_of_lease(holders, &info, start_ticks)) {
            *ret_origin = (struct origin){ info.pid, info.start_ticks };
            return true;
        }
        at = info.parent_pid;
    }
    holder = find_by_environment(holders, pid, start_ticks);
    if (!holder)
        return false;
    *ret_origin = (struct origin){ holder->root_pid, holder->root_ticks };
    return true;
}
