/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a lease costs. Run it where a gpu is:
 *     brim emulate --gpu rtx4070ti -- build/bench/bench_lease
 *
 *   lease_rtt_p50_us, _p99_us  ACQUIRE to GRANTED and RELEASE to DONE on one open connection;
 *                              reference: two round trips of as many bytes with a server that only
 *                              answers, in turns with the former, both servers on the same core
 *   kill_to_grant_ms           a holder of device memory gets SIGKILL, until who waits for it is
 *                              granted; reference: SIGKILL, until a pidfd says so
 *   lease_open_us              brim_acquire and brim_release of libbrim, connection and all
 */

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <brim/brim.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/size.h"
#include "client/daemon.h"
#include "driver/cuda.h"
#include "measure.h"
#include "wire/message.h"

#define TURN_COUNT   40  /* turns of the two servers … */
#define ROUND_COUNT  100 /* … of so many rounds each */
#define KILL_COUNT   21
#define OPEN_COUNT   200
#define HELD_BYTES   (7 * GIB) /* more than half of any emulated card that this is run on … */
#define ANSWER_MS    20000
#define ACQUIRE_SIZE 512
#define GRANT_SIZE   424

static void die(const char *what)
{
    fprintf(stderr, "bench_lease: %s\n", what);
    exit(EXIT_FAILURE);
}

/* ---- one connection, spoken by hand ---- */

struct line {
    int fd; /* owned */
    uint32_t seq;
};

