/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A library to preload: the wall clock of programs stands elsewhere, and jumps while they run.
 *
 *   JUMP_CLOCK=FILE LD_PRELOAD=…/libjump_clock.so COMMAND
 *
 * FILE holds one number of eight bytes, the seconds that are added to CLOCK_REALTIME; whoever
 * writes another one into it makes the clock jump, in all programs at once. The other clocks are
 * left alone. What the kernel itself compares with the wall clock (a futex with such a deadline)
 * does not jump: a program that waits that way ends too early or far too late, which is what a test
 * wants to see.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

static const volatile int64_t *jump_s;

__attribute__((constructor)) static void prepare(void)
{
    const char *path = getenv("JUMP_CLOCK");
    const int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    void *const page = mmap(NULL, sizeof(*jump_s), PROT_READ, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (page != MAP_FAILED)
        jump_s = page;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    const int r = (int)syscall(SYS_clock_gettime, clock, ret_now);

    if (r == 0 && jump_s && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        ret_now->tv_sec += (time_t)*jump_s;
    return r;
}

EXPORT time_t time(time_t *ret_now)
{
    struct timespec now = { 0 };

    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (ret_now)
        *ret_now = now.tv_sec;
    return now.tv_sec;
}

EXPORT int gettimeofday(struct timeval *ret_now, void *zone)
{
    struct timespec now = { 0 };

    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    ret_now->tv_sec = now.tv_sec;
    ret_now->tv_usec = now.tv_nsec / 1000;
    return 0;
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
