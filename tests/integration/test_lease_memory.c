/* SPDX-License-Identifier: Apache-2.0 */

/* Every allocation of libbrim fails once: an error code, nothing leaked, nothing broken. */

#include <dlfcn.h>
#include <errno.h>

#include "lease_steps.h"

static unsigned allocation_count, failing_allocation;

/* The names are the linker's (--wrap). */
/* NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming) */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
/* NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming) */

static bool must_fail(void)
{
    allocation_count++;
    if (allocation_count != failing_allocation)
        return false;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t bytes)
{
    return must_fail() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return must_fail() ? NULL : __real_calloc(count, bytes);
}

static const struct brim_claim claim = { .struct_bytes = sizeof(struct brim_claim),
                                         .resident_bytes = GIB_3,
                                         .max_wait_ms = BRIM_WAIT_FOREVER };

static bool has_tried_to_start(brim_lease *lease)
{
    char path[64];

    (void)lease;
    (void)snprintf(path, sizeof(path), "%s/start.lock", getenv("BRIM_RUNTIME_DIR"));
    return access(path, F_OK) == 0;
}

/* Starts a daemon, loses it, binds a process: all that allocates. Returns how far it came. */
static int live(struct fake_daemon *fake)
{
    brim_lease *lease = NULL;
    int r = brim_acquire_start(&claim, &lease);

    if (r < 0) {
        CHECK(r == BRIM_ERR_NOMEM && lease == NULL);
        return 0;
    }
    fake_accept(fake);
    (void)fake_expect(fake, MESSAGE_ACQUIRE);
    fake_say(fake, fake_granted(7, BRIM_LEASE_LOADING));
    settle(lease);
    fake_die(fake);
    dispatch_until(lease, has_tried_to_start); /* a daemon that has nothing to say and ends */
    r = brim_lease_bind(lease, (uint64_t)getpid());
    CHECK(r == 0 || r == BRIM_ERR_NOMEM);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_LOADING);
    brim_release(lease);
    return 1;
}

static void test_every_allocation_may_fail(void)
{
    unsigned failures = 0;

    for (failing_allocation = 1;; failing_allocation++) {
        struct fake_daemon fake;

        fake_open(&fake);
        allocation_count = 0;
        (void)live(&fake);
        const bool has_failed = allocation_count >= failing_allocation;
        fake_close(&fake);
        if (!has_failed)
            break;
        failures++;
    }
    CHECK(failures >= 3);
}

TESTS(TEST(test_every_allocation_may_fail))
