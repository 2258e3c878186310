/* SPDX-License-Identifier: Apache-2.0 */

#include "wire/message.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

/*
 * Head, 16 bytes: magic u16, version u16, type u16, zero u16, seq u32, body bytes u32. The body is
 * the fields of its type's table below, one behind the other, without gaps: the table is the
 * layout, for both directions.
 */

enum field_kind {
    FIELD_NUMBER, /* 4 or 8 bytes */
    FIELD_ZERO,   /* the same, reserved: written and accepted only as 0 */
    FIELD_LINE,   /* text without control characters */
    FIELD_TEXT,   /* the same with '\n' */
};

struct field {
    enum field_kind kind;
    size_t offset; /* in struct message */
    size_t bytes;  /* there and in the packet */
};

#define FIELD(kind, member)                                                                        \
    {                                                                                              \
        FIELD_##kind, offsetof(struct message, member), sizeof(((struct message *)0)->member)      \
    }

static const struct field hello_fields[] = {
    FIELD(NUMBER, hello.client_pid),
    FIELD(NUMBER, hello.flags),
    FIELD(LINE, hello.program),
};

static const struct field welcome_fields[] = {
    FIELD(NUMBER, welcome.daemon_start_ns),
    FIELD(NUMBER, welcome.daemon_pid),
    FIELD(NUMBER, welcome.flags),
};

#define CLAIM_FIELDS(claim)                                                                        \
    FIELD(NUMBER, claim.resident_bytes), FIELD(NUMBER, claim.burst_bytes),                         \
        FIELD(NUMBER, claim.load_peak_bytes), FIELD(NUMBER, claim.max_wait_ms),                    \
        FIELD(NUMBER, claim.pid), FIELD(NUMBER, claim.priority), FIELD(NUMBER, claim.flags),       \
        FIELD(ZERO, claim.reserved), FIELD(LINE, claim.name), FIELD(LINE, claim.gpu)

static const struct field acquire_fields[] = { CLAIM_FIELDS(acquire) };

static const struct field reattach_fields[] = {
    FIELD(NUMBER, reattach.lease_id), FIELD(NUMBER, reattach.state),
    FIELD(ZERO, reattach.reserved),   FIELD(NUMBER, reattach.burst_bytes),
    CLAIM_FIELDS(reattach.claim),
};

static const struct field bind_fields[] = {
    FIELD(NUMBER, bind.pid),
    FIELD(ZERO, bind.reserved),
    FIELD(NUMBER, bind.start_ticks),
};

static const struct field burst_fields[] = {
    FIELD(NUMBER, burst.bytes),
    FIELD(NUMBER, burst.max_wait_ms),
};

static const struct field resize_fields[] = {
    FIELD(NUMBER, resize.resident_bytes),
    FIELD(NUMBER, resize.burst_bytes),
};

static const struct field amount_fields[] = { FIELD(NUMBER, amount.bytes) };

static const struct field granted_fields[] = {
    FIELD(NUMBER, granted.lease_id), FIELD(NUMBER, granted.charge_bytes),
    FIELD(NUMBER, granted.state),    FIELD(NUMBER, granted.gpu_count),
    FIELD(LINE, granted.gpus),
};

static const struct field refusal_fields[] = {
    FIELD(NUMBER, refusal.refusal_id),    FIELD(NUMBER, refusal.asked_bytes),
    FIELD(NUMBER, refusal.free_bytes),    FIELD(NUMBER, refusal.capacity_bytes),
    FIELD(NUMBER, refusal.reserve_bytes), FIELD(NUMBER, refusal.foreign_bytes),
    FIELD(NUMBER, refusal.charged_bytes), FIELD(NUMBER, refusal.code),
    FIELD(NUMBER, refusal.position),      FIELD(TEXT, refusal.text),
};

static const struct field reason_fields[] = { FIELD(TEXT, reason.text) };

struct layout {
    enum message_type type;
    const char *name;
    const struct field *fields; /* borrowed, static */
    size_t field_count;
};

#define LAYOUT(type, fields)                                                                       \
    {                                                                                              \
        MESSAGE_##type, #type, fields, sizeof(fields) / sizeof((fields)[0])                        \
    }
#define LAYOUT_EMPTY(type)                                                                         \
    {                                                                                              \
        MESSAGE_##type, #type, NULL, 0                                                             \
    }

