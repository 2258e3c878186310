/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdio.h>

#include "check.h"
#include "wire/message.h"

static const enum message_type all_types[] = {
    MESSAGE_HELLO,         MESSAGE_ACQUIRE,     MESSAGE_REATTACH,  MESSAGE_READY,  MESSAGE_BIND,
    MESSAGE_IDLE,          MESSAGE_BURST_BEGIN, MESSAGE_BURST_END, MESSAGE_RESIZE, MESSAGE_RELEASE,
    MESSAGE_TRIMMED,       MESSAGE_WELCOME,     MESSAGE_GRANTED,   MESSAGE_QUEUED, MESSAGE_REFUSED,
    MESSAGE_BURST_GRANTED, MESSAGE_DONE,        MESSAGE_TRIM,      MESSAGE_STOP,   MESSAGE_LOST,
};
#define TYPE_COUNT (sizeof(all_types) / sizeof(all_types[0]))

/* Repeatable noise: xorshift64. */
static uint64_t noise(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct message_claim example_claim(void)
{
    struct message_claim claim = {
        .resident_bytes = UINT64_C(0x0102030405060708),
        .burst_bytes = 2,
        .load_peak_bytes = 3,
        .max_wait_ms = UINT64_MAX,
        .pid = 4711,
        .priority = 1,
        .flags = 0x0f,
        .name = "w\xc3\xb6rker",
    };
    (void)snprintf(claim.gpu, sizeof(claim.gpu), "GPU-1234,0");
    return claim;
}

static struct message example(enum message_type type)
{
    struct message message = { .type = type, .seq = UINT32_C(0xdeadbeef) };

    if (type == MESSAGE_HELLO) {
        message.hello = (struct message_hello){ .client_pid = 7, .program = "python3" };
    } else if (type == MESSAGE_ACQUIRE) {
        message.acquire = example_claim();
    } else if (type == MESSAGE_REATTACH) {
        message.reattach = (struct message_reattach){
            .lease_id = UINT64_MAX, .state = 4, .burst_bytes = 9, .claim = example_claim()
        };
    } else if (type == MESSAGE_BIND) {
        message.bind = (struct message_bind){ .pid = 12, .start_ticks = UINT64_C(1) << 40 };
    } else if (type == MESSAGE_BURST_BEGIN) {
        message.burst = (struct message_burst){ .bytes = 5, .max_wait_ms = 6 };
    } else if (type == MESSAGE_RESIZE) {
        message.resize = (struct message_resize){ .resident_bytes = 5, .burst_bytes = 6 };
    } else if (type == MESSAGE_WELCOME) {
        message.welcome = (struct message_welcome){ .daemon_start_ns = 1,
                                                    .daemon_pid = 2,
                                                    .flags = MESSAGE_WELCOME_EMULATED };
    } else if (type == MESSAGE_GRANTED) {
        message.granted = (struct message_granted){
            .lease_id = 1, .charge_bytes = 2, .state = 2, .gpu_count = 1, .gpus = "GPU-1"
        };
    } else if (type == MESSAGE_QUEUED || type == MESSAGE_REFUSED) {
        message.refusal = (struct message_refusal){ .refusal_id = 1,
                                                    .asked_bytes = 2,
                                                    .free_bytes = 3,
                                                    .capacity_bytes = 4,
                                                    .reserve_bytes = 5,
                                                    .foreign_bytes = 6,
                                                    .charged_bytes = 7,
                                                    .code = 2,
                                                    .position = 8,
                                                    .text = "first line\nsecond line" };
    } else if (type == MESSAGE_TRIM || type == MESSAGE_TRIMMED || type == MESSAGE_BURST_GRANTED) {
        message.amount = (struct message_amount){ .bytes = 77 };
    } else if (type == MESSAGE_STOP || type == MESSAGE_LOST) {
        message.reason = (struct message_reason){ .text = "room for \xe2\x80\x9cgame\xe2\x80\x9d" };
    }
    return message;
}

static void test_every_type_comes_back_as_it_was_sent(void)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        const struct message sent = example(all_types[i]);
        struct message received = { .seq = 0 };
        unsigned char packet[MESSAGE_MAX_BYTES];
        const size_t bytes = message_encode(&sent, packet);

        CHECK(bytes >= MESSAGE_HEAD_BYTES);
        CHECK(bytes <= MESSAGE_MAX_BYTES);
        CHECK(message_decode(packet, bytes, &received, NULL) == 0);
        CHECK(memcmp(&sent, &received, sizeof(sent)) == 0);
        CHECK(strcmp(message_type_name(all_types[i]), "?") != 0);
    }
}

