/* SPDX-License-Identifier: Apache-2.0 */

/* libbrim against a scripted daemon: what it says and what it hears. */

#include "client/lease.h"
#include "lease_steps.h"

static void test_a_life_from_acquire_to_release(void)
{
    struct fake_daemon fake;
    const struct brim_claim claim = a_claim(60000);
    brim_lease *lease = NULL;

    fake_open(&fake);
    CHECK(brim_acquire_start(&claim, &lease) == 0);
    fake_accept(&fake);
    const struct message asked = fake_expect(&fake, MESSAGE_ACQUIRE);
    CHECK_EQ_U64(asked.acquire.resident_bytes, GIB_3);
    CHECK_EQ_U64(asked.acquire.burst_bytes, GIB_1);
    CHECK(asked.acquire.max_wait_ms > 50000 && asked.acquire.max_wait_ms <= 60000);
    CHECK(strcmp(asked.acquire.name, "whisper") == 0);
    CHECK(strcmp(brim_lease_gpu_uuid(lease), "") == 0);
    CHECK(brim_ready(lease) == BRIM_ERR_STATE);
    fake_say(&fake, fake_granted(7, BRIM_LEASE_LOADING));
    settle(lease);
    CHECK_EQ_U64(brim_lease_id(lease), 7);
    CHECK(strcmp(brim_lease_gpu_uuid(lease), FAKE_GPU) == 0);
    CHECK(brim_burst_start(lease, 0, BRIM_NO_WAIT) == BRIM_ERR_STATE); /* still loading */
    CHECK(brim_ready(lease) == 0);
    CHECK(brim_ready(lease) == BRIM_ERR_STATE);
    (void)fake_expect(&fake, MESSAGE_READY);
    CHECK(brim_burst_start(lease, GIB_1 + 1, BRIM_NO_WAIT) == BRIM_ERR_INVALID);
    CHECK(brim_burst_end(lease) == BRIM_ERR_STATE);
    take_burst(&fake, lease);
    CHECK(brim_burst_start(lease, 0, BRIM_NO_WAIT) == BRIM_ERR_STATE); /* they do not nest */
    CHECK(brim_burst_end(lease) == 0);
    (void)fake_expect(&fake, MESSAGE_BURST_END);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_IDLE);
    CHECK(brim_idle(lease) == 0);
    (void)fake_expect(&fake, MESSAGE_IDLE);
    CHECK(brim_lease_refusal(lease) == NULL);
    brim_release(lease);
    (void)fake_expect(&fake, MESSAGE_RELEASE);
    fake_expect_end(&fake);
    fake_close(&fake);
}

static void test_queued_says_why_until_it_is_granted(void)
{
    struct fake_daemon fake;

    fake_open(&fake);
    brim_lease *lease = start(&fake, BRIM_WAIT_FOREVER);
    fake_say(&fake, fake_reason(MESSAGE_QUEUED, 0, "2 GiB missing\nheld by comfy"));
    settle(lease);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_QUEUED);
    CHECK(strcmp(brim_lease_refusal(lease)->text, "2 GiB missing\nheld by comfy") == 0);
    CHECK(brim_lease_refusal(lease)->code == 0);
    CHECK_EQ_U64(brim_lease_refusal(lease)->free_bytes, 77);
    fake_say(&fake, fake_reason(MESSAGE_QUEUED, 0, "held by game"));
    settle(lease);
    CHECK(strcmp(brim_lease_refusal(lease)->text, "held by game") == 0);
    fake_say(&fake, fake_granted(9, BRIM_LEASE_LOADING));
    settle(lease);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_LOADING);
    CHECK(brim_lease_refusal(lease) == NULL);
    brim_release(lease);
    fake_close(&fake);
}

static void test_a_refusal_stays_with_the_lease(void)
{
    struct fake_daemon fake;

    fake_open(&fake);
    brim_lease *lease = start(&fake, BRIM_NO_WAIT);
    fake_say(&fake, fake_reason(MESSAGE_REFUSED, MESSAGE_CODE_NEVER_FITS, "larger than the card"));
    settle(lease);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_REFUSED);
    CHECK(brim_lease_refusal(lease)->code == BRIM_ERR_NEVER_FITS);
    CHECK(strcmp(brim_lease_refusal(lease)->text, "larger than the card") == 0);
    CHECK(brim_ready(lease) == BRIM_ERR_STATE);
    fake_expect_end(&fake); /* a refused claim keeps no connection */
    brim_release(lease);
    fake_close(&fake);
}

static void test_a_released_claim_is_taken_out_of_the_queue(void)
{
    struct fake_daemon fake;

    fake_open(&fake);
    brim_lease *lease = start(&fake, BRIM_WAIT_FOREVER);
    brim_release(lease);
    (void)fake_expect(&fake, MESSAGE_RELEASE);
    fake_expect_end(&fake);
    brim_release(NULL);
    fake_close(&fake);
}