static const struct layout layouts[] = {
    LAYOUT(HELLO, hello_fields),
    LAYOUT(ACQUIRE, acquire_fields),
    LAYOUT(REATTACH, reattach_fields),
    LAYOUT_EMPTY(READY),
    LAYOUT(BIND, bind_fields),
    LAYOUT_EMPTY(IDLE),
    LAYOUT(BURST_BEGIN, burst_fields),
    LAYOUT_EMPTY(BURST_END),
    LAYOUT(RESIZE, resize_fields),
    LAYOUT_EMPTY(RELEASE),
    LAYOUT(TRIMMED, amount_fields),
    LAYOUT(WELCOME, welcome_fields),
    LAYOUT(GRANTED, granted_fields),
    LAYOUT(QUEUED, refusal_fields),
    LAYOUT(REFUSED, refusal_fields),
    LAYOUT(BURST_GRANTED, amount_fields),
    LAYOUT_EMPTY(DONE),
    LAYOUT(TRIM, amount_fields),
    LAYOUT(STOP, reason_fields),
    LAYOUT(LOST, reason_fields),
};

static const struct layout *find_layout(uint32_t type)
{
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        if ((uint32_t)layouts[i].type == type)
            return &layouts[i];
    }
    return NULL;
}

static size_t body_bytes(const struct layout *layout)
{
    size_t sum_bytes = 0;

    for (size_t i = 0; i < layout->field_count; i++)
        sum_bytes += layout->fields[i].bytes;
    return sum_bytes;
}

