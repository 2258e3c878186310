/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The whole daemon but its driver: four connections that send what they like, and facts about two
 * gpus that say what they like. The input is a row of steps; after each the budget's laws hold, and
 * at the end, with everybody gone, nothing is held.
 *
 *   step, its low two bits: the connection        step >> 2, modulo the kinds:
 *   a packet: length, bytes                       a request: type and its numbers, a byte each
 *   an answer of the driver, or its failure       time passes
 *   the connection ends                           somebody looks at status, why, fit; stops, trims
 *
 * Time is the input's. brim-helper is here, in place of daemon/helper.c. No process is ever
 * signalled: pids are the input's too.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/size.h"
#include "daemon/control.h"
#include "daemon/daemon.h"
#include "daemon/holder.h"
#include "fuzz.h"

#define PEER_COUNT 4
#define GPU_COUNT  2
#define CARD_BYTES (12 * GIB)
#define UNIT_BYTES (64 * MIB)

static uint64_t fake_now_ms;
static char folder[64];

/* The linker's names (--wrap). */
/* NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming) */
uint64_t __wrap_clock_now_ms(void);
int __wrap_process_signal(int pidfd, int signal_number);
/* NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming) */

uint64_t __wrap_clock_now_ms(void)
{
    return fake_now_ms;
}

int __wrap_process_signal(int pidfd, int signal_number)
{
    (void)pidfd;
    (void)signal_number;
    return 0;
}

/* ---- the driver's side ---- */

struct helper {
    struct helper_events events;
    bool is_asked, is_down;
};

int helper_open(uv_loop_t *loop, const struct helper_events *events, struct helper **ret_helper,
                struct error *err)
{
    struct helper *const helper = calloc(1, sizeof(*helper));

    (void)loop;
    (void)err;
    FUZZ_MUST(helper);
    helper->events = *events;
    *ret_helper = helper;
    return 0;
}

bool helper_ask(struct helper *helper)
{
    if (helper->is_asked || helper->is_down)
        return false;
    helper->is_asked = true;
    return true;
}

bool helper_is_asked(const struct helper *helper)
{
    return helper->is_asked;
}

bool helper_is_down(const struct helper *helper)
{
    return helper->is_down;
}

void helper_close(struct helper *helper, void (*on_closed)(void *user), void *user)
{
    free(helper);
    on_closed(user);
}

static void tell_gpu(struct helper *helper, uint32_t index, struct fuzz_input *input)
{
    static struct facts_gpu gpu;
    const uint8_t shape = fuzz_byte(input);

    memset(&gpu, 0, sizeof(gpu));
    gpu.kind = FACTS_GPU;
    gpu.index = index;
    (void)snprintf(gpu.uuid, sizeof(gpu.uuid), "GPU-%u", index);
    (void)snprintf(gpu.name, sizeof(gpu.name), "card %u", index);
    gpu.capacity_bytes = CARD_BYTES;
    gpu.has_process_bytes = (shape & 8) == 0;
    gpu.used_bytes = fuzz_byte(input) * UNIT_BYTES;
    gpu.process_count = shape & 3;
    for (uint32_t i = 0; i < gpu.process_count; i++) {
        const uint8_t who = fuzz_byte(input);
        gpu.processes[i].pid = who & 1 ? (uint32_t)getpid() : who;
        gpu.processes[i].has_bytes = gpu.has_process_bytes;
        gpu.processes[i].used_bytes = fuzz_byte(input) * UNIT_BYTES;
    }
    if (shape >> 4 == 15) /* the driver has gone mad */
        (void)fuzz_bytes(input, &gpu.capacity_bytes, 16);
    helper->events.on_gpu(helper->events.user, &gpu);
}

static void answer_facts(struct helper *helper, struct fuzz_input *input)
{
    const uint8_t shape = fuzz_byte(input);
    struct facts_end end = { .kind = FACTS_END };

    if (!helper->is_asked && !helper->is_down)
        return; /* what nobody asked for is another target's */
    helper->is_asked = false;
    helper->is_down = false;
    if (shape == 255) {
        helper->is_down = true;
        helper->events.on_failed(helper->events.user, "the driver hangs");
        return;
    }
    if (shape == 254)
        end.status = -ENOENT;
    for (uint32_t i = 0; i < GPU_COUNT && shape != 254; i++) {
        if (i == 0 || (shape & 1) == 0)
            tell_gpu(helper, i, input);
        end.gpu_count++;
    }
    helper->events.on_end(helper->events.user, &end);
}

/* ---- the peers ---- */

