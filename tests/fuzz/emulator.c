/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What any program of the user's may say to the emulator's server. The input is a row of steps:
 * a byte names a connection (and whether it hangs up or does something in the books instead), then
 * comes a packet, raw or as a well-formed request. At the end, with every process gone, no byte of
 * any gpu is in use; unless a program has written other things into its account than a charge.
 */

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "client.h"
#include "cuda/cuda.h"
#include "fuzz.h"
#include "server.h"
#include "shared.h"

#define PEER_COUNT 4
#define GPU_COUNT  2

/* In place of the epoll loop: what is watched is called when the input says so. */
int server_watch(struct server *server, struct watch *watch)
{
    (void)server;
    (void)watch;
    return 0;
}

void server_unwatch(struct server *server, struct watch *watch)
{
    (void)server;
    (void)watch;
}

static void open_server(struct server *server)
{
    struct error err = { 0 };

    server->orders_fd = -1;
    server->card_count = GPU_COUNT;
    for (uint32_t i = 0; i < GPU_COUNT; i++) {
        server->cards[i].info.capacity_bytes = UINT64_C(1) << (28 + i);
        server->cards[i].info.context_bytes = UINT64_C(1) << 24;
        FUZZ_MUST(card_open(&server->cards[i], i, &err) == 0);
    }
    (void)snprintf(server->socket_path, sizeof(server->socket_path), "/tmp/brim-fuzz-emu-%d",
                   (int)getpid());
    (void)unlink(server->socket_path);
    FUZZ_MUST(account_open_books(server, &err) == 0);
    FUZZ_MUST(client_listen(server, &err) == 0);
}

static int connect_peer(struct server *server)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memcpy(address.sun_path, server->socket_path, sizeof(address.sun_path));
    FUZZ_MUST(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    server->listener.on_ready(server, &server->listener);
    return fd;
}

static bool is_connected(const struct server *server, const struct client *wanted)
{
    const struct client *client = server->clients;

    while (client && client != wanted)
        client = client->next;
    return client && client->fd >= 0;
}

struct peer {
    struct client *client; /* borrowed; the server may have closed it */
    int fd;                /* owned; -1: none */
};

static void hang_up(struct server *server, struct peer *peer)
{
    fd_close(&peer->fd);
    if (peer->client && is_connected(server, peer->client))
        peer->client->socket_watch.on_ready(server, &peer->client->socket_watch);
    peer->client = NULL;
}

static size_t read_packet(struct fuzz_input *input, uint8_t *packet)
{
    static const uint64_t sizes[] = { 0, 1, EMU_PAGE_BYTES, 48 << 20, 200 << 20, UINT64_MAX };
    const uint8_t kind = fuzz_byte(input);
    struct emu_request request = { .op = kind & 31, .gpu = (kind >> 5) & 3 };

    if (kind >> 6 == 3)
        return fuzz_bytes(input, packet, fuzz_u16(input) % (sizeof(request) + 8));
    if (request.op == 0)
        request.op = EMU_SHARE + fuzz_byte(input) % 3;
    request.args[0] = request.op == EMU_HELLO ? EMU_VERSION : sizes[fuzz_byte(input) % 6];
    if (request.op == EMU_UNLEASE || request.op == EMU_ADOPT || request.op == EMU_DROP ||
        request.op == EMU_EXPORT || request.op == EMU_SHARE || request.op == EMU_OPEN)
        request.args[0] = fuzz_byte(input) * EMU_PAGE_BYTES;
    if (request.op == EMU_BOOKS)
        request.args[0] &= 1;
    request.args[1] = request.op == EMU_HELLO ? 1 + fuzz_byte(input) % 4 : fuzz_byte(input);
    if (request.op == EMU_LEASE || request.op == EMU_UNLEASE || request.op == EMU_ADOPT ||
        request.op == EMU_MANAGED)
        request.args[1] *= EMU_PAGE_BYTES;
    if (request.op == EMU_CHECKPOINT)
        request.args[0] = EMU_CHECKPOINT_OF(fuzz_byte(input) % 8, getpid(), fuzz_byte(input));
    if (request.op == EMU_RESTORE) /* mostly a success */
        request.args[0] = fuzz_byte(input) % 4 == 3 ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
    if (request.op == EMU_FAULT)
        (void)fuzz_bytes(input, request.text, fuzz_byte(input) % sizeof(request.text));
    memcpy(packet, &request, sizeof(request));
    return request.op == EMU_FAULT ? sizeof(request) : EMU_REQUEST_BYTES;
}

