/* SPDX-License-Identifier: Apache-2.0 */

/* libbrim against a scripted daemon: what it survives, and what its host does not notice. */

#include <dirent.h>
#include <errno.h>
#include <sys/wait.h>

#include "client/lease.h"
#include "lease_steps.h"

static bool is_connected(brim_lease *lease)
{
    return brim_lease_is_connected(lease) != 0;
}

static void test_a_lease_outlives_its_daemon(void)
{
    struct fake_daemon fake;

    fake_open(&fake);
    brim_lease *lease = get_idle(&fake);
    const int fd = brim_lease_fd(lease);
    take_burst(&fake, lease);
    fake_die(&fake);
    settle(lease);
    CHECK(!brim_lease_is_connected(lease));
    CHECK(brim_lease_state(lease) == BRIM_LEASE_BUSY);
    fake_listen(&fake);
    dispatch_until(lease, is_connected);
    CHECK(brim_lease_fd(lease) == fd);
    fake_accept(&fake);
    const struct message told = fake_expect(&fake, MESSAGE_REATTACH);
    CHECK_EQ_U64(told.reattach.lease_id, 7);
    CHECK_EQ_U64(told.reattach.state, BRIM_LEASE_BUSY);
    CHECK_EQ_U64(told.reattach.burst_bytes, GIB_1);
    CHECK_EQ_U64(told.reattach.claim.resident_bytes, GIB_3);
    CHECK(strcmp(told.reattach.claim.gpu, FAKE_GPU) == 0);
    fake_say(&fake, fake_granted(7, BRIM_LEASE_BUSY));
    settle(lease);
    CHECK(brim_burst_end(lease) == 0);
    (void)fake_expect(&fake, MESSAGE_BURST_END);
    brim_release(lease);
    fake_close(&fake);
}

static void test_what_waits_is_asked_again_of_the_next_daemon(void)
{
    struct fake_daemon fake;

    fake_open(&fake);
    brim_lease *queued = start(&fake, BRIM_WAIT_FOREVER);
    fake_say(&fake, fake_reason(MESSAGE_QUEUED, 0, "wait"));
    settle(queued);
    fake_die(&fake);
    settle(queued);
    fake_listen(&fake);
    dispatch_until(queued, is_connected);
    fake_accept(&fake);
    (void)fake_expect(&fake, MESSAGE_ACQUIRE);
    brim_release(queued);

    brim_lease *lease = get_idle(&fake);
    fake_die(&fake);
    settle(lease);
    CHECK(brim_burst_begin(lease, 0, BRIM_NO_WAIT) == BRIM_ERR_NO_ROOM);
    CHECK(strstr(brim_lease_refusal(lease)->text, "away") != NULL);
    CHECK(brim_resize(lease, GIB_3 + 1, 0) == BRIM_ERR_NO_DAEMON);
    CHECK(brim_resize(lease, GIB_3 - 1, 0) == 0); /* less is granted by nobody's leave */
    CHECK(brim_resize(lease, GIB_3 - 1, 1) == BRIM_ERR_NO_DAEMON);
    CHECK(brim_burst_start(lease, 0, BRIM_WAIT_FOREVER) == 1);
    CHECK(!brim_lease_refusal(lease)); /* that of the burst before is no reason of this one */
    fake_listen(&fake);
    dispatch_until(lease, is_connected);
    fake_accept(&fake);
    CHECK_EQ_U64(fake_expect(&fake, MESSAGE_REATTACH).reattach.claim.resident_bytes, GIB_3 - 1);
    fake_say(&fake, fake_granted(8, BRIM_LEASE_IDLE));
    settle(lease);
    (void)fake_expect(&fake, MESSAGE_BURST_BEGIN);
    fake_say(&fake, fake_amount(MESSAGE_BURST_GRANTED, 0));
    settle(lease);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_BUSY);
    CHECK_EQ_U64(brim_lease_id(lease), 8);
    brim_release(lease);
    fake_close(&fake);
}

static void test_a_lease_can_be_lost(void)
{
    struct fake_daemon fake;

    fake_open(&fake);
    brim_lease *lease = get_idle(&fake);
    fake_say(&fake, fake_text(MESSAGE_LOST, "the gpu fell off the bus"));
    settle(lease);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_LOST);
    CHECK(strcmp(brim_lease_refusal(lease)->text, "the gpu fell off the bus") == 0);
    CHECK(brim_burst_begin(lease, 0, BRIM_WAIT_FOREVER) == BRIM_ERR_LOST);
    brim_release(lease);

    lease = get_idle(&fake);
    fake_hang_up(&fake);
    settle(lease);
    dispatch_until(lease, is_connected);
    fake_accept(&fake);
    (void)fake_expect(&fake, MESSAGE_REATTACH);
    fake_say(&fake, fake_reason(MESSAGE_REFUSED, MESSAGE_CODE_NO_GPU, "that gpu is gone"));
    settle(lease);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_LOST);
    brim_release(lease);
    fake_close(&fake);
}