static void test_layout_is_little_endian_without_gaps(void)
{
    static const unsigned char expected[] = {
        0x42, 0x4d, 1, 0, 9, 0, 0, 0, 0xef, 0xbe, 0xad, 0xde, 16, 0, 0, 0, /* head */
        5,    0,    0, 0, 0, 0, 0, 0, 6,    0,    0,    0,    0,  0, 0, 0, /* RESIZE */
    };
    const struct message message = example(MESSAGE_RESIZE);
    unsigned char packet[MESSAGE_MAX_BYTES];

    CHECK_EQ_U64(message_encode(&message, packet), sizeof(expected));
    CHECK(memcmp(packet, expected, sizeof(expected)) == 0);
}

static void test_every_other_length_is_refused(void)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        const struct message message = example(all_types[i]);
        unsigned char packet[MESSAGE_MAX_BYTES + 1] = { 0 };
        const size_t bytes = message_encode(&message, packet);

        for (size_t wrong = 0; wrong <= sizeof(packet); wrong++) {
            struct message received;
            struct error err = { 0 };
            if (wrong == bytes)
                continue;
            CHECK(message_decode(packet, wrong, &received, &err) == -EPROTO);
            CHECK(err.message[0] != '\0');
        }
    }
}

static void test_head_is_checked_byte_by_byte(void)
{
    const struct message message = example(MESSAGE_READY);
    unsigned char packet[MESSAGE_MAX_BYTES];
    const size_t bytes = message_encode(&message, packet);

    for (size_t at = 0; at < MESSAGE_HEAD_BYTES; at++) {
        struct message received;
        const int r = (packet[at] ^= 0x80, message_decode(packet, bytes, &received, NULL));
        packet[at] ^= 0x80;
        if (at == 2 || at == 3)
            CHECK(r == -EPROTONOSUPPORT);
        else if (at >= 8 && at <= 11)
            CHECK(r == 0 && received.seq != message.seq);
        else
            CHECK(r == -EPROTO);
    }
}

static void test_another_version_still_tells_type_and_seq(void)
{
    const struct message message = example(MESSAGE_HELLO);
    struct message received = { .seq = 0 };
    struct error err = { 0 };
    unsigned char packet[MESSAGE_MAX_BYTES];

    (void)message_encode(&message, packet);
    packet[2] = 9;
    /* A later version may have another body. */
    CHECK(message_decode(packet, MESSAGE_HEAD_BYTES, &received, &err) == -EPROTONOSUPPORT);
    CHECK(received.type == MESSAGE_HELLO);
    CHECK_EQ_U64(received.seq, message.seq);
    CHECK(strstr(err.message, "version 9"));
}

static int decode_name(const char *name, size_t name_bytes)
{
    const struct message message = example(MESSAGE_HELLO);
    struct message received;
    unsigned char packet[MESSAGE_MAX_BYTES];
    const size_t bytes = message_encode(&message, packet);
    unsigned char *const at = packet + MESSAGE_HEAD_BYTES + 8;

    memset(at, 0, MESSAGE_NAME_BYTES);
    memcpy(at, name, name_bytes);
    return message_decode(packet, bytes, &received, NULL);
}

