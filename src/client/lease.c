/* SPDX-License-Identifier: Apache-2.0 */

#include "client/lease.h"

#include <errno.h>
#include <signal.h>

#include "base/clock.h"
#include "base/process.h"

/* ---- what a lease is ---- */

static brim_lease *unconst(const brim_lease *lease)
{
    return (brim_lease *)(uintptr_t)lease; /* only its lock is touched */
}

enum brim_lease_state brim_lease_state(const brim_lease *lease)
{
    enum brim_lease_state state = BRIM_LEASE_LOST;
    int saved_errno = 0;

    if (lease_begin(unconst(lease), &saved_errno) < 0)
        return state;
    state = lease->state;
    (void)lease_end(unconst(lease), 0, saved_errno);
    return state;
}

uint64_t brim_lease_id(const brim_lease *lease)
{
    uint64_t id = 0;
    int saved_errno = 0;

    if (lease_begin(unconst(lease), &saved_errno) < 0)
        return 0;
    id = lease->id;
    (void)lease_end(unconst(lease), 0, saved_errno);
    return id;
}

const char *brim_lease_gpu_uuid(const brim_lease *lease)
{
    const char *gpus = "";
    int saved_errno = 0;

    if (lease_begin(unconst(lease), &saved_errno) < 0)
        return gpus;
    if (lease->state != BRIM_LEASE_QUEUED) /* from then on it does not change */
        gpus = lease->gpus;
    (void)lease_end(unconst(lease), 0, saved_errno);
    return gpus;
}

const struct brim_refusal *brim_lease_refusal(const brim_lease *lease)
{
    brim_lease *own = unconst(lease);
    const struct brim_refusal *refusal = NULL;
    int saved_errno = 0;

    if (lease_begin(own, &saved_errno) < 0)
        return NULL;
    if (own->has_refusal) {
        own->shown = own->refusal;
        own->shown.data.text = own->shown.text;
        refusal = &own->shown.data;
    }
    (void)lease_end(own, 0, saved_errno);
    return refusal;
}

int brim_lease_is_connected(const brim_lease *lease)
{
    int is_connected = 0;
    int saved_errno = 0;

    if (lease_begin(unconst(lease), &saved_errno) < 0)
        return 0;
    is_connected = lease->link == LINK_UP;
    (void)lease_end(unconst(lease), 0, saved_errno);
    return is_connected;
}

int brim_lease_fd(const brim_lease *lease)
{
    return lease ? lease->epoll_fd : BRIM_ERR_INVALID;
}

int lease_socket_fd(brim_lease *lease)
{
    return lease->socket_fd;
}

/* ---- what a holder tells ---- */

int brim_ready(brim_lease *lease)
{
    struct message message = { .type = MESSAGE_READY };
    int saved_errno = 0;
    int r = lease_begin(lease, &saved_errno);

    if (r < 0)
        return lease_fail(r, saved_errno);
    if (lease->state == BRIM_LEASE_LOADING) {
        lease->state =
            lease->claim.flags & BRIM_CLAIM_ALWAYS_BUSY ? BRIM_LEASE_BUSY : BRIM_LEASE_IDLE;
        /* Where the daemon is away, the next one hears it with REATTACH. */
        (void)link_send(lease, &message, NULL);
    } else {
        r = lease_not_held(lease);
    }
    return lease_end(lease, r, saved_errno);
}

/* Send a request whose answer decides; wait for it, but not for a daemon that hangs. */
static int ask(brim_lease *lease, struct message *message)
{
    int r = 0;

    while (lease->call_seq != 0 && !lease->is_released)
        lease_wait(lease);
    if (lease->is_released)
        return BRIM_ERR_CANCELLED;
    r = link_send(lease, message, &lease->call_seq);
    if (r < 0)
        return r;
    const uint32_t seq = lease->call_seq;
    lease->call_deadline_ms = clock_after_ms(clock_now_ms(), lease_answer_ms);
    while (lease->call_seq == seq && !lease->is_released)
        lease_wait(lease);
    return lease->is_released ? BRIM_ERR_CANCELLED : lease->call_result;
}

