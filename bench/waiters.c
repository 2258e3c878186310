/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What many waiters cost. Run it where a gpu is:
 *     brim emulate --gpu rtx4070ti -- build/bench/bench_waiters [COUNT]
 *
 *   waiters_10000_rss_mb    the daemon's resident memory with 10 000 connections, each with a claim
 *                           that waits
 *   waiters_10000_grant_ms, _p99_ms  with them there: the holder gives back, until the first in
 *                           line is granted; facts from the driver are a part of it
 *
 * The claims are so large that one at a time fits, so each grant is one to the line's first.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/size.h"
#include "client/daemon.h"
#include "measure.h"
#include "wire/message.h"

#define WAITER_COUNT 10000
#define GRANT_COUNT  200
#define HOLD_MS      20 /* of each, so that it takes seconds: what the daemon does each second is in */
#define HELD_BYTES   (7 * GIB)
#define SPARE_FDS    64

static void die(const char *what)
{
    fprintf(stderr, "bench_waiters: %s\n", what);
    exit(EXIT_FAILURE);
}

static void say(int fd, struct message *message)
{
    unsigned char packet[MESSAGE_MAX_BYTES];
    const size_t bytes = message_encode(message, packet);

    if (send(fd, packet, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
        die("brimd does not take a message");
}

/* The next answer that is not news for a waiter. */
static void expect(int fd, enum message_type type)
{
    unsigned char packet[MESSAGE_MAX_BYTES];
    struct message message;
    struct error err = { 0 };

    do {
        const ssize_t got = recv(fd, packet, sizeof(packet), 0);
        if (got <= 0 || message_decode(packet, (size_t)got, &message, &err) < 0)
            die(got <= 0 ? "brimd hung up" : err.message);
    } while (message.type == MESSAGE_QUEUED && type != MESSAGE_QUEUED);
    if (message.type == type)
        return;
    fprintf(stderr, "bench_waiters: expected %s, got %s %s\n", message_type_name(type),
            message_type_name(message.type),
            message.type == MESSAGE_REFUSED ? message.refusal.text : "");
    exit(EXIT_FAILURE);
}

static int line_open(void)
{
    struct message hello = { .type = MESSAGE_HELLO, .seq = 1, .hello = { .program = "bench" } };
    enum daemon_scope scope = DAEMON_ANY;
    struct error err = { 0 };
    int fd = -1;

    if (daemon_connect(DAEMON_ANY, &fd, &scope, &err) < 0)
        die(err.message);
    (void)fd_set_nonblock(fd, 0);
    say(fd, &hello);
    expect(fd, MESSAGE_WELCOME);
    return fd;
}

static void ask(int fd)
{
    struct message message = {
        .type = MESSAGE_ACQUIRE,
        .seq = 2,
        .acquire = { .resident_bytes = HELD_BYTES, .max_wait_ms = UINT64_MAX, .name = "bench" }
    };

    say(fd, &message);
}

static double resident_mb(int fd)
{
    struct ucred peer = { 0 };
    socklen_t bytes = sizeof(peer);
    char path[64], line[256];
    unsigned long kib = 0;
    FILE *file = NULL;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0)
        die("nobody is at the other end");
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)peer.pid);
    file = fopen(path, "re");
    while (file && kib == 0 && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = strtoul(line + 6, NULL, 10);
    }
    if (file)
        (void)fclose(file);
    return (double)kib * 1024 / 1e6;
}

static uint64_t hand_over_ns(int holder, int first)
{
    struct message release = { .type = MESSAGE_RELEASE, .seq = 3 };
    const uint64_t start_ns = clock_now_ns();

    say(holder, &release);
    expect(first, MESSAGE_GRANTED);
    return clock_now_ns() - start_ns;
}

static void measure(size_t count)
{
    int *const lines = calloc(count + 1, sizeof(*lines));
    struct samples grants;
    char key[48];

    if (!lines || samples_init(&grants, GRANT_COUNT) < 0)
        die("out of memory");
    for (size_t i = 0; i <= count; i++) {
        lines[i] = line_open();
        ask(lines[i]);
        expect(lines[i], i == 0 ? MESSAGE_GRANTED : MESSAGE_QUEUED);
    }
    (void)snprintf(key, sizeof(key), "waiters_%zu_rss_mb", count);
    measure_print(key, resident_mb(lines[0]), "MB", 0.0, 1);
    for (size_t i = 0; i < GRANT_COUNT && i < count; i++) {
        samples_add(&grants, hand_over_ns(lines[i], lines[i + 1]));
        expect(lines[i], MESSAGE_DONE);
        (void)poll(NULL, 0, HOLD_MS);
        ask(lines[i]); /* and stands at the line's end */
    }
    (void)snprintf(key, sizeof(key), "waiters_%zu_grant_ms", count);
    measure_print(key, samples_percentile(&grants, 50) / 1e6, "ms", 0.0, grants.count);
    (void)snprintf(key, sizeof(key), "waiters_%zu_grant_p99_ms", count);
    measure_print(key, samples_percentile(&grants, 99) / 1e6, "ms", 0.0, grants.count);
    samples_deinit(&grants);
    free(lines);
}

int main(int argc, char **argv)
{
    const size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : WAITER_COUNT;
    struct rlimit limit = { 0 };
    struct error err = { 0 };

    (void)signal(SIGPIPE, SIG_IGN);
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < count + SPARE_FDS)
        die("needs more descriptors: ulimit -Hn");
    if (daemon_start(&err) < 0)
        die(err.message);
    measure(count);
    return 0;
}
