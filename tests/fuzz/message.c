/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Lease messages, both ways. What is accepted is exactly what message_encode() makes: encoded
 * again it is the same packet. And whatever a struct holds, its packet is accepted, and does not
 * change any more.
 */

#include "wire/message.h"

#include "fuzz.h"

static const enum message_type types[] = {
    MESSAGE_HELLO,   MESSAGE_ACQUIRE,       MESSAGE_REATTACH,  MESSAGE_READY,  MESSAGE_BIND,
    MESSAGE_IDLE,    MESSAGE_BURST_BEGIN,   MESSAGE_BURST_END, MESSAGE_RESIZE, MESSAGE_RELEASE,
    MESSAGE_TRIMMED, MESSAGE_WELCOME,       MESSAGE_GRANTED,   MESSAGE_QUEUED, MESSAGE_REFUSED,
    MESSAGE_DONE,    MESSAGE_BURST_GRANTED, MESSAGE_TRIM,      MESSAGE_STOP,   MESSAGE_LOST,
};

static void check_packet(const uint8_t *bytes, size_t byte_count)
{
    unsigned char again[MESSAGE_MAX_BYTES];
    struct message message;
    struct error err = { 0 };
    const int r = message_decode(bytes, byte_count, &message, &err);

    if (r < 0) {
        FUZZ_MUST(err.message[0] != '\0' && memchr(err.message, '\0', sizeof(err.message)));
        return;
    }
    FUZZ_MUST(message_encode(&message, again) == byte_count);
    FUZZ_MUST(memcmp(again, bytes, byte_count) == 0);
}

static void check_struct(struct fuzz_input *input)
{
    unsigned char packet[MESSAGE_MAX_BYTES];
    static struct message message; /* all of it is written */
    struct error err = { 0 };

    const enum message_type type = types[fuzz_byte(input) % (sizeof(types) / sizeof(types[0]))];
    (void)fuzz_bytes(input, &message, sizeof(message));
    message.type = type;
    const size_t packet_bytes = message_encode(&message, packet);
    FUZZ_MUST(packet_bytes >= MESSAGE_HEAD_BYTES && packet_bytes <= MESSAGE_MAX_BYTES);
    FUZZ_MUST(message_decode(packet, packet_bytes, &message, &err) == 0);
    check_packet(packet, packet_bytes);
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    struct fuzz_input input = { bytes, byte_count };

    check_packet(bytes, byte_count);
    check_struct(&input);
}