static void say_raw(struct fake_daemon *fake, const void *bytes, size_t count)
{
    CHECK(send(fake->client_fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count);
}

static void test_garbage_from_the_daemon_is_told_and_survived(void)
{
    static const unsigned char garbage[4096] = { 'B', 'M', 1, 0, 65 };
    struct fake_daemon fake;

    fake_open(&fake);
    for (size_t bytes = 1; bytes <= sizeof(garbage); bytes *= 4) {
        brim_lease *lease = start(&fake, BRIM_WAIT_FOREVER);
        say_raw(&fake, garbage, bytes);
        CHECK(brim_dispatch(lease) == BRIM_ERR_PROTOCOL);
        CHECK(is_refused(lease));
        CHECK(brim_lease_refusal(lease)->code == BRIM_ERR_PROTOCOL);
        brim_release(lease);
    }
    brim_lease *lease = start(&fake, BRIM_WAIT_FOREVER);
    fake_say(&fake, (struct message){ .type = MESSAGE_READY }); /* a client's word */
    CHECK(brim_dispatch(lease) == BRIM_ERR_PROTOCOL);
    brim_release(lease);

    lease = get_idle(&fake);
    fake_say(&fake, fake_granted(8, BRIM_LEASE_BUSY)); /* nobody asked */
    CHECK(brim_dispatch(lease) == BRIM_ERR_PROTOCOL);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_IDLE); /* what was granted stays */
    dispatch_until(lease, is_connected);
    fake_accept(&fake);
    CHECK_EQ_U64(fake_expect(&fake, MESSAGE_REATTACH).reattach.lease_id, 7);
    brim_release(lease);
    fake_close(&fake);
}

static uint64_t noise(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Whole messages of every type with a few bits turned over: some are believed, none does harm. */
static void test_noise_from_the_daemon_does_no_harm(void)
{
    struct fake_daemon fake;
    uint64_t state = UINT64_C(0x2545f4914f6cdd1d);
    unsigned granted = 0;

    fake_open(&fake);
    for (unsigned round = 0; round < 600; round++) {
        struct message message = fake_reason(MESSAGE_REFUSED, MESSAGE_CODE_NO_ROOM, "full");
        unsigned char packet[MESSAGE_MAX_BYTES];
        brim_lease *lease = start(&fake, BRIM_WAIT_FOREVER);

        if (round % 3 == 0)
            message = fake_granted(7, BRIM_LEASE_LOADING);
        message.type = round % 3 == 2 ? (enum message_type)(64 + round % 9) : message.type;
        message.seq = fake.seq;
        const size_t bytes = message_encode(&message, packet);
        for (unsigned flips = (unsigned)(noise(&state) % 4); flips > 0; flips--)
            packet[noise(&state) % (flips == 1 ? MESSAGE_HEAD_BYTES + 32 : bytes)] ^=
                (unsigned char)(1u << (noise(&state) % 8));
        say_raw(&fake, packet, bytes);
        (void)brim_dispatch(lease);
        granted += brim_lease_state(lease) == BRIM_LEASE_LOADING;
        brim_release(lease);
    }
    CHECK(granted > 30 && granted < 300);
    fake_close(&fake);
}

static void test_another_version_is_told_apart(void)
{
    struct fake_daemon fake;
    const struct brim_claim claim = a_claim(BRIM_WAIT_FOREVER);
    brim_lease *lease = NULL;

    fake_open(&fake);
    CHECK(brim_acquire_start(&claim, &lease) == 0);
    fake_accept(&fake); /* seq of the HELLO */
    fake_say(&fake, fake_reason(MESSAGE_REFUSED, MESSAGE_CODE_VERSION, "brimd 0.9 speaks 9"));
    CHECK(brim_dispatch(lease) == 0);
    CHECK(is_refused(lease));
    CHECK(brim_lease_refusal(lease)->code == BRIM_ERR_VERSION);
    CHECK(strcmp(brim_lease_refusal(lease)->text, "brimd 0.9 speaks 9") == 0);
    brim_release(lease);

    lease = start(&fake, BRIM_WAIT_FOREVER);
    static const unsigned char later[] = { 'B', 'M', 2, 0, 64, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0 };
    say_raw(&fake, later, sizeof(later));
    CHECK(brim_dispatch(lease) == BRIM_ERR_VERSION);
    brim_release(lease);
    fake_close(&fake);
}

static void test_without_a_daemon_it_says_what_failed(void)
{
    struct fake_daemon fake;
    const struct brim_claim claim = a_claim(BRIM_WAIT_FOREVER);
    brim_lease *lease = NULL;

    fake_open(&fake);
    fake_die(&fake);
    CHECK(setenv("BRIM_TEST_DAEMON", "refuse", 1) == 0);
    CHECK(brim_acquire(&claim, &lease) == BRIM_ERR_NO_DAEMON);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_REFUSED);
    CHECK(strstr(brim_lease_refusal(lease)->text, "the moon is full") != NULL);
    brim_release(lease);
    CHECK(unsetenv("BRIM_TEST_DAEMON") == 0);
    fake_close(&fake);
}

