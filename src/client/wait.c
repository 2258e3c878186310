/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/lease.h"

#define NOW_MS            1  /* a time long ago: the timer fires at once */
#define RECEIVE_AT_A_TIME 64 /* messages of one step, so that a flood does not hold the caller */

uint64_t lease_answer_ms = 3000;

/* ---- the timer ---- */

static void set_timer(brim_lease *lease, uint64_t at_ms)
{
    struct itimerspec when = { 0 };

    if (at_ms == lease->timer_at_ms)
        return;
    lease->timer_at_ms = at_ms;
    if (at_ms != CLOCK_NEVER_MS) {
        when.it_value.tv_sec = (time_t)(at_ms / 1000);
        when.it_value.tv_nsec = (long)(at_ms % 1000) * 1000000;
    }
    (void)timerfd_settime(lease->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void keep_least(uint64_t *least_ms, uint64_t at_ms)
{
    if (at_ms < *least_ms)
        *least_ms = at_ms;
}

/* When a wait of ours ends even if the daemon says nothing: it counts the same deadline, and gets
 * some time to tell the reason. */
static uint64_t patience_ms(const brim_lease *lease, uint64_t deadline_ms)
{
    return lease->link == LINK_UP ? clock_after_ms(deadline_ms, lease_answer_ms) : deadline_ms;
}

static uint64_t claim_deadline_ms(const brim_lease *lease)
{
    return lease->has_answered ? patience_ms(lease, lease->deadline_ms) : lease->link_deadline_ms;
}

static uint64_t next_deadline_ms(const brim_lease *lease)
{
    uint64_t next_ms = CLOCK_NEVER_MS;

    if (lease->link == LINK_DOWN)
        keep_least(&next_ms, lease->retry_at_ms);
    if (lease->link == LINK_STARTING)
        keep_least(&next_ms, lease->launch_deadline_ms);
    if (lease->state == BRIM_LEASE_QUEUED)
        keep_least(&next_ms, claim_deadline_ms(lease));
    if (lease->burst == BURST_WAITING)
        keep_least(&next_ms, patience_ms(lease, lease->burst_deadline_ms));
    if (lease->call_seq != 0)
        keep_least(&next_ms, lease->call_deadline_ms);
    return next_ms;
}

void lease_kick(brim_lease *lease)
{
    set_timer(lease, NOW_MS);
}

void lease_arm(brim_lease *lease)
{
    if (lease->timer_at_ms != NOW_MS)
        set_timer(lease, next_deadline_ms(lease));
}

void lease_wake(brim_lease *lease)
{
    (void)pthread_cond_broadcast(&lease->changed);
    if (lease->is_polled)
        lease_kick(lease);
}

/* ---- deadlines ---- */

static void end_late_burst(brim_lease *lease)
{
    struct message message = { .type = MESSAGE_BURST_END };

    lease->burst = BURST_NONE;
    lease->burst_seq = 0;
    lease->burst_failure = BRIM_ERR_NO_ROOM;
    lease_set_reason(lease, BRIM_ERR_NO_ROOM,
                     lease->link == LINK_UP
                         ? "brimd did not answer in the time that was given"
                         : "brimd is away; a new burst has to wait until it is back");
    if (lease->link == LINK_UP)
        (void)link_send(lease, &message, NULL);
}

static void pass_time(brim_lease *lease)
{
    const uint64_t now_ms = clock_now_ms();
    uint64_t expired_count = 0;

    if (now_ms < lease->timer_at_ms)
        return;
    (void)!read(lease->timer_fd, &expired_count, sizeof(expired_count));
    lease->timer_at_ms = 0;
    if (lease->state == BRIM_LEASE_QUEUED && now_ms >= claim_deadline_ms(lease)) {
        const int failure = lease->has_answered ? BRIM_ERR_NO_ROOM : BRIM_ERR_NO_DAEMON;
        lease_refuse(lease, failure, "brimd did not answer in the time that was given");
    }
    if (lease->burst == BURST_WAITING && now_ms >= patience_ms(lease, lease->burst_deadline_ms))
        end_late_burst(lease);
    if (lease->call_seq != 0 && now_ms >= lease->call_deadline_ms)
        link_lose(lease, BRIM_ERR_NO_DAEMON);
    if (lease->link == LINK_DOWN && now_ms >= lease->retry_at_ms)
        link_open(lease);
}

/* ---- callbacks ---- */

static void call_trim(brim_lease *lease)
{
    struct message message = { .type = MESSAGE_TRIMMED };
    const brim_trim_callback callback = lease->on_trim;
    void *user = lease->trim_user;
    const uint64_t wanted_bytes = lease->trim_bytes;

    lease->has_trim = false;
    if (callback && lease->burst != BURST_TAKEN) {
        (void)pthread_mutex_unlock(&lease->mutex);
        message.amount.bytes = callback(lease, wanted_bytes, user);
        (void)pthread_mutex_lock(&lease->mutex);
    }
    (void)link_send(lease, &message, NULL);
}

static void call_stop(brim_lease *lease)
{
    const brim_stop_callback callback = lease->on_stop;
    void *user = lease->stop_user;
    char text[sizeof(lease->stop_text)];

    lease->has_stop = false;
    memcpy(text, lease->stop_text, sizeof(text));
    (void)pthread_mutex_unlock(&lease->mutex);
    callback(lease, text, user);
    (void)pthread_mutex_lock(&lease->mutex);
}

/* One thread at a time, without the lock: a callback may make any call on the lease, brim_release()
 * included. */
static void run_callbacks(brim_lease *lease)
{
    if (lease->is_in_callback)
        return;
    lease->is_in_callback = true;
    while (!lease->is_released && (lease->has_trim || (lease->has_stop && lease->on_stop))) {
        if (lease->has_trim)
            call_trim(lease);
        else
            call_stop(lease);
    }
    lease->is_in_callback = false;
}

/* ---- steps ---- */

int lease_step(brim_lease *lease)
{
    bool has_changed = false;
    int r = 0;

    if (lease->is_released)
        return BRIM_ERR_CANCELLED;
    if (clock_now_ms() >= lease->timer_at_ms) {
        pass_time(lease);
        has_changed = true;
    }
    if (lease->link == LINK_STARTING) {
        link_check_launch(lease);
        has_changed = true;
    }
    for (int taken = 0; lease->link == LINK_UP && taken < RECEIVE_AT_A_TIME; taken++) {
        r = lease_receive(lease);
        if (r <= 0)
            break;
        has_changed = true;
    }
    run_callbacks(lease);
    set_timer(lease, next_deadline_ms(lease));
    if (has_changed || r < 0 || lease->is_released)
        lease_wake(lease);
    return r < 0 ? r : 0;
}

void lease_wait(brim_lease *lease)
{
    struct pollfd watch = { .fd = lease->epoll_fd, .events = POLLIN };

    if (lease->is_released)
        return;
    if (lease->is_polled) {
        (void)pthread_cond_wait(&lease->changed, &lease->mutex);
        return;
    }
    lease_arm(lease);
    lease->is_polled = true;
    (void)pthread_mutex_unlock(&lease->mutex);
    (void)poll(&watch, 1, -1);
    (void)pthread_mutex_lock(&lease->mutex);
    lease->is_polled = false;
    (void)lease_step(lease);
    /* Whoever waits for `changed` may have to poll now. */
    (void)pthread_cond_broadcast(&lease->changed);
}