static int read_start(uint64_t pid, uint64_t *ret_start_ticks)
{
    struct process_info info = { 0 };
    const int r = process_read((pid_t)pid, &info);

    if (r < 0)
        return r == -ENOMEM ? BRIM_ERR_NOMEM : BRIM_ERR_INVALID;
    *ret_start_ticks = info.start_ticks;
    return 0;
}

int brim_lease_bind(brim_lease *lease, uint64_t pid)
{
    struct message message = { .type = MESSAGE_BIND };
    int saved_errno = 0;
    int r = lease_begin(lease, &saved_errno);

    if (r < 0)
        return lease_fail(r, saved_errno);
    if (!lease_is_held(lease))
        r = lease_not_held(lease);
    else if (pid == 0 || pid > INT32_MAX)
        r = BRIM_ERR_INVALID;
    else
        r = read_start(pid, &message.bind.start_ticks);
    if (r == 0) {
        message.bind.pid = (uint32_t)pid;
        r = lease->link == LINK_UP ? ask(lease, &message) : 0;
    }
    if (r == 0)
        lease->claim.pid = (uint32_t)pid;
    return lease_end(lease, r, saved_errno);
}

int brim_resize(brim_lease *lease, uint64_t resident_bytes, uint64_t burst_bytes)
{
    struct message message = { .type = MESSAGE_RESIZE };
    uint64_t peak_bytes = 0;
    int saved_errno = 0;
    int r = lease_begin(lease, &saved_errno);

    if (r < 0)
        return lease_fail(r, saved_errno);
    const struct message_claim *claim = &lease->claim;
    if (!lease_is_held(lease))
        r = lease_not_held(lease);
    else if (__builtin_add_overflow(resident_bytes, burst_bytes, &peak_bytes))
        r = BRIM_ERR_INVALID;
    message.resize.resident_bytes = resident_bytes;
    message.resize.burst_bytes = burst_bytes;
    if (r == 0)
        r = ask(lease, &message);
    /* Less is always granted, also by a daemon that is away: the next one hears it. */
    if (r == BRIM_ERR_NO_DAEMON && resident_bytes <= claim->resident_bytes &&
        burst_bytes <= claim->burst_bytes)
        r = 0;
    if (r == 0) {
        lease->claim.resident_bytes = resident_bytes;
        lease->claim.burst_bytes = burst_bytes;
    }
    return lease_end(lease, r, saved_errno);
}

/* ---- callbacks and the event loop ---- */

void brim_on_trim(brim_lease *lease, brim_trim_callback callback, void *user)
{
    int saved_errno = 0;

    if (lease_begin(lease, &saved_errno) < 0)
        return;
    lease->on_trim = callback;
    lease->trim_user = user;
    (void)lease_end(lease, 0, saved_errno);
}

void brim_on_stop(brim_lease *lease, brim_stop_callback callback, void *user)
{
    int saved_errno = 0;

    if (lease_begin(lease, &saved_errno) < 0)
        return;
    lease->on_stop = callback;
    lease->stop_user = user;
    if (lease->has_stop)
        lease_kick(lease); /* it was asked before anybody listened */
    (void)lease_end(lease, 0, saved_errno);
}

int brim_dispatch(brim_lease *lease)
{
    int saved_errno = 0;
    int r = lease_begin(lease, &saved_errno);

    if (r < 0)
        return lease_fail(r, saved_errno);
    r = lease_step(lease);
    return lease_end(lease, r, saved_errno);
}

static void *run_thread(void *argument)
{
    brim_lease *lease = argument;
    int saved_errno = 0;

    if (lease_begin(lease, &saved_errno) < 0)
        return NULL;
    while (!lease->is_released)
        lease_wait(lease);
    (void)lease_end(lease, 0, saved_errno);
    return NULL;
}

int brim_thread_start(brim_lease *lease)
{
    sigset_t all, before;
    int saved_errno = 0;
    int r = lease_begin(lease, &saved_errno);

    if (r < 0)
        return lease_fail(r, saved_errno);
    if (lease->has_thread) {
        r = BRIM_ERR_STATE;
    } else {
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(&lease->thread, NULL, run_thread, lease) == 0 ? 0 : BRIM_ERR_SYSTEM;
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        lease->has_thread = r == 0;
    }
    return lease_end(lease, r, saved_errno);
}