static void test_text_must_be_terminated_printable_utf8(void)
{
    static const char *const bad[] = {
        "a\nb",
        "\x1b[2J",
        "\x7f",
        "\xff",
        "\xc3",
        "\xc0\xaf",
        "\xed\xa0\x80",
        "\xe2\x82",
        "\xc2\x9b",
        "\xf4\x90\x80\x80",
        "\xe0\x80\x80",
        "\x80",
        "\xf0\x80\x80\x80",
    };
    char full[MESSAGE_NAME_BYTES];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(decode_name(bad[i], strlen(bad[i])) == -EPROTO);
    CHECK(decode_name("\xf0\x9f\x8e\xa7 caf\xc3\xa9 \xe2\x82\xac", 15) == 0);
    CHECK(decode_name("a\0b", 3) == -EPROTO);
    memset(full, 'x', sizeof(full));
    CHECK(decode_name(full, sizeof(full)) == -EPROTO);
    CHECK(decode_name(full, sizeof(full) - 1) == 0);
}

static void test_foreign_text_is_made_fit_to_travel(void)
{
    struct message message = example(MESSAGE_HELLO);
    struct message received = { .seq = 0 };
    unsigned char packet[MESSAGE_MAX_BYTES];

    /* Cut by somebody in the middle of a character, with an escape, and never terminated. */
    memset(message.hello.program, 'x', MESSAGE_NAME_BYTES);
    memcpy(message.hello.program, "a\x1b\xe2\x82", 4);
    memcpy(message.hello.program + MESSAGE_NAME_BYTES - 2, "\xc3\xa9", 2);
    CHECK(message_decode(packet, message_encode(&message, packet), &received, NULL) == 0);
    CHECK(memcmp(received.hello.program, "a???xx", 6) == 0);
    CHECK_EQ_U64(strlen(received.hello.program), MESSAGE_NAME_BYTES - 2);
}

static void test_unknown_types_are_refused(void)
{
    struct message message = example(MESSAGE_READY);
    struct message received;
    unsigned char packet[MESSAGE_MAX_BYTES];
    const size_t bytes = message_encode(&message, packet);
    unsigned accepted = 0;

    for (unsigned type = 0; type <= UINT16_MAX; type++) {
        packet[4] = (unsigned char)type;
        packet[5] = (unsigned char)(type >> 8);
        accepted += message_decode(packet, bytes, &received, NULL) == 0;
    }
    CHECK_EQ_U64(accepted, 5); /* those without a body: READY IDLE BURST_END RELEASE DONE */
    message.type = (enum message_type)0;
    CHECK_EQ_U64(message_encode(&message, packet), 0);
    CHECK(strcmp(message_type_name((enum message_type)63), "?") == 0);
}

static void test_noise_is_refused_or_is_a_message(void)
{
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    unsigned accepted = 0;

    for (unsigned round = 0; round < 20000; round++) {
        const struct message message = example(all_types[round % TYPE_COUNT]);
        struct message received;
        unsigned char packet[MESSAGE_MAX_BYTES], again[MESSAGE_MAX_BYTES];
        const size_t bytes = message_encode(&message, packet);

        CHECK(bytes > 0);
        if (round % 4 == 0) {
            for (size_t i = 0; i < bytes; i++)
                packet[i] = (unsigned char)noise(&state);
        }
        for (unsigned flips = 1 + round % 3; flips > 0; flips--)
            packet[noise(&state) % bytes] ^= (unsigned char)(1u << (noise(&state) % 8));
        if (message_decode(packet, bytes, &received, NULL) != 0)
            continue;
        accepted++;
        /* What is accepted is exactly what could have been sent. */
        CHECK_EQ_U64(message_encode(&received, again), bytes);
        CHECK(memcmp(packet, again, bytes) == 0);
    }
    CHECK(accepted > 100);
}

TESTS(TEST(test_every_type_comes_back_as_it_was_sent),
      TEST(test_layout_is_little_endian_without_gaps), TEST(test_every_other_length_is_refused),
      TEST(test_head_is_checked_byte_by_byte), TEST(test_another_version_still_tells_type_and_seq),
      TEST(test_text_must_be_terminated_printable_utf8),
      TEST(test_foreign_text_is_made_fit_to_travel), TEST(test_unknown_types_are_refused),
      TEST(test_noise_is_refused_or_is_a_message))