static void send_packet(struct daemon *daemon, int *peer_fd, const void *packet,
                        size_t packet_bytes)
{
    unsigned char answer[MESSAGE_MAX_BYTES];
    int ends[2];

    if (*peer_fd < 0) {
        FUZZ_MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
        *peer_fd = ends[0];
        daemon->sessions.count++;
        FUZZ_MUST(session_new(daemon, ends[1], getuid(), getpid()) == 0);
    }
    (void)send(*peer_fd, packet, packet_bytes, MSG_NOSIGNAL);
    (void)uv_run(daemon->loop, UV_RUN_NOWAIT);
    const ssize_t got = recv(*peer_fd, answer, sizeof(answer), 0);
    if (got == 0) {
        fd_close(peer_fd);
    } else if (got > 0) {
        struct message message;
        struct error err = { 0 };
        FUZZ_MUST(message_decode(answer, (size_t)got, &message, &err) == 0);
    }
}

static uint64_t some_bytes(struct fuzz_input *input)
{
    const uint8_t units = fuzz_byte(input);

    return units == 255 ? UINT64_MAX : units * UNIT_BYTES;
}

static uint64_t some_wait(struct fuzz_input *input)
{
    const uint8_t wait = fuzz_byte(input);

    return wait == 255 ? UINT64_MAX : (uint64_t)wait * 100;
}

static void some_claim(struct fuzz_input *input, struct message_claim *claim)
{
    static const char *const gpus[] = { "", "0", "1", "GPU-0", "0,1", "GPU-1,GPU-0", "x", "0,0" };
    const uint8_t shape = fuzz_byte(input);

    claim->resident_bytes = some_bytes(input);
    claim->burst_bytes = some_bytes(input);
    claim->load_peak_bytes = shape & 8 ? some_bytes(input) : 0;
    claim->max_wait_ms = some_wait(input);
    claim->flags = fuzz_byte(input);
    claim->priority = shape >> 4;
    claim->pid = claim->flags & 128 ? (uint32_t)getpid() : 0;
    (void)snprintf(claim->name, sizeof(claim->name), "p%u", shape);
    (void)snprintf(claim->gpu, sizeof(claim->gpu), "%s", gpus[shape & 7]);
}

static void send_request(struct daemon *daemon, int *peer_fd, struct fuzz_input *input)
{
    static const enum message_type types[] = {
        MESSAGE_HELLO,  MESSAGE_ACQUIRE,     MESSAGE_REATTACH,  MESSAGE_READY,
        MESSAGE_BIND,   MESSAGE_IDLE,        MESSAGE_TRIMMED,   MESSAGE_RELEASE,
        MESSAGE_RESIZE, MESSAGE_BURST_BEGIN, MESSAGE_BURST_END, MESSAGE_GRANTED,
    };
    unsigned char packet[MESSAGE_MAX_BYTES];
    struct message message = { .seq = fuzz_byte(input) };

    message.type = types[message.seq % (sizeof(types) / sizeof(types[0]))];
    if (message.type == MESSAGE_ACQUIRE) {
        some_claim(input, &message.acquire);
    } else if (message.type == MESSAGE_REATTACH) {
        message.reattach.lease_id = fuzz_byte(input);
        message.reattach.state = fuzz_byte(input) % 8;
        message.reattach.burst_bytes = some_bytes(input);
        some_claim(input, &message.reattach.claim);
    } else if (message.type == MESSAGE_BIND) {
        message.bind.pid = fuzz_byte(input) & 1 ? (uint32_t)getpid() : 1;
    } else if (message.type == MESSAGE_BURST_BEGIN) {
        message.burst.bytes = some_bytes(input);
        message.burst.max_wait_ms = some_wait(input);
    } else if (message.type == MESSAGE_RESIZE || message.type == MESSAGE_TRIMMED) {
        message.resize.resident_bytes = some_bytes(input);
        message.resize.burst_bytes = message.type == MESSAGE_RESIZE ? some_bytes(input) : 0;
    }
    send_packet(daemon, peer_fd, packet, message_encode(&message, packet));
}

static void send_bytes(struct daemon *daemon, int *peer_fd, struct fuzz_input *input)
{
    uint8_t packet[MESSAGE_MAX_BYTES + 16];
    const size_t packet_bytes = fuzz_bytes(input, packet, fuzz_u16(input) % sizeof(packet));

    send_packet(daemon, peer_fd, packet, packet_bytes);
}

/* ---- the people ---- */

static void look(struct daemon *daemon, struct fuzz_input *input)
{
    const struct api_source source = control_source(daemon);
    const struct api_peer peer = { .uid = getuid(), .pid = getpid() };
    const uint8_t what = fuzz_byte(input);
    struct error err = { 0 };
    json_t *json = NULL;
    char name[16];

    (void)snprintf(name, sizeof(name), "%.*s%u", what & 1, "r", fuzz_byte(input));
    if (what % 3 == 0)
        name[0] = what & 8 ? 'l' : 'p';
    if (what % 5 == 0)
        (void)source.status(source.user, &peer, &json, &err);
    else if (what % 5 == 1)
        (void)source.why(source.user, &peer, what & 16 ? name : "", &json, &err);
    else if (what % 5 == 2)
        (void)source.fit(source.user, some_bytes(input), some_bytes(input), "0", &json, &err);
    else
        (void)(what & 16 ? source.stop : source.trim)(source.user, &peer, name, &json, &err);
    json_decref(json);
}

