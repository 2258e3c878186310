/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "client/lease.h"

/* ---- making and freeing ---- */

static void lease_free(brim_lease *lease)
{
    link_close(lease);
    fd_close(&lease->timer_fd);
    fd_close(&lease->epoll_fd);
    (void)pthread_cond_destroy(&lease->changed);
    (void)pthread_mutex_destroy(&lease->mutex);
    free(lease);
}

static void init_locks(brim_lease *lease)
{
    (void)pthread_mutex_init(&lease->mutex, NULL); /* on Linux these cannot fail */
    (void)pthread_cond_init(&lease->changed, NULL);
}

static int open_descriptors(brim_lease *lease)
{
    struct epoll_event event = { .events = EPOLLIN };

    lease->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    lease->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    event.data.fd = lease->timer_fd;
    if (lease->epoll_fd < 0 || lease->timer_fd < 0 ||
        epoll_ctl(lease->epoll_fd, EPOLL_CTL_ADD, lease->timer_fd, &event) < 0)
        return errno == ENOMEM ? BRIM_ERR_NOMEM : BRIM_ERR_SYSTEM;
    return 0;
}

static int lease_new(const struct brim_claim *claim, brim_lease **ret_lease)
{
    struct message_claim checked;
    brim_lease *lease = NULL;
    int r = lease_check_claim(claim, &checked);

    if (r < 0)
        return r;
    lease = calloc(1, sizeof(*lease));
    if (!lease)
        return BRIM_ERR_NOMEM;
    init_locks(lease);
    lease->owner_pid = getpid();
    lease->epoll_fd = lease->timer_fd = lease->socket_fd = -1;
    lease->launch = (struct daemon_launch)DAEMON_LAUNCH_NONE;
    lease->claim = checked;
    lease->state = BRIM_LEASE_QUEUED;
    lease->timer_at_ms = CLOCK_NEVER_MS;
    lease->deadline_ms = clock_after_ms(clock_now_ms(), checked.max_wait_ms);
    lease->link_deadline_ms = clock_after_ms(clock_now_ms(), DAEMON_START_MS);
    r = open_descriptors(lease);
    if (r < 0) {
        lease_free(lease);
        return r;
    }
    *ret_lease = lease;
    return 0;
}

/* ---- every public call stands between these two ---- */

int lease_begin(brim_lease *lease, int *ret_errno)
{
    *ret_errno = errno;
    if (!lease)
        return BRIM_ERR_INVALID;
    if (lease->owner_pid != getpid())
        return BRIM_ERR_FORKED;
    (void)pthread_mutex_lock(&lease->mutex);
    lease->user_count++;
    return 0;
}

int lease_end(brim_lease *lease, int result, int saved_errno)
{
    const bool is_last = --lease->user_count == 0 && lease->is_released;

    if (!lease->is_released)
        lease_arm(lease);
    (void)pthread_mutex_unlock(&lease->mutex);
    if (is_last)
        lease_free(lease);
    errno = saved_errno;
    return result;
}

/* ---- acquire, release ---- */

int brim_acquire_start(const struct brim_claim *claim, brim_lease **ret_lease)
{
    const int saved_errno = errno;
    int r = 0;

    if (!ret_lease)
        return BRIM_ERR_INVALID;
    *ret_lease = NULL;
    r = lease_new(claim, ret_lease);
    if (r == 0) {
        link_open(*ret_lease);
        lease_arm(*ret_lease);
        /* What failed at once is told by a step, as everything that fails later. */
        if ((*ret_lease)->state == BRIM_LEASE_REFUSED)
            lease_kick(*ret_lease);
    }
    errno = saved_errno;
    return r;
}

int brim_acquire(const struct brim_claim *claim, brim_lease **ret_lease)
{
    int saved_errno = errno;
    int r = brim_acquire_start(claim, ret_lease);

    if (r < 0)
        return r;
    (void)lease_begin(*ret_lease, &saved_errno);
    while ((*ret_lease)->state == BRIM_LEASE_QUEUED)
        lease_wait(*ret_lease);
    r = lease_is_held(*ret_lease) ? 0 : (*ret_lease)->failure;
    (void)lease_end(*ret_lease, r, saved_errno);
    if (r < 0 && (*ret_lease)->refusal.text[0] == '\0') {
        brim_release(*ret_lease);
        *ret_lease = NULL;
    }
    return r;
}

/* In a fork's child the lease is not ours, and its lock may be held for ever. */
static void forget(brim_lease *lease)
{
    fd_close(&lease->socket_fd);
    fd_close(&lease->launch.lock_fd);
    fd_close(&lease->launch.ready_fd);
    fd_close(&lease->timer_fd);
    fd_close(&lease->epoll_fd);
    free(lease);
}

void brim_release(brim_lease *lease)
{
    struct message message = { .type = MESSAGE_RELEASE };
    int saved_errno = 0;
    const int r = lease_begin(lease, &saved_errno);

    if (r == BRIM_ERR_FORKED)
        forget(lease);
    if (r < 0) {
        errno = saved_errno;
        return;
    }
    if (lease_is_held(lease) || lease->state == BRIM_LEASE_QUEUED)
        (void)link_send(lease, &message, NULL);
    lease->is_released = true;
    link_close(lease);
    lease_kick(lease);
    (void)pthread_cond_broadcast(&lease->changed);
    if (lease->has_thread && !pthread_equal(lease->thread, pthread_self())) {
        const pthread_t thread = lease->thread;
        (void)pthread_mutex_unlock(&lease->mutex);
        (void)pthread_join(thread, NULL);
        (void)pthread_mutex_lock(&lease->mutex);
    } else if (lease->has_thread) {
        (void)pthread_detach(lease->thread);
    }
    (void)lease_end(lease, 0, saved_errno);
}