static void say(struct line *line, struct message *message)
{
    unsigned char packet[MESSAGE_MAX_BYTES];

    message->seq = ++line->seq;
    const size_t bytes = message_encode(message, packet);
    if (send(line->fd, packet, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
        die("brimd does not take a message");
}

static void hear(struct line *line, struct message *ret_message)
{
    unsigned char packet[MESSAGE_MAX_BYTES];
    struct error err = { 0 };
    const ssize_t got = recv(line->fd, packet, sizeof(packet), 0);

    if (got <= 0 || message_decode(packet, (size_t)got, ret_message, &err) < 0)
        die(got <= 0 ? "brimd hung up" : err.message);
}

static void expect(struct line *line, enum message_type type)
{
    struct message message;

    hear(line, &message);
    if (message.type == type)
        return;
    fprintf(stderr, "bench_lease: expected %s, got %s %s\n", message_type_name(type),
            message_type_name(message.type),
            message.type == MESSAGE_REFUSED ? message.refusal.text : "");
    exit(EXIT_FAILURE);
}

static struct line line_open(void)
{
    struct message hello = { .type = MESSAGE_HELLO, .hello = { .program = "bench" } };
    enum daemon_scope scope = DAEMON_ANY;
    struct error err = { 0 };
    struct line line = { .fd = -1 };

    if (daemon_connect(DAEMON_ANY, &line.fd, &scope, &err) < 0)
        die(err.message);
    (void)fd_set_nonblock(line.fd, 0);
    say(&line, &hello);
    expect(&line, MESSAGE_WELCOME);
    return line;
}

static struct message acquire_of(uint64_t bytes)
{
    return (struct message){
        .type = MESSAGE_ACQUIRE,
        .acquire = { .resident_bytes = bytes, .max_wait_ms = UINT64_MAX, .name = "bench" }
    };
}

static void acquire(struct line *line, uint64_t bytes)
{
    struct message message = acquire_of(bytes);

    say(line, &message);
    do
        hear(line, &message);
    while (message.type == MESSAGE_QUEUED);
    if (message.type != MESSAGE_GRANTED)
        die(message.type == MESSAGE_REFUSED ? message.refusal.text : "expected GRANTED");
}

static void release(struct line *line)
{
    struct message message = { .type = MESSAGE_RELEASE };

    say(line, &message);
    expect(line, MESSAGE_DONE);
}

/* ---- the round trip ---- */

static void pin(pid_t pid, size_t cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(pid, sizeof(set),
                            &set); /* where it is not allowed, nothing is pinned */
}

static pid_t peer_of(int fd)
{
    struct ucred peer = { 0 };
    socklen_t bytes = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 ? peer.pid : 0;
}

/* A server that answers: as large a packet as brimd would, and nothing more. */
static pid_t start_echo(int *ret_fd)
{
    unsigned char packet[MESSAGE_MAX_BYTES] = { 0 };
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        die("no socketpair");
    const pid_t child = fork();
    if (child != 0) {
        (void)close(pair[1]);
        *ret_fd = pair[0];
        return child;
    }
    (void)close(pair[0]);
    for (;;) {
        const ssize_t got = recv(pair[1], packet, sizeof(packet), 0);
        if (got <= 0)
            _exit(0);
        const size_t bytes = got == ACQUIRE_SIZE ? GRANT_SIZE : MESSAGE_HEAD_BYTES;
        (void)!send(pair[1], packet, bytes, MSG_NOSIGNAL);
    }
}

static void echo(int fd, size_t bytes)
{
    unsigned char packet[MESSAGE_MAX_BYTES] = { 0 };

    if (send(fd, packet, bytes, MSG_NOSIGNAL) != (ssize_t)bytes ||
        recv(fd, packet, sizeof(packet), 0) <= 0)
        die("the reference server is gone");
}

static void measure_turn(struct line *line, int echo_fd, struct samples *lease,
                         struct samples *bare)
{
    for (unsigned i = 0; i < ROUND_COUNT; i++) {
        const uint64_t start_ns = clock_now_ns();
        acquire(line, KIB);
        release(line);
        samples_add(lease, clock_now_ns() - start_ns);
    }
    for (unsigned i = 0; i < ROUND_COUNT; i++) {
        const uint64_t start_ns = clock_now_ns();
        echo(echo_fd, ACQUIRE_SIZE);
        echo(echo_fd, MESSAGE_HEAD_BYTES);
        samples_add(bare, clock_now_ns() - start_ns);
    }
}

static void measure_round_trip(void)
{
    const size_t room = (size_t)TURN_COUNT * ROUND_COUNT;
    struct line line = line_open();
    struct samples lease, bare;
    int echo_fd = -1;
    const pid_t server = start_echo(&echo_fd);
    const size_t last_cpu = (size_t)sysconf(_SC_NPROCESSORS_ONLN) - 1;

    if (samples_init(&lease, room) < 0 || samples_init(&bare, room) < 0)
        die("out of memory");
    pin(0, 0);
    pin(server, last_cpu);
    pin(peer_of(line.fd), last_cpu);
    for (unsigned i = 0; i < TURN_COUNT; i++)
        measure_turn(&line, echo_fd, &lease, &bare);
    measure_print("lease_rtt_p50_us", samples_percentile(&lease, 50) / 1e3, "us",
                  samples_percentile(&bare, 50) / 1e3, lease.count);
    measure_print("lease_rtt_p99_us", samples_percentile(&lease, 99) / 1e3, "us",
                  samples_percentile(&bare, 99) / 1e3, lease.count);
    fd_close(&echo_fd);
    (void)waitpid(server, NULL, 0);
    fd_close(&line.fd);
    samples_deinit(&lease);
    samples_deinit(&bare);
}

/* ---- from a kill to a grant ---- */

static void hold_device_memory(void)
{
    struct driver_cuda driver;
    struct error err = { 0 };
    CUcontext context = NULL;
    CUdeviceptr memory = 0;
    CUdevice device = 0;

    if (driver_cuda_open(&driver, &err) < 0)
        die(err.message);
    if (driver.device_get(&device, 0) != CUDA_SUCCESS ||
        driver.primary_retain(&context, device) != CUDA_SUCCESS ||
        driver.context_set(context) != CUDA_SUCCESS ||
        driver.alloc(&memory, HELD_BYTES - GIB) != CUDA_SUCCESS)
        die("the holder cannot allocate device memory");
}

/* A process that holds a lease and its memory; returns once it does. */
static pid_t start_holder(void)
{
    int pipe_fds[2];
    char byte = 0;

    if (pipe(pipe_fds) < 0) /* NOLINT(android-cloexec-pipe): nothing is executed */
        die("no pipe");
    const pid_t child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct line line = line_open();
        acquire(&line, HELD_BYTES);
        hold_device_memory();
        (void)!write(pipe_fds[1], "h", 1);
        for (;;)
            (void)pause();
    }
    (void)close(pipe_fds[1]);
    if (read(pipe_fds[0], &byte, 1) != 1)
        die("the holder ended");
    (void)close(pipe_fds[0]);
    return child;
}

static uint64_t kill_until_grant_ns(void)
{
    struct line waiter = line_open();
    const pid_t holder = start_holder();
    struct message message = acquire_of(HELD_BYTES);

    say(&waiter, &message);
    expect(&waiter, MESSAGE_QUEUED);
    const uint64_t start_ns = clock_now_ns();
    (void)kill(holder, SIGKILL);
    do
        hear(&waiter, &message);
    while (message.type == MESSAGE_QUEUED);
    const uint64_t took_ns = clock_now_ns() - start_ns;
    if (message.type != MESSAGE_GRANTED)
        die("the waiter was not granted");
    (void)waitpid(holder, NULL, 0);
    release(&waiter);
    fd_close(&waiter.fd);
    return took_ns;
}

static uint64_t kill_until_pidfd_ns(void)
{
    const pid_t child = fork();

    if (child == 0) {
        for (;;)
            (void)pause();
    }
    int pidfd = process_open(child, 0);
    struct pollfd watch = { .fd = pidfd, .events = POLLIN };
    const uint64_t start_ns = clock_now_ns();
    (void)kill(child, SIGKILL);
    if (poll(&watch, 1, ANSWER_MS) != 1)
        die("a pidfd stays silent");
    const uint64_t took_ns = clock_now_ns() - start_ns;
    (void)waitpid(child, NULL, 0);
    fd_close(&pidfd);
    return took_ns;
}

static void measure_kill(void)
{
    struct samples grant, floor;

    if (samples_init(&grant, KILL_COUNT) < 0 || samples_init(&floor, KILL_COUNT) < 0)
        die("out of memory");
    for (unsigned i = 0; i < KILL_COUNT; i++) {
        samples_add(&grant, kill_until_grant_ns());
        samples_add(&floor, kill_until_pidfd_ns());
    }
    measure_print("kill_to_grant_ms", samples_percentile(&grant, 50) / 1e6, "ms",
                  samples_percentile(&floor, 50) / 1e6, grant.count);
    samples_deinit(&grant);
    samples_deinit(&floor);
}

/* ---- libbrim's whole way ---- */

static void measure_open(void)
{
    const struct brim_claim claim = { .struct_bytes = sizeof(claim),
                                      .resident_bytes = KIB,
                                      .max_wait_ms = BRIM_WAIT_FOREVER };
    struct samples opens;

    if (samples_init(&opens, OPEN_COUNT) < 0)
        die("out of memory");
    for (unsigned i = 0; i < OPEN_COUNT; i++) {
        brim_lease *lease = NULL;
        const uint64_t start_ns = clock_now_ns();
        if (brim_acquire(&claim, &lease) < 0)
            die("libbrim is not granted a KiB");
        brim_release(lease);
        samples_add(&opens, clock_now_ns() - start_ns);
    }
    measure_print("lease_open_us", samples_percentile(&opens, 50) / 1e3, "us", 0.0, opens.count);
    samples_deinit(&opens);
}

int main(void)
{
    struct error err = { 0 };

    (void)signal(SIGPIPE, SIG_IGN);
    if (daemon_start(&err) < 0)
        die(err.message);
    measure_round_trip();
    measure_open();
    measure_kill();
    return 0;
}