/* ---- one input ---- */

static int listen_nowhere(void)
{
    const struct sockaddr_un address = { .sun_family =
                                             AF_UNIX }; /* a name of the kernel's choice */
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    FUZZ_MUST(fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
    FUZZ_MUST(listen(fd, 4) == 0);
    return fd;
}

static void remove_folder(void)
{
    char path[sizeof(folder) + 32];

    for (int i = 0; i < GPU_COUNT; i++) {
        (void)snprintf(path, sizeof(path), "%s/brim-GPU-%d.lock", folder, i);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

static struct daemon *open_daemon(uv_loop_t *loop)
{
    struct options options = { .scope = SCOPE_USER, .reserve_bytes = 800 * MIB, .ready_fd = -1 };
    struct place place = { .runtime_lock_fd = -1, .state_lock_fd = -1 };
    struct daemon *daemon = NULL;
    struct error err = { 0 };

    if (folder[0] == '\0') {
        (void)snprintf(folder, sizeof(folder), "%s/brim-fuzz-session-XXXXXX",
                       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        FUZZ_MUST(mkdtemp(folder) && atexit(remove_folder) == 0);
        FUZZ_MUST(setenv("BRIM_LOCK_DIR", folder, 1) == 0);
        log_set_level(LOG_LEVEL_ERROR - 1);
    }
    place.lease_fd = listen_nowhere();
    place.api_fd = listen_nowhere();
    /* No journal and no history: their files are another target's. And no doors to watch. */
    (void)snprintf(place.runtime_dir, sizeof(place.runtime_dir), "%s/none", folder);
    (void)snprintf(place.state_dir, sizeof(place.state_dir), "%s/none", folder);
    FUZZ_MUST(uv_loop_init(loop) == 0);
    FUZZ_MUST(daemon_open(loop, &options, &place, &daemon, &err) == 0);
    return daemon;
}

static void take_step(struct daemon *daemon, int *peers, struct fuzz_input *input)
{
    static const uint16_t times_ms[] = { 1, 10, 60, 300, 1100, 11000, 31000, 65000 };
    const uint8_t step = fuzz_byte(input);
    int *const peer_fd = &peers[step % PEER_COUNT];

    switch ((step >> 2) % 7) {
    case 0:
        send_bytes(daemon, peer_fd, input);
        break;
    case 1:
    case 2:
        send_request(daemon, peer_fd, input);
        break;
    case 3:
        answer_facts(daemon->helper, input);
        break;
    case 4:
        fake_now_ms += times_ms[fuzz_byte(input) % 8];
        (void)holders_look_after(daemon);
        break;
    case 5:
        fd_close(peer_fd);
        break;
    default:
        look(daemon, input);
        break;
    }
    (void)uv_run(daemon->loop, UV_RUN_NOWAIT);
    daemon_pump(daemon);
    budget_check(daemon->budget);
}

/* Everybody is gone, and the driver says that nothing is used. */
static void check_empty(struct daemon *daemon)
{
    static const uint8_t nothing[] = { 0, 0, 0, 0, 0 };
    struct budget_gpu_view view;

    for (int i = 0; i < 8; i++) {
        struct fuzz_input input = { nothing, sizeof(nothing) };
        (void)uv_run(daemon->loop, UV_RUN_NOWAIT);
        fake_now_ms += 11000;
        daemon_pump(daemon);
        answer_facts(daemon->helper, &input);
        (void)holders_look_after(daemon);
        daemon_pump(daemon);
    }
    for (uint32_t i = 0; i < budget_gpu_count(daemon->budget); i++) {
        budget_view_gpu(daemon->budget, i, &view);
        if (daemon->gpus.table[i].is_seen && view.has_process_bytes)
            FUZZ_MUST(view.draining_bytes == 0);
    }
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    struct fuzz_input input = { bytes, byte_count };
    int peers[PEER_COUNT] = { -1, -1, -1, -1 };
    uv_loop_t loop;

    fake_now_ms = 1000000;
    struct daemon *const daemon = open_daemon(&loop);
    while (input.left > 0)
        take_step(daemon, peers, &input);
    for (int i = 0; i < PEER_COUNT; i++)
        fd_close(&peers[i]);
    check_empty(daemon);
    daemon_end(daemon, "the input has ended");
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    FUZZ_MUST(uv_loop_close(&loop) == 0);
    daemon_free(daemon);
}