static void test_deadlines_hold_when_the_daemon_is_silent(void)
{
    struct fake_daemon fake;
    const struct brim_claim claim = a_claim(10);
    brim_lease *lease = NULL;

    fake_open(&fake);
    lease_answer_ms = 20;
    CHECK(brim_acquire_start(&claim, &lease) == 0);
    fake_accept(&fake);
    (void)fake_expect(&fake, MESSAGE_ACQUIRE);
    fake_say(&fake, fake_reason(MESSAGE_QUEUED, 0, "wait"));
    dispatch_until(lease, is_refused);
    CHECK(brim_lease_refusal(lease)->code == BRIM_ERR_NO_ROOM);
    brim_release(lease);

    lease = get_idle(&fake);
    CHECK(brim_burst_begin(lease, 0, 10) == BRIM_ERR_NO_ROOM);
    CHECK(brim_lease_refusal(lease) != NULL);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_IDLE);
    (void)fake_expect(&fake, MESSAGE_BURST_BEGIN);
    (void)fake_expect(&fake, MESSAGE_BURST_END); /* if it lives after all, nothing stays taken */
    CHECK(brim_resize(lease, GIB_3 + 1, 0) == BRIM_ERR_NO_DAEMON);
    lease_answer_ms = 3000;
    brim_release(lease);
    fake_close(&fake);
}

static void test_a_late_grant_of_a_cancelled_burst_is_not_taken(void)
{
    struct fake_daemon fake;

    fake_open(&fake);
    brim_lease *lease = get_idle(&fake);
    CHECK(brim_burst_start(lease, 5, BRIM_WAIT_FOREVER) == 1);
    (void)fake_expect(&fake, MESSAGE_BURST_BEGIN);
    CHECK(brim_burst_end(lease) == 0);
    fake_say(&fake, fake_amount(MESSAGE_BURST_GRANTED, 5)); /* crosses the BURST_END */
    (void)fake_expect(&fake, MESSAGE_BURST_END);
    fake_say(&fake, (struct message){ .type = MESSAGE_DONE });
    settle(lease);
    CHECK(brim_lease_state(lease) == BRIM_LEASE_IDLE);
    take_burst(&fake, lease);
    brim_release(lease);
    fake_close(&fake);
}

struct asked {
    unsigned trim_count, stop_count;
    uint64_t wanted_bytes;
    char reason[64];
    bool must_release;
};

static uint64_t on_trim(brim_lease *lease, uint64_t wanted_bytes, void *user)
{
    struct asked *asked = user;

    CHECK(brim_lease_state(lease) == BRIM_LEASE_IDLE); /* calls are allowed in here */
    asked->trim_count++;
    asked->wanted_bytes = wanted_bytes;
    return wanted_bytes / 2;
}

static void on_stop(brim_lease *lease, const char *reason, void *user)
{
    struct asked *asked = user;

    asked->stop_count++;
    (void)snprintf(asked->reason, sizeof(asked->reason), "%s", reason);
    if (asked->must_release)
        brim_release(lease);
}

static void test_trim_and_stop_reach_the_callbacks(void)
{
    struct fake_daemon fake;
    struct asked asked = { .must_release = true };

    fake_open(&fake);
    brim_lease *lease = get_idle(&fake);
    fake_say(&fake, fake_amount(MESSAGE_TRIM, 100));
    settle(lease);
    CHECK_EQ_U64(fake_expect(&fake, MESSAGE_TRIMMED).amount.bytes, 0); /* nobody listens: at once */
    brim_on_trim(lease, on_trim, &asked);
    fake_say(&fake, fake_amount(MESSAGE_TRIM, 100));
    settle(lease);
    CHECK_EQ_U64(fake_expect(&fake, MESSAGE_TRIMMED).amount.bytes, 50);
    CHECK_EQ_U64(asked.trim_count, 1);
    take_burst(&fake, lease);
    fake_say(&fake, fake_amount(MESSAGE_TRIM, 100));
    settle(lease);
    CHECK_EQ_U64(fake_expect(&fake, MESSAGE_TRIMMED).amount.bytes, 0); /* not during a burst */
    CHECK_EQ_U64(asked.trim_count, 1);

    fake_say(&fake, fake_text(MESSAGE_STOP, "room for game"));
    settle(lease);
    struct pollfd watch = { .fd = brim_lease_fd(lease), .events = POLLIN };
    brim_on_stop(lease, on_stop, &asked); /* it was asked before: the descriptor says so */
    CHECK(poll(&watch, 1, FAKE_STEP_MS) == 1);
    CHECK(brim_dispatch(lease) == 0); /* the callback releases: the lease is gone afterwards */
    CHECK_EQ_U64(asked.stop_count, 1);
    CHECK(strcmp(asked.reason, "room for game") == 0);
    (void)fake_expect(&fake, MESSAGE_RELEASE);
    fake_close(&fake);
}

TESTS(TEST(test_a_life_from_acquire_to_release), TEST(test_queued_says_why_until_it_is_granted),
      TEST(test_a_refusal_stays_with_the_lease),
      TEST(test_a_released_claim_is_taken_out_of_the_queue),
      TEST(test_deadlines_hold_when_the_daemon_is_silent),
      TEST(test_a_late_grant_of_a_cancelled_burst_is_not_taken),
      TEST(test_trim_and_stop_reach_the_callbacks))
