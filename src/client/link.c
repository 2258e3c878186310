/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "client/lease.h"

#define RETRY_FIRST_MS  20    /* while somebody else starts the daemon, or it is busy */
#define RETRY_MAX_MS    1000  /* a daemon that is away is back within a second */
#define RETRY_LAUNCH_MS 10000 /* one that cannot start is not started in a loop */

static int watch(brim_lease *lease, int fd)
{
    struct epoll_event event = { .events = EPOLLIN, .data = { .fd = fd } };

    return epoll_ctl(lease->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* Closing alone would not do: a fork's child may hold the same socket, and epoll would go on
 * watching it. */
static void unwatch(brim_lease *lease, int fd)
{
    if (fd >= 0)
        (void)epoll_ctl(lease->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static void drop_descriptors(brim_lease *lease)
{
    unwatch(lease, lease->socket_fd);
    if (lease->socket_fd >= 0)
        (void)shutdown(lease->socket_fd, SHUT_RDWR);
    fd_close(&lease->socket_fd);
    unwatch(lease, lease->launch.ready_fd);
    daemon_launch_end(&lease->launch);
    lease->link = LINK_DOWN;
}

static void retry_after(brim_lease *lease, uint64_t delay_ms)
{
    lease->retry_at_ms = clock_after_ms(clock_now_ms(), delay_ms);
}

static uint64_t backoff_ms(const brim_lease *lease, uint64_t most_ms)
{
    const unsigned doublings = lease->failure_count < 16 ? lease->failure_count : 16;
    const uint64_t delay_ms = (uint64_t)RETRY_FIRST_MS << doublings;

    return delay_ms < most_ms ? delay_ms : most_ms;
}

void link_lose(brim_lease *lease, int failure)
{
    drop_descriptors(lease);
    lease->hello_seq = lease->claim_seq = lease->burst_seq = 0;
    if (lease->call_seq != 0) {
        lease->call_seq = 0;
        lease->call_result = failure;
    }
    retry_after(lease, backoff_ms(lease, RETRY_MAX_MS));
    lease->failure_count++;
    if (lease->state == BRIM_LEASE_QUEUED)
        lease->scope = DAEMON_ANY;
    if (lease->state == BRIM_LEASE_QUEUED && failure != BRIM_ERR_NO_DAEMON)
        lease_refuse(lease, failure, brim_strerror(failure));
    lease_wake(lease);
}

void link_close(brim_lease *lease)
{
    drop_descriptors(lease);
    lease->retry_at_ms = CLOCK_NEVER_MS;
}

int link_send(brim_lease *lease, struct message *message, uint32_t *ret_seq)
{
    unsigned char packet[MESSAGE_MAX_BYTES];
    size_t packet_bytes = 0;
    ssize_t sent = 0;

    if (lease->link != LINK_UP)
        return BRIM_ERR_NO_DAEMON;
    lease->last_seq += lease->last_seq == UINT32_MAX ? 2 : 1;
    message->seq = lease->last_seq;
    packet_bytes = message_encode(message, packet);
    do
        sent = send(lease->socket_fd, packet, packet_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        /* Also when its socket is full: a daemon that does not read is as good as away, and the
         * next one is told everything that counts. */
        link_lose(lease, BRIM_ERR_NO_DAEMON);
        return BRIM_ERR_NO_DAEMON;
    }
    if (ret_seq)
        *ret_seq = message->seq;
    return 0;
}

static uint64_t wait_left_ms(uint64_t deadline_ms)
{
    const uint64_t now_ms = clock_now_ms();

    if (deadline_ms == CLOCK_NEVER_MS)
        return UINT64_MAX;
    return deadline_ms > now_ms ? deadline_ms - now_ms : 0;
}

void link_send_burst(brim_lease *lease)
{
    struct message message = { .type = MESSAGE_BURST_BEGIN };

    message.burst.bytes = lease->burst_bytes;
    message.burst.max_wait_ms = wait_left_ms(lease->burst_deadline_ms);
    (void)link_send(lease, &message, &lease->burst_seq);
}

static void send_hello(brim_lease *lease)
{
    struct message message = { .type = MESSAGE_HELLO };

    message.hello.client_pid = (uint32_t)getpid();
    (void)snprintf(message.hello.program, sizeof(message.hello.program), "%s",
                   program_invocation_short_name);
    (void)link_send(lease, &message, &lease->hello_seq);
}

static void send_acquire(brim_lease *lease)
{
    struct message message = { .type = MESSAGE_ACQUIRE };

    message.acquire = lease->claim;
    message.acquire.max_wait_ms = wait_left_ms(lease->deadline_ms);
    (void)link_send(lease, &message, &lease->claim_seq);
}

static void send_reattach(brim_lease *lease)
{
    struct message message = { .type = MESSAGE_REATTACH };

    message.reattach.lease_id = lease->id;
    message.reattach.state = (uint32_t)lease->state;
    message.reattach.burst_bytes = lease->burst == BURST_TAKEN ? lease->burst_bytes : 0;
    message.reattach.claim = lease->claim;
    memcpy(message.reattach.claim.gpu, lease->gpus, sizeof(message.reattach.claim.gpu));
    (void)link_send(lease, &message, &lease->claim_seq);
}

static void go_up(brim_lease *lease, int take_fd)
{
    lease->socket_fd = take_fd;
    if (watch(lease, lease->socket_fd) < 0) {
        link_lose(lease, BRIM_ERR_SYSTEM);
        return;
    }
    lease->link = LINK_UP;
    send_hello(lease);
    if (lease->state == BRIM_LEASE_QUEUED)
        send_acquire(lease);
    else
        send_reattach(lease);
}

static void fail_to_start(brim_lease *lease, const struct error *err)
{
    drop_descriptors(lease);
    retry_after(lease, backoff_ms(lease, RETRY_LAUNCH_MS));
    lease->failure_count++;
    if (lease->state == BRIM_LEASE_QUEUED && !lease->has_answered)
        lease_refuse(lease, BRIM_ERR_NO_DAEMON, err->message);
}

static void start_daemon(brim_lease *lease)
{
    struct error err = { 0 };
    const int r = daemon_launch_begin(&lease->launch, &err);

    if (r == 1) {
        retry_after(lease, RETRY_FIRST_MS);
        return;
    }
    if (r < 0) {
        fail_to_start(lease, &err);
        return;
    }
    lease->link = LINK_STARTING;
    lease->launch_deadline_ms = clock_after_ms(clock_now_ms(), DAEMON_START_MS);
    if (watch(lease, lease->launch.ready_fd) < 0) {
        (void)error_set(&err, -errno, "cannot watch brimd's start: %s", strerror(errno));
        fail_to_start(lease, &err);
    }
}

void link_open(brim_lease *lease)
{
    struct error err = { 0 };
    enum daemon_scope scope = lease->scope;
    int fd = -1;
    const int r = daemon_connect(lease->scope, &fd, &scope, &err);

    if (r == 0) {
        lease->scope = scope;
        go_up(lease, fd);
    } else if (r == -EAGAIN) {
        retry_after(lease, RETRY_FIRST_MS);
    } else if ((r == -ENOENT || r == -ECONNREFUSED) && scope != DAEMON_SYSTEM) {
        start_daemon(lease);
    } else if (r == -ENOENT || r == -ECONNREFUSED) {
        retry_after(lease, backoff_ms(lease, RETRY_MAX_MS));
        lease->failure_count++;
    } else {
        fail_to_start(lease, &err);
    }
}

void link_check_launch(brim_lease *lease)
{
    struct error err = { 0 };
    int r = daemon_launch_check(&lease->launch, &err);

    if (r == 1 && clock_now_ms() >= lease->launch_deadline_ms)
        r = error_set(&err, -ETIMEDOUT, "brimd does not listen after %d s", DAEMON_START_MS / 1000);
    if (r == 1)
        return;
    drop_descriptors(lease);
    if (r < 0)
        fail_to_start(lease, &err);
    else
        link_open(lease);
}
