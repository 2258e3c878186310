/* SPDX-License-Identifier: Apache-2.0 */

#include "base/clock.h"
#include "client/lease.h"

/* With the lock. 0 granted (never yet), 1 waits, negative: refused. */
static int start_burst(brim_lease *lease, uint64_t bytes, int64_t max_wait_ms)
{
    if (!lease_is_held(lease))
        return lease_not_held(lease);
    if (lease->state != BRIM_LEASE_IDLE || lease->burst != BURST_NONE)
        return BRIM_ERR_STATE;
    if (bytes > lease->claim.burst_bytes || max_wait_ms < BRIM_WAIT_FOREVER)
        return BRIM_ERR_INVALID;
    lease->has_refusal = false; /* an older reason would look like this one's */
    lease->burst = BURST_WAITING;
    lease->burst_seq = 0;
    lease->burst_ticket++;
    lease->burst_bytes = bytes == 0 ? lease->claim.burst_bytes : bytes;
    lease->burst_deadline_ms = clock_after_ms(
        clock_now_ms(), max_wait_ms == BRIM_WAIT_FOREVER ? UINT64_MAX : (uint64_t)max_wait_ms);
    /* While a REATTACH is on its way, its answer sends the burst. */
    if (lease->link == LINK_UP && lease->claim_seq == 0)
        link_send_burst(lease);
    return 1;
}

int brim_burst_start(brim_lease *lease, uint64_t bytes, int64_t max_wait_ms)
{
    int saved_errno = 0;
    int r = lease_begin(lease, &saved_errno);

    if (r < 0)
        return lease_fail(r, saved_errno);
    r = start_burst(lease, bytes, max_wait_ms);
    return lease_end(lease, r, saved_errno);
}

int brim_burst_begin(brim_lease *lease, uint64_t bytes, int64_t max_wait_ms)
{
    int saved_errno = 0;
    int r = lease_begin(lease, &saved_errno);

    if (r < 0)
        return lease_fail(r, saved_errno);
    r = start_burst(lease, bytes, max_wait_ms);
    if (r == 1) {
        const uint32_t ticket = lease->burst_ticket;
        while (lease->burst == BURST_WAITING && lease->burst_ticket == ticket &&
               !lease->is_released)
            lease_wait(lease);
        if (lease->is_released || lease->burst_ticket != ticket)
            r = BRIM_ERR_CANCELLED;
        else
            r = lease->burst == BURST_TAKEN ? 0 : lease->burst_failure;
    }
    return lease_end(lease, r, saved_errno);
}

static void end_burst(brim_lease *lease)
{
    struct message message = { .type = MESSAGE_BURST_END };

    if (lease->burst == BURST_TAKEN)
        lease->state = BRIM_LEASE_IDLE;
    lease->burst_failure = BRIM_ERR_CANCELLED;
    lease->burst = BURST_NONE;
    lease->burst_seq = 0;
    (void)link_send(lease, &message, NULL);
    lease_wake(lease);
}

int brim_burst_end(brim_lease *lease)
{
    int saved_errno = 0;
    int r = lease_begin(lease, &saved_errno);

    if (r < 0)
        return lease_fail(r, saved_errno);
    if (lease->burst == BURST_NONE)
        r = lease_not_held(lease);
    else
        end_burst(lease);
    return lease_end(lease, r, saved_errno);
}

int brim_idle(brim_lease *lease)
{
    struct message message = { .type = MESSAGE_IDLE };
    int saved_errno = 0;
    int r = lease_begin(lease, &saved_errno);

    if (r < 0)
        return lease_fail(r, saved_errno);
    if (lease->state != BRIM_LEASE_IDLE && lease->state != BRIM_LEASE_BUSY)
        r = lease_not_held(lease);
    else if (lease->burst != BURST_NONE)
        end_burst(lease);
    if (r == 0)
        (void)link_send(lease, &message, NULL);
    return lease_end(lease, r, saved_errno);
}
