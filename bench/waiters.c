/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What many waiters cost. Run it where a gpu is:
 *     brim emulate --gpu rtx4070ti -- build/bench/bench_waiters [COUNT]
 *
 *   waiters_10000_rss_mb       brimd's resident memory with 10 000 connections, each with a claim
 *                              that waits; reference: with two
 *   waiters_10000_grant_ms     with them there: the holder gives back, until the first in line is
 *   waiters_10000_grant_p99_ms granted; facts from the driver are a part of it. Reference: to wake
 *                              a process six times in turn, as the release goes to brimd, its
 *                              helper, the driver, and back; measured between the grants
 *   waiters_1_grant_ms, waiters_1_grant_p99_ms  the same where one waits
 *   waiters_10000_grant_cpu_us the processor time that brimd spends on such a grant, with what it
 *                              does each second; reference: where one waits
 *
 * The claims are so large that one at a time fits, so each grant is one to the line's first. The
 * processor time says what the crowd costs whatever else the machine does; the times say what came
 * of it on this machine.
 */

#include <dirent.h>
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
#define WAKE_COUNT   6 /* of processes, in a grant */
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

static pid_t daemon_pid(int fd)
{
    struct ucred peer = { 0 };
    socklen_t bytes = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0)
        die("nobody is at the other end");
    return peer.pid;
}

static uint64_t read_first_number(const char *path, const char *after)
{
    char line[256];
    uint64_t number = 0;
    FILE *file = fopen(path, "re");

    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, after, strlen(after)) != 0)
            continue;
        number = strtoull(line + strlen(after), NULL, 10);
        break;
    }
    if (file)
        (void)fclose(file);
    return number;
}

static double resident_mb(pid_t pid)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    return (double)read_first_number(path, "VmRSS:") * 1024 / 1e6;
}

/* Of all its threads. */
static uint64_t cpu_ns(pid_t pid)
{
    char path[64];
    uint64_t sum_ns = 0;
    struct dirent *entry = NULL;
    DIR *tasks = NULL;

    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    while (tasks && (entry = readdir(tasks))) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/schedstat", (int)pid,
                       entry->d_name);
        sum_ns += read_first_number(path, "");
    }
    if (tasks)
        (void)closedir(tasks);
    return sum_ns;
}

static uint64_t hand_over_ns(int holder, int first)
{
    struct message release = { .type = MESSAGE_RELEASE, .seq = 3 };
    const uint64_t start_ns = clock_now_ns();

    say(holder, &release);
    expect(first, MESSAGE_GRANTED);
    return clock_now_ns() - start_ns;
}

/* ---- the floor: another process that answers each byte ---- */

static int echo_start(void)
{
    int pair[2];
    char byte = 0;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        die("no socket");
    const pid_t pid = fork();
    if (pid < 0)
        die("no process");
    if (pid > 0) {
        (void)close(pair[1]);
        return pair[0];
    }
    (void)close(pair[0]);
    while (recv(pair[1], &byte, 1, 0) == 1 && send(pair[1], &byte, 1, MSG_NOSIGNAL) == 1)
        continue;
    _exit(0);
}

static uint64_t wake_ns(int echo)
{
    const uint64_t start_ns = clock_now_ns();
    char byte = 0;

    for (int i = 0; i < WAKE_COUNT / 2; i++)
        if (send(echo, &byte, 1, MSG_NOSIGNAL) != 1 || recv(echo, &byte, 1, 0) != 1)
            die("the other process is gone");
    return clock_now_ns() - start_ns;
}

/* ---- the figures ---- */

struct figures {
    struct samples grants, wakes;
    double rss_mb, cpu_us;
};

/* Hand over along the lines [0, count]: who gives back stands at the line's end. */
static void hand_over(const int *lines, size_t count, int echo, struct figures *figures)
{
    const pid_t pid = daemon_pid(lines[0]);
    uint64_t before_ns = 0;

    if (samples_init(&figures->grants, GRANT_COUNT) < 0 ||
        samples_init(&figures->wakes, GRANT_COUNT) < 0)
        die("out of memory");
    figures->rss_mb = resident_mb(pid);
    before_ns = cpu_ns(pid);
    for (size_t i = 0; i < GRANT_COUNT; i++) {
        const int holder = lines[i % (count + 1)];

        samples_add(&figures->grants, hand_over_ns(holder, lines[(i + 1) % (count + 1)]));
        expect(holder, MESSAGE_DONE);
        (void)poll(NULL, 0, HOLD_MS);
        samples_add(&figures->wakes, wake_ns(echo));
        ask(holder);
        expect(holder, MESSAGE_QUEUED);
    }
    figures->cpu_us = (double)(cpu_ns(pid) - before_ns) / 1e3 / GRANT_COUNT;
}

static void print_times(size_t count, struct figures *figures)
{
    char key[48];

    for (unsigned percent = 50; percent <= 99; percent += 49) {
        (void)snprintf(key, sizeof(key), "waiters_%zu_grant_%sms", count,
                       percent == 99 ? "p99_" : "");
        measure_print(key, samples_percentile(&figures->grants, percent) / 1e6, "ms",
                      samples_percentile(&figures->wakes, percent) / 1e6, figures->grants.count);
    }
}

static void print_figures(size_t count, struct figures *alone, struct figures *crowd)
{
    char key[48];

    (void)snprintf(key, sizeof(key), "waiters_%zu_rss_mb", count);
    measure_print(key, crowd->rss_mb, "MB", alone->rss_mb, 1);
    print_times(1, alone);
    print_times(count, crowd);
    (void)snprintf(key, sizeof(key), "waiters_%zu_grant_cpu_us", count);
    measure_print(key, crowd->cpu_us, "us", alone->cpu_us, GRANT_COUNT);
}

static void measure(size_t count)
{
    int *const lines = calloc(count + 1, sizeof(*lines));
    struct figures alone = { 0 }, crowd = { 0 };
    const int echo = echo_start();

    if (!lines)
        die("out of memory");
    for (size_t i = 0; i <= count; i++) {
        lines[i] = line_open();
        ask(lines[i]);
        expect(lines[i], i == 0 ? MESSAGE_GRANTED : MESSAGE_QUEUED);
        if (i == 1)
            hand_over(lines, 1, echo, &alone); /* an even number: the first holds again */
    }
    hand_over(lines, count, echo, &crowd);
    print_figures(count, &alone, &crowd);
    samples_deinit(&alone.grants);
    samples_deinit(&alone.wakes);
    samples_deinit(&crowd.grants);
    samples_deinit(&crowd.wakes);
    (void)close(echo);
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
    if (count < 2)
        die("usage: bench_waiters [COUNT], at least 2");
    if (limit.rlim_cur < count + SPARE_FDS)
        die("needs more descriptors: ulimit -Hn");
    if (daemon_start(&err) < 0)
        die(err.message);
    measure(count);
    return 0;
}