static void put_number(unsigned char *to, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get_number(const unsigned char *from, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* How many bytes a character has that begins so; 0 where none does. */
static size_t lead_bytes(unsigned char first)
{
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if ((first & 0xf0) == 0xe0)
        return 3;
    return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

/* Longer than needed, surrogates, beyond U+10FFFF; and the C1 controls, which terminals obey. */
static bool is_forbidden(unsigned char first, unsigned char second)
{
    return (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
           (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f) ||
           (first == 0xc2 && second < 0xa0);
}

/* The bytes of the character at text: 1 to 4, or 0 where it is no UTF-8 or a control character.
 * Never reads past the first NUL. */
static size_t character_bytes(const unsigned char *text, bool is_newline_ok)
{
    const unsigned char first = text[0];
    const size_t bytes = lead_bytes(first);

    if (first < 0x80)
        return (first >= 0x20 && first != 0x7f) || (first == '\n' && is_newline_ok) ? 1 : 0;
    for (size_t i = 1; i < bytes; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    return bytes > 0 && is_forbidden(first, text[1]) ? 0 : bytes;
}

/* Foreign text (a program's name, a path) becomes text that the other side accepts: a byte that
 * may not travel is written as '?', a character that does not fit whole is left out. */
static void put_text(unsigned char *to, const char *from, const struct field *field)
{
    const size_t room_bytes = field->bytes - 1;
    size_t used_bytes = 0;

    memset(to, 0, field->bytes);
    for (size_t i = 0; i < room_bytes && from[i] != '\0';) {
        /* A character may stand across the buffer's end only where its NUL is missing. */
        unsigned char character[5] = { 0 };
        memcpy(character, from + i, field->bytes - i < 4 ? field->bytes - i : 4);
        const size_t bytes = character_bytes(character, field->kind == FIELD_TEXT);

        if (bytes > room_bytes - used_bytes)
            break;
        if (bytes == 0)
            to[used_bytes] = '?';
        else
            memcpy(to + used_bytes, character, bytes);
        used_bytes += bytes == 0 ? 1 : bytes;
        i += bytes == 0 ? 1 : bytes;
    }
}

static bool is_text_good(const unsigned char *text, const struct field *field)
{
    const unsigned char *end = memchr(text, '\0', field->bytes);

    if (!end)
        return false;
    for (const unsigned char *at = end; at < text + field->bytes; at++) {
        if (*at != 0)
            return false;
    }
    while (text < end) {
        const size_t bytes = character_bytes(text, field->kind == FIELD_TEXT);
        if (bytes == 0)
            return false;
        text += bytes;
    }
    return true;
}

size_t message_encode(const struct message *message, unsigned char packet[MESSAGE_MAX_BYTES])
{
    const struct layout *layout = find_layout((uint32_t)message->type);
    unsigned char *to = packet + MESSAGE_HEAD_BYTES;

    if (!layout)
        return 0;
    for (size_t i = 0; i < layout->field_count; i++) {
        const struct field *field = &layout->fields[i];
        const char *from = (const char *)message + field->offset;
        uint32_t number = 0;
        uint64_t long_number = 0;

        if (field->kind == FIELD_LINE || field->kind == FIELD_TEXT) {
            put_text(to, from, field);
        } else {
            if (field->kind == FIELD_NUMBER)
                memcpy(field->bytes == 4 ? (void *)&number : (void *)&long_number, from,
                       field->bytes);
            put_number(to, field->bytes == 4 ? number : long_number, field->bytes);
        }
        to += field->bytes;
    }
    put_number(packet, MESSAGE_MAGIC, 2);
    put_number(packet + 2, MESSAGE_VERSION, 2);
    put_number(packet + 4, (uint64_t)message->type, 2);
    put_number(packet + 6, 0, 2);
    put_number(packet + 8, message->seq, 4);
    put_number(packet + 12, (uint64_t)(to - packet) - MESSAGE_HEAD_BYTES, 4);
    return (size_t)(to - packet);
}

static int check_body(const struct layout *layout, const unsigned char *body, struct error *err)
{
    for (size_t i = 0; i < layout->field_count; i++) {
        const struct field *field = &layout->fields[i];

        if ((field->kind == FIELD_LINE || field->kind == FIELD_TEXT) && !is_text_good(body, field))
            return error_set(err, -EPROTO, "%s: field %zu is not printable, terminated UTF-8",
                             layout->name, i);
        if (field->kind == FIELD_ZERO && get_number(body, field->bytes) != 0)
            return error_set(err, -EPROTO, "%s: field %zu must be 0", layout->name, i);
        body += field->bytes;
    }
    return 0;
}

static void read_body(const struct layout *layout, const unsigned char *body,
                      struct message *message)
{
    for (size_t i = 0; i < layout->field_count; i++) {
        const struct field *field = &layout->fields[i];
        char *to = (char *)message + field->offset;
        const uint64_t long_number = field->bytes <= 8 ? get_number(body, field->bytes) : 0;
        const uint32_t number = (uint32_t)long_number;

        if (field->kind == FIELD_LINE || field->kind == FIELD_TEXT)
            memcpy(to, body, field->bytes);
        else
            memcpy(to, field->bytes == 4 ? (const void *)&number : (const void *)&long_number,
                   field->bytes);
        body += field->bytes;
    }
}

int message_decode(const unsigned char *packet, size_t packet_bytes, struct message *ret_message,
                   struct error *err)
{
    const struct layout *layout = NULL;

    if (packet_bytes < MESSAGE_HEAD_BYTES || get_number(packet, 2) != MESSAGE_MAGIC)
        return error_set(err, -EPROTO, "%zu bytes that are no message", packet_bytes);
    const uint16_t version = (uint16_t)get_number(packet + 2, 2);
    const uint16_t type = (uint16_t)get_number(packet + 4, 2);
    const uint32_t seq = (uint32_t)get_number(packet + 8, 4);
    if (version != MESSAGE_VERSION) {
        ret_message->type = (enum message_type)type;
        ret_message->seq = seq;
        return error_set(err, -EPROTONOSUPPORT,
                         "the other side speaks version %u of the protocol, this one %u", version,
                         MESSAGE_VERSION);
    }
    layout = find_layout(type);
    if (!layout)
        return error_set(err, -EPROTO, "unknown message type %u", type);
    const size_t expected_bytes = body_bytes(layout);
    if (packet_bytes != MESSAGE_HEAD_BYTES + expected_bytes ||
        get_number(packet + 12, 4) != expected_bytes || get_number(packet + 6, 2) != 0)
        return error_set(err, -EPROTO, "%s has %zu bytes, expected %zu", layout->name, packet_bytes,
                         MESSAGE_HEAD_BYTES + expected_bytes);
    const int r = check_body(layout, packet + MESSAGE_HEAD_BYTES, err);
    if (r < 0)
        return r;
    ret_message->type = layout->type;
    ret_message->seq = seq;
    read_body(layout, packet + MESSAGE_HEAD_BYTES, ret_message);
    return 0;
}

const char *message_type_name(enum message_type type)
{
    const struct layout *layout = find_layout((uint32_t)type);

    return layout ? layout->name : "?";
}
