/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LEASE_STEPS_H
#define TESTS_LEASE_STEPS_H

/* Both ends of a lease in one thread: libbrim's without blocking, the daemon's word for word. */

#include <brim/brim.h>

#include "fake_daemon.h"

#define GIB_3 (UINT64_C(3) << 30)
#define GIB_1 (UINT64_C(1) << 30)

static inline struct brim_claim a_claim(int64_t max_wait_ms)
{
    return (struct brim_claim){ .struct_bytes = sizeof(struct brim_claim),
                                .name = "whisper",
                                .resident_bytes = GIB_3,
                                .burst_bytes = GIB_1,
                                .max_wait_ms = max_wait_ms };
}

static inline bool is_refused(brim_lease *lease)
{
    return brim_lease_state(lease) == BRIM_LEASE_REFUSED;
}

static inline brim_lease *start(struct fake_daemon *fake, int64_t max_wait_ms)
{
    const struct brim_claim claim = a_claim(max_wait_ms);
    brim_lease *lease = NULL;

    CHECK(brim_acquire_start(&claim, &lease) == 0);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_QUEUED);
    fake_accept(fake);
    (void)fake_expect(fake, MESSAGE_ACQUIRE);
    return lease;
}

/* Dispatch, as an event loop would, until the descriptor is quiet. */
static inline void settle(brim_lease *lease)
{
    struct pollfd watch = { .fd = brim_lease_fd(lease), .events = POLLIN };

    while (poll(&watch, 1, 0) == 1)
        (void)brim_dispatch(lease);
}

static inline void dispatch_until(brim_lease *lease, bool (*is_reached)(brim_lease *lease))
{
    struct pollfd watch = { .fd = brim_lease_fd(lease), .events = POLLIN };

    while (!is_reached(lease)) {
        CHECK(poll(&watch, 1, FAKE_STEP_MS) == 1);
        (void)brim_dispatch(lease);
    }
}

static inline brim_lease *get_idle(struct fake_daemon *fake)
{
    brim_lease *lease = start(fake, BRIM_WAIT_FOREVER);

    fake_say(fake, fake_granted(7, BRIM_LEASE_LOADING));
    settle(lease);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_LOADING);
    CHECK(brim_ready(lease) == 0);
    (void)fake_expect(fake, MESSAGE_READY);
    fake_say(fake, (struct message){ .type = MESSAGE_DONE });
    settle(lease);
    return lease;
}

static inline void take_burst(struct fake_daemon *fake, brim_lease *lease)
{
    CHECK(brim_burst_start(lease, 0, BRIM_WAIT_FOREVER) == 1);
    const struct message asked = fake_expect(fake, MESSAGE_BURST_BEGIN);
    CHECK_EQ_U64(asked.burst.bytes, GIB_1);
    CHECK_EQ_U64(asked.burst.max_wait_ms, UINT64_MAX);
    fake_say(fake, fake_amount(MESSAGE_BURST_GRANTED, GIB_1));
    settle(lease);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_BUSY);
}

#endif
