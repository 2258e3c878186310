/* SPDX-License-Identifier: Apache-2.0 */

/* libbrim used by several threads at once. */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "lease_steps.h"

#define WORKER_COUNT 4
#define ROUND_COUNT  50

static struct fake_daemon fake;

static void *begin_burst(void *argument)
{
    return (void *)(intptr_t)brim_burst_begin(argument, 0, BRIM_WAIT_FOREVER);
}

static int join(pthread_t thread)
{
    void *result = NULL;

    CHECK(pthread_join(thread, &result) == 0);
    return (int)(intptr_t)result;
}

static void test_one_thread_ends_what_another_waits_for(void)
{
    pthread_t thread;

    fake_open(&fake);
    brim_lease *lease = get_idle(&fake);
    CHECK(pthread_create(&thread, NULL, begin_burst, lease) == 0);
    (void)fake_expect(&fake, MESSAGE_BURST_BEGIN); /* now it waits */
    CHECK(brim_burst_end(lease) == 0);
    CHECK(join(thread) == BRIM_ERR_CANCELLED);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_IDLE);
    brim_release(lease);
    fake_close(&fake);
}

static void test_release_ends_every_wait(void)
{
    pthread_t burst, watcher;

    fake_open(&fake);
    brim_lease *lease = get_idle(&fake);
    CHECK(brim_thread_start(lease) == 0);
    CHECK(brim_thread_start(lease) == BRIM_ERR_STATE);
    CHECK(pthread_create(&burst, NULL, begin_burst, lease) == 0);
    (void)fake_expect(&fake, MESSAGE_BURST_BEGIN);
    CHECK(pthread_create(&watcher, NULL, begin_burst, lease) == 0);
    CHECK(join(watcher) == BRIM_ERR_STATE); /* one at a time */
    brim_release(lease);
    CHECK(join(burst) == BRIM_ERR_CANCELLED);
    fake_close(&fake);
}

static atomic_uint trim_count, blocked_signals;

static uint64_t on_trim(brim_lease *lease, uint64_t wanted_bytes, void *user)
{
    sigset_t blocked;

    (void)user;
    CHECK(brim_idle(lease) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &blocked) == 0);
    blocked_signals += sigismember(&blocked, SIGINT) == 1;
    trim_count++;
    return wanted_bytes;
}

static void release_in_callback(brim_lease *lease, const char *reason, void *user)
{
    (void)reason;
    (void)user;
    brim_release(lease);
}

static void test_the_thread_dispatches_and_may_release(void)
{
    fake_open(&fake);
    brim_lease *lease = get_idle(&fake);
    brim_on_trim(lease, on_trim, NULL);
    brim_on_stop(lease, release_in_callback, NULL);
    CHECK(brim_thread_start(lease) == 0);
    for (unsigned i = 0; i < 3; i++) {
        fake_say(&fake, fake_amount(MESSAGE_TRIM, 10));
        (void)fake_expect(&fake, MESSAGE_IDLE);
        CHECK_EQ_U64(fake_expect(&fake, MESSAGE_TRIMMED).amount.bytes, 10);
    }
    CHECK_EQ_U64(trim_count, 3);
    CHECK_EQ_U64(blocked_signals, 3);
    fake_say(&fake, fake_text(MESSAGE_STOP, "end"));
    (void)fake_expect(&fake, MESSAGE_RELEASE);
    fake_expect_end(&fake);
    fake_close(&fake);
}

/* Answers every request at once, until the connection ends. */
static void *serve(void *argument)
{
    unsigned char packet[MESSAGE_MAX_BYTES];
    size_t bytes = 0;

    (void)argument;
    do {
        struct message message;
        const ssize_t got = recv(fake.client_fd, packet, sizeof(packet), 0);
        if (got <= 0)
            return NULL;
        CHECK(message_decode(packet, (size_t)got, &message, NULL) == 0);
        if (message.type == MESSAGE_BURST_BEGIN) {
            message.type = MESSAGE_BURST_GRANTED;
            message.amount.bytes = message.burst.bytes;
        } else {
            message.type = MESSAGE_DONE;
        }
        bytes = message_encode(&message, packet);
    } while (send(fake.client_fd, packet, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
    return NULL; /* who released does not wait for the answer */
}

static void *work(void *argument)
{
    brim_lease *lease = argument;
    intptr_t granted = 0;

    for (unsigned i = 0; i < ROUND_COUNT; i++) {
        const int r = brim_burst_begin(lease, 1 + i, BRIM_WAIT_FOREVER);
        CHECK(r == 0 || r == BRIM_ERR_STATE || r == BRIM_ERR_CANCELLED);
        if (r == 0) {
            granted++;
            /* Another thread may have ended it already: one lease has one burst. */
            const int ended = brim_burst_end(lease);
            CHECK(ended == 0 || ended == BRIM_ERR_STATE);
        }
        CHECK(brim_resize(lease, GIB_3 - i, GIB_1) == 0);
        (void)brim_lease_state(lease);
        (void)brim_dispatch(lease);
    }
    return (void *)granted;
}

static void test_many_threads_take_turns(void)
{
    pthread_t server, workers[WORKER_COUNT];
    int granted = 0;

    fake_open(&fake);
    brim_lease *lease = get_idle(&fake);
    CHECK(pthread_create(&server, NULL, serve, NULL) == 0);
    CHECK(brim_thread_start(lease) == 0);
    for (unsigned i = 0; i < WORKER_COUNT; i++)
        CHECK(pthread_create(&workers[i], NULL, work, lease) == 0);
    for (unsigned i = 0; i < WORKER_COUNT; i++)
        granted += join(workers[i]);
    CHECK(granted > 0);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_IDLE);
    brim_release(lease);
    (void)join(server);
    fake_close(&fake);
}

/* A fork while the thread may hold the lock: the child must not even try it. */
static void test_fork_beside_a_running_thread(void)
{
    int status = 0;

    fake_open(&fake);
    brim_lease *lease = get_idle(&fake);
    CHECK(brim_thread_start(lease) == 0);
    for (unsigned i = 0; i < 10; i++) {
        fake_say(&fake, fake_amount(MESSAGE_TRIM, 10));
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            const int r = brim_burst_begin(lease, 0, BRIM_NO_WAIT);
            brim_release(lease);
            _exit(r == BRIM_ERR_FORKED ? 0 : 1);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        (void)fake_expect(&fake, MESSAGE_TRIMMED);
    }
    brim_release(lease);
    fake_close(&fake);
}

TESTS(TEST(test_one_thread_ends_what_another_waits_for), TEST(test_release_ends_every_wait),
      TEST(test_the_thread_dispatches_and_may_release), TEST(test_many_threads_take_turns),
      TEST(test_fork_beside_a_running_thread))