static void test_bad_claims_are_refused_here(void)
{
    char name[65], gpu[400];
    struct brim_claim claim = a_claim(BRIM_NO_WAIT);
    brim_lease *lease = NULL;

    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    memset(gpu, '0', sizeof(gpu) - 1);
    gpu[sizeof(gpu) - 1] = '\0';
#define REFUSES(member, value)                                                                     \
    claim = a_claim(BRIM_NO_WAIT);                                                                 \
    claim.member = (value);                                                                        \
    CHECK(brim_acquire(&claim, &lease) == BRIM_ERR_INVALID);                                       \
    CHECK(lease == NULL)
    REFUSES(struct_bytes, 8);
    REFUSES(priority, 3);
    REFUSES(name, name);
    REFUSES(gpu, gpu);
    REFUSES(burst_bytes, UINT64_MAX);
    REFUSES(max_wait_ms, -2);
    REFUSES(pid, UINT64_C(1) << 32);
    REFUSES(flags, UINT32_C(1) << 31);
    REFUSES(reserved, 1);
    claim = (struct brim_claim){ .struct_bytes = sizeof(claim) };
    CHECK(brim_acquire(&claim, &lease) == BRIM_ERR_INVALID); /* nothing at all */
    CHECK(brim_acquire(NULL, &lease) == BRIM_ERR_INVALID);
    CHECK(brim_acquire(&claim, NULL) == BRIM_ERR_INVALID);
}

static void test_a_forks_child_cannot_use_the_lease(void)
{
    struct fake_daemon fake;
    int status = 0;

    fake_open(&fake);
    brim_lease *lease = get_idle(&fake);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const bool is_good = brim_burst_begin(lease, 0, BRIM_WAIT_FOREVER) == BRIM_ERR_FORKED &&
                             brim_dispatch(lease) == BRIM_ERR_FORKED &&
                             brim_ready(lease) == BRIM_ERR_FORKED;
        brim_release(lease);
        _exit(is_good ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    take_burst(&fake, lease); /* the child's release said nothing to the daemon */
    brim_release(lease);
    (void)fake_expect(&fake, MESSAGE_RELEASE);
    fake_close(&fake);
}

static void test_errno_stays_as_it_was(void)
{
    struct fake_daemon fake;
    const struct brim_claim claim = a_claim(BRIM_WAIT_FOREVER);
    brim_lease *lease = NULL;

    fake_open(&fake);
    errno = EXDEV;
#define KEEPS_ERRNO(call)                                                                          \
    (void)(call);                                                                                  \
    CHECK_EQ_U64((uint64_t)errno, EXDEV)
    KEEPS_ERRNO(brim_acquire_start(&claim, &lease));
    fake_die(&fake);
    errno = EXDEV;
    KEEPS_ERRNO(brim_dispatch(lease));
    KEEPS_ERRNO(brim_dispatch(NULL));
    KEEPS_ERRNO(brim_lease_state(lease));
    KEEPS_ERRNO(brim_lease_bind(lease, UINT64_MAX));
    KEEPS_ERRNO(brim_burst_begin(lease, 0, 0));
    brim_release(lease);
    CHECK_EQ_U64((uint64_t)errno, EXDEV);
    fake_close(&fake);
}

static unsigned count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    CHECK(dir != NULL);
    while (readdir(dir)) /* NOLINT(concurrency-mt-unsafe): one thread */
        count++;
    (void)closedir(dir);
    return count;
}

static void test_no_descriptor_is_left_behind(void)
{
    struct fake_daemon fake;
    const struct brim_claim claim = a_claim(BRIM_WAIT_FOREVER);
    brim_lease *lease = NULL;
    const unsigned before = count_descriptors();

    fake_open(&fake);
    lease = get_idle(&fake);
    fake_die(&fake);
    settle(lease);
    brim_release(lease);
    CHECK(brim_acquire(&claim, &lease) == BRIM_ERR_NO_DAEMON);
    brim_release(lease);
    fake_close(&fake);
    CHECK_EQ_U64(count_descriptors(), before);
}

TESTS(TEST(test_a_lease_outlives_its_daemon),
      TEST(test_what_waits_is_asked_again_of_the_next_daemon), TEST(test_a_lease_can_be_lost),
      TEST(test_garbage_from_the_daemon_is_told_and_survived),
      TEST(test_noise_from_the_daemon_does_no_harm), TEST(test_another_version_is_told_apart),
      TEST(test_without_a_daemon_it_says_what_failed), TEST(test_bad_claims_are_refused_here),
      TEST(test_a_forks_child_cannot_use_the_lease), TEST(test_errno_stays_as_it_was),
      TEST(test_no_descriptor_is_left_behind))
