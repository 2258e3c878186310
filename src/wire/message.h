/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Lease messages: what goes over the lease socket (SOCK_SEQPACKET, one message a packet).
 *
 * Every message is a head of 16 bytes and a body whose size its type fixes; integers are
 * little-endian, text is UTF-8, NUL-terminated and NUL-padded. A packet of any other size, an
 * unknown type, text without its NUL or with control characters ('\n' is allowed in refusals and
 * reasons) is refused by message_decode(), and the connection that sent it is closed.
 * message_encode() makes any text fit to travel: what may not, becomes '?'.
 *
 *   client                                   daemon
 *   HELLO                                 -> WELCOME, or REFUSED (version) and the end
 *   ACQUIRE                               -> GRANTED | QUEUED … GRANTED | REFUSED
 *   REATTACH (after a daemon's restart)   -> GRANTED | REFUSED
 *   READY, BIND, IDLE                     -> DONE | REFUSED
 *   BURST_BEGIN                           -> BURST_GRANTED | QUEUED … BURST_GRANTED | REFUSED
 *   BURST_END                             -> DONE  (cancels a waiting BURST_BEGIN: that is answered
 *                                                   by REFUSED with MESSAGE_CODE_CANCELLED first)
 *   RESIZE                                -> DONE | REFUSED
 *   RELEASE                               -> DONE  (the connection stays, without a lease)
 *   TRIMMED                                  (answers TRIM; not answered)
 *                                         <- TRIM, STOP, LOST (at any time)
 *
 * An answer carries the `seq` of its request; TRIM, STOP and LOST carry 0. One connection carries
 * one lease at a time: ACQUIRE comes again only after RELEASE or after it was refused. A request
 * may be sent before the last one is answered.
 */

#define MESSAGE_MAGIC      UINT16_C(0x4d42) /* "BM" */
#define MESSAGE_VERSION    UINT16_C(1)
#define MESSAGE_HEAD_BYTES 16
#define MESSAGE_MAX_BYTES  2048

#define MESSAGE_NAME_BYTES   64
#define MESSAGE_UUID_BYTES   48
#define MESSAGE_PART_MAX     8 /* gpus of one claim */
#define MESSAGE_REASON_BYTES 1280

enum message_type {
    MESSAGE_HELLO = 1,
    MESSAGE_ACQUIRE = 2,
    MESSAGE_REATTACH = 3,
    MESSAGE_READY = 4,
    MESSAGE_BIND = 5,
    MESSAGE_IDLE = 6,
    MESSAGE_BURST_BEGIN = 7,
    MESSAGE_BURST_END = 8,
    MESSAGE_RESIZE = 9,
    MESSAGE_RELEASE = 10,
    MESSAGE_TRIMMED = 11,

    MESSAGE_WELCOME = 64,
    MESSAGE_GRANTED = 65,
    MESSAGE_QUEUED = 66,
    MESSAGE_REFUSED = 67,
    MESSAGE_BURST_GRANTED = 68,
    MESSAGE_DONE = 69,
    MESSAGE_TRIM = 70,
    MESSAGE_STOP = 71,
    MESSAGE_LOST = 72,
};

/* Why a request was refused; the first eleven are those of libbrim. */
enum message_code {
    MESSAGE_CODE_NEVER_FITS = 1,
    MESSAGE_CODE_NO_ROOM = 2,
    MESSAGE_CODE_VERSION = 3,
    MESSAGE_CODE_STATE = 4,
    MESSAGE_CODE_DENIED = 5,
    MESSAGE_CODE_LIMIT = 6,
    MESSAGE_CODE_INVALID = 7,
    MESSAGE_CODE_NO_GPU = 8,
    MESSAGE_CODE_CANCELLED = 9,
    MESSAGE_CODE_LOST = 10,
};

/* A body's numbers are in the order of the struct, 8 bytes each but where the type says less. */

struct message_hello {
    uint32_t client_pid; /* for the log only: SO_PEERCRED is what counts */
    uint32_t flags;      /* 0 */
    char program[MESSAGE_NAME_BYTES];
};

struct message_welcome {
    uint64_t daemon_start_ns; /* wall clock at the daemon's start: another value, another daemon */
    uint32_t daemon_pid;
    uint32_t flags; /* MESSAGE_WELCOME_* */
};
#define MESSAGE_WELCOME_EMULATED UINT32_C(1)

/* flags as BRIM_CLAIM_* in brim.h. gpu: "", "0", a UUID, or several with commas. */
struct message_claim {
    uint64_t resident_bytes;
    uint64_t burst_bytes;
    uint64_t load_peak_bytes;
    uint64_t max_wait_ms; /* UINT64_MAX: for ever */
    uint32_t pid;         /* root of the process tree; 0: the peer */
    uint32_t priority;
    uint32_t flags;
    uint32_t reserved; /* 0 */
    char name[MESSAGE_NAME_BYTES];
    char gpu[MESSAGE_UUID_BYTES * MESSAGE_PART_MAX];
};

/* The lease as the client knows it from before the daemon's restart. */
struct message_reattach {
    uint64_t lease_id;
    uint32_t state;             /* LOADING, IDLE or BUSY as in brim.h */
    uint32_t reserved;          /* 0 */
    uint64_t burst_bytes;       /* taken now, when BUSY */
    struct message_claim claim; /* gpu: what was granted; pid: as bound last */
};

struct message_bind {
    uint32_t pid;
    uint32_t reserved;
    uint64_t start_ticks; /* of that pid: /proc/PID/stat field 22; 0 = not checked */
};

struct message_burst {
    uint64_t bytes; /* 0: the whole of the claim's */
    uint64_t max_wait_ms;
};

struct message_resize {
    uint64_t resident_bytes;
    uint64_t burst_bytes;
};

struct message_amount { /* TRIMMED: freed; TRIM: wanted; BURST_GRANTED: granted */
    uint64_t bytes;
};

struct message_granted {
    uint64_t lease_id;
    uint64_t charge_bytes;
    uint32_t state; /* as in brim.h */
    uint32_t gpu_count;
    char gpus[MESSAGE_UUID_BYTES * MESSAGE_PART_MAX]; /* UUIDs, with commas */
};

/* REFUSED and QUEUED: the reason as data and as text. */
struct message_refusal {
    uint64_t refusal_id; /* for `brim why`; 0: not recorded */
    uint64_t asked_bytes;
    uint64_t free_bytes;
    uint64_t capacity_bytes;
    uint64_t reserve_bytes;
    uint64_t foreign_bytes;
    uint64_t charged_bytes;
    uint32_t code;     /* enum message_code; 0 in QUEUED */
    uint32_t position; /* QUEUED: how many wait before it */
    char text[MESSAGE_REASON_BYTES];
};

struct message_reason { /* STOP, LOST */
    char text[MESSAGE_REASON_BYTES];
};

struct message {
    enum message_type type;
    uint32_t seq;
    union {
        struct message_hello hello;
        struct message_welcome welcome;
        struct message_claim acquire;
        struct message_reattach reattach;
        struct message_bind bind;
        struct message_burst burst;
        struct message_resize resize;
        struct message_amount amount;
        struct message_granted granted;
        struct message_refusal refusal;
        struct message_reason reason;
    };
};

/* The packet of a message: returns its bytes (<= MESSAGE_MAX_BYTES), or 0 for an unknown type.
 * Never fails otherwise, and the packet is one that message_decode accepts. */
size_t message_encode(const struct message *message, unsigned char packet[MESSAGE_MAX_BYTES]);

/* Check and read a packet of packet_bytes. -EPROTO, with a message for the log, on anything that
 * message_encode could not have made; -EPROTONOSUPPORT for another version (head is still read:
 * type and seq are set). */
int message_decode(const unsigned char *packet, size_t packet_bytes, struct message *ret_message,
                   struct error *err) __attribute__((warn_unused_result));

/* "ACQUIRE"; "?" for an unknown one. */
const char *message_type_name(enum message_type type);

#endif
