/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAKE_DAEMON_H
#define TESTS_FAKE_DAEMON_H

/*
 * The daemon's end of the lease socket, spoken word for word by a test: it listens in a directory
 * of its own, and each step expects one message or says one. No step waits longer than 5 s.
 */

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "wire/message.h"

#define FAKE_STEP_MS 5000
#define FAKE_GPU     "GPU-11111111-2222-3333-4444-555555555555"

struct fake_daemon {
    char dir[32];
    int listen_fd;
    int client_fd;
    uint32_t seq; /* of the last message that was expected */
};

static inline void fake_listen(struct fake_daemon *fake)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/lease.sock", fake->dir);
    (void)unlink(address.sun_path);
    fake->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(fake->listen_fd >= 0);
    CHECK(bind(fake->listen_fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(fake->listen_fd, 8) == 0);
}

static inline void fake_open(struct fake_daemon *fake)
{
    *fake =
        (struct fake_daemon){ .dir = "/tmp/brim-test-XXXXXX", .listen_fd = -1, .client_fd = -1 };
    CHECK(mkdtemp(fake->dir) != NULL);
    CHECK(setenv("BRIM_RUNTIME_DIR", fake->dir, 1) == 0);
    CHECK(setenv("BRIM_STATE_DIR", fake->dir, 1) == 0);
    fake_listen(fake);
}

static inline void fake_hang_up(struct fake_daemon *fake)
{
    if (fake->client_fd >= 0)
        (void)close(fake->client_fd);
    fake->client_fd = -1;
}

/* As a daemon that dies: first nobody listens, then the connections end. */
static inline void fake_die(struct fake_daemon *fake)
{
    (void)close(fake->listen_fd);
    fake->listen_fd = -1;
    fake_hang_up(fake);
}

static inline void fake_close(struct fake_daemon *fake)
{
    static const char *const names[] = { "lease.sock", "start.lock", "brimd.log" };
    char path[64];

    if (fake->listen_fd >= 0)
        fake_die(fake);
    fake_hang_up(fake);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", fake->dir, names[i]);
        (void)unlink(path);
    }
    CHECK(rmdir(fake->dir) == 0);
}

static inline void fake_wait(int fd, const char *what)
{
    struct pollfd watch = { .fd = fd, .events = POLLIN };

    if (poll(&watch, 1, FAKE_STEP_MS) == 1)
        return;
    printf("Bail out! waited in vain for %s\n", what);
    exit(EXIT_FAILURE);
}

static inline struct message fake_expect(struct fake_daemon *fake, enum message_type type)
{
    unsigned char packet[MESSAGE_MAX_BYTES + 1];
    struct message message = { .seq = 0 };
    struct error err = { 0 };

    fake_wait(fake->client_fd, message_type_name(type));
    const ssize_t got = recv(fake->client_fd, packet, sizeof(packet), 0);
    if (got <= 0 || message_decode(packet, (size_t)got, &message, &err) != 0 ||
        message.type != type) {
        printf("Bail out! expected %s, got %s (%zd bytes) %s\n", message_type_name(type),
               got > 0 ? message_type_name(message.type) : "the end", got, err.message);
        exit(EXIT_FAILURE);
    }
    fake->seq = message.seq;
    return message;
}

/* The next connection; its HELLO is taken. */
static inline void fake_accept(struct fake_daemon *fake)
{
    fake_hang_up(fake);
    fake_wait(fake->listen_fd, "a connection");
    fake->client_fd = accept(fake->listen_fd, NULL, NULL);
    CHECK(fake->client_fd >= 0);
    (void)fake_expect(fake, MESSAGE_HELLO);
}

static inline void fake_expect_end(struct fake_daemon *fake)
{
    char byte = 0;

    fake_wait(fake->client_fd, "the end");
    CHECK(recv(fake->client_fd, &byte, 1, 0) <= 0);
}

/* Answers the last message that was expected, unless the type is one that answers nothing. */
static inline void fake_say(struct fake_daemon *fake, struct message message)
{
    unsigned char packet[MESSAGE_MAX_BYTES];
    const int is_event = message.type == MESSAGE_TRIM || message.type == MESSAGE_STOP ||
                         message.type == MESSAGE_LOST;

    message.seq = is_event ? 0 : fake->seq;
    const size_t bytes = message_encode(&message, packet);
    CHECK(bytes > 0);
    CHECK(send(fake->client_fd, packet, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
}

static inline struct message fake_granted(uint64_t lease_id, uint32_t state)
{
    return (struct message){ .type = MESSAGE_GRANTED,
                             .granted = { .lease_id = lease_id,
                                          .charge_bytes = 1,
                                          .state = state,
                                          .gpu_count = 1,
                                          .gpus = FAKE_GPU } };
}

static inline struct message fake_reason(enum message_type type, uint32_t code, const char *text)
{
    struct message message = { .type = type, .refusal = { .code = code, .free_bytes = 77 } };

    (void)snprintf(message.refusal.text, sizeof(message.refusal.text), "%s", text);
    return message;
}

static inline struct message fake_text(enum message_type type, const char *text)
{
    struct message message = { .type = type };

    (void)snprintf(message.reason.text, sizeof(message.reason.text), "%s", text);
    return message;
}

static inline struct message fake_amount(enum message_type type, uint64_t bytes)
{
    return (struct message){ .type = type, .amount = { .bytes = bytes } };
}

#endif