static void step(struct server *server, struct peer *peer, struct fuzz_input *input)
{
    uint8_t packet[sizeof(struct emu_request) + 8], reply[sizeof(struct emu_reply) + (64 << 10)];
    const size_t packet_bytes = read_packet(input, packet);

    if (peer->fd < 0) {
        peer->fd = connect_peer(server);
        peer->client = server->clients; /* the newest is the first */
    }
    (void)send(peer->fd, packet, packet_bytes, MSG_NOSIGNAL);
    if (is_connected(server, peer->client))
        peer->client->socket_watch.on_ready(server, &peer->client->socket_watch);
    (void)recv(peer->fd, reply, sizeof(reply), MSG_DONTWAIT);
    (void)holding_wipe_some(server);
}

/* As the library does it; or any word in any place of the peer's own account. */
static void use_books(struct server *server, const struct client *client, struct fuzz_input *input,
                      bool *is_spoiled)
{
    const uint8_t kind = fuzz_byte(input);
    const struct books_at at = { server->books, kind % GPU_COUNT, client->account };
    const uint64_t bytes = fuzz_byte(input) * EMU_PAGE_BYTES, capacity = UINT64_C(1) << 28;
    struct books_entry *const entry = &server->books->accounts[at.account].entries[at.card];
    _Atomic uint64_t *const words[] = { &entry->intent, &entry->done, &entry->taken,
                                        &entry->noted };

    if (kind < 128)
        (void)books_take(&at, bytes, capacity);
    else if (kind < 192 && bytes <= books_state(&at).held_bytes)
        books_give(&at, bytes);
    else if (kind >= 192) {
        uint64_t word = 0;
        (void)fuzz_bytes(input, (uint8_t *)&word, sizeof(word));
        *words[kind / 2 % 4] = word;
        *is_spoiled = true;
    }
}

/* Connections end before their processes do. */
static void end_processes(struct server *server)
{
    while (server->clients)
        server->clients->process_watch.on_ready(server, &server->clients->process_watch);
    while (server->exports) /* their descriptors went with the peers */
        server->exports->watch.on_ready(server, &server->exports->watch);
    while (holding_wipe_some(server))
        ;
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    struct fuzz_input input = { bytes, byte_count };
    struct server server = { .epoll_fd = -1 };
    bool is_spoiled = false;
    struct peer peers[PEER_COUNT] = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };

    open_server(&server);
    while (input.left > 0) {
        const uint8_t who = fuzz_byte(&input);
        if (who >= 0xf0)
            hang_up(&server, &peers[who % PEER_COUNT]);
        else if (who >= 0xe0 && is_connected(&server, peers[who % PEER_COUNT].client) &&
                 peers[who % PEER_COUNT].client->account != 0)
            use_books(&server, peers[who % PEER_COUNT].client, &input, &is_spoiled);
        else
            step(&server, &peers[who % PEER_COUNT], &input);
        for (uint32_t i = 0; i < GPU_COUNT; i++)
            FUZZ_MUST(card_used(&server.cards[i]) <= server.cards[i].info.capacity_bytes);
    }
    for (int i = 0; i < PEER_COUNT; i++)
        hang_up(&server, &peers[i]);
    end_processes(&server);
    holding_settle(&server, UINT64_MAX); /* what was ordered to come late */
    for (uint32_t i = 0; i < GPU_COUNT; i++) {
        FUZZ_MUST(is_spoiled || card_used(&server.cards[i]) == 0);
        FUZZ_MUST(server.cards[i].spans.free_count == 1 && server.cards[i].spans.taken_count == 0);
    }
    FUZZ_MUST(server.client_count == 0 && server.account_count == 0);
    client_close_all(&server);
    fd_close(&server.listen_fd);
    for (uint32_t i = 0; i < GPU_COUNT; i++)
        card_close(&server.cards[i]);
    account_close_books(&server);
    (void)unlink(server.socket_path);
}
