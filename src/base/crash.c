/* SPDX-License-Identifier: Apache-2.0 */

#include "base/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef BRIM_CRASH_POINTS

static const char *const names[CRASH_POINT_COUNT] = {
#    define CRASH_POINT_NAME(name) [CRASH_##name] = #    name,
    CRASH_POINTS(CRASH_POINT_NAME)
#    undef CRASH_POINT_NAME
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic int passes_left[CRASH_POINT_COUNT]; /* 0: nobody dies there */

static void arm_one(const char *name, size_t name_bytes, const char *number)
{
    const long passes = *number == ':' ? strtol(number + 1, NULL, 10) : 1;

    for (int i = 0; i < CRASH_POINT_COUNT; i++) {
        if (strlen(names[i]) == name_bytes && memcmp(names[i], name, name_bytes) == 0 &&
            passes > 0 && passes < INT_MAX)
            atomic_store(&passes_left[i], (int)passes);
    }
}

static void arm(void)
{
    const char *at = secure_getenv("BRIM_CRASH");

    while (at && *at) {
        const size_t name_bytes = strcspn(at, ":,");
        arm_one(at, name_bytes, at + name_bytes);
        at += strcspn(at, ",");
        at += *at == ',';
    }
}

/* Whether it is ours to die here: the first to leave the mark, or nobody asked for marks. */
static bool leave_mark(const char *name)
{
    const char *dir = secure_getenv("BRIM_CRASH_MARKS");
    char path[PATH_MAX];

    if (!dir)
        return true;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    (void)close(fd);
    return true;
}

void crash_here(enum crash_point point)
{
    const int saved_errno = errno;

    (void)pthread_once(&once, arm);
    if (atomic_load(&passes_left[point]) != 0 && atomic_fetch_sub(&passes_left[point], 1) == 1 &&
        leave_mark(names[point])) {
        (void)kill(getpid(), SIGKILL);
        for (;;)
            (void)pause(); /* the signal may reach another thread first */
    }
    errno = saved_errno;
}

#endif
