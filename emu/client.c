/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client: one connection of an emulated library, which stands for its process.
 *
 * What it holds ends when the connection does or when the process does, whichever is first: a
 * forked child that carries a copy of the descriptor must not keep its dead parent's memory alive.
 * Whatever it sends, the worst that happens is that its own connection is closed.
 */

#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "checkpoint.h"
#include "cuda/cuda.h"
#include "shared.h"

#define CLIENT_MAX ((rlim_t)32768)

static void client_close(struct server *server, struct client *client)
{
    checkpoint_close(server, client);
    checkpoint_forget(server, client);
    holding_end(server, client);
    account_close(server, client);
    server_unwatch(server, &client->socket_watch);
    server_unwatch(server, &client->process_watch);
    fd_close(&client->fd);
    fd_close(&client->pidfd);
    if (client->previous)
        client->previous->next = client->next;
    else
        server->clients = client->next;
    if (client->next)
        client->next->previous = client->previous;
    free(client);
    server->client_count--;
    if (!server->is_listening)
        server->is_listening = server_watch(server, &server->listener) == 0;
}

/* The connection has ended. A process with an account is still waited for: until it has ended, or
 * has begun another program, it can write to its account. */
static void client_hang_up(struct server *server, struct client *client)
{
    if (client->account == 0) {
        client_close(server, client);
        return;
    }
    account_end(server, client);
    holding_end(server, client);
    server_unwatch(server, &client->socket_watch);
    client->socket_watch.fd = -1;
    fd_close(&client->fd);
}

void client_close_all(struct server *server)
{
    while (server->clients)
        client_close(server, server->clients);
    holding_deinit(server);
}

static int report_fault(struct server *server, struct client *client,
                        const struct emu_request *request)
{
    char text[EMU_TEXT_BYTES];
    size_t length = 0;

    for (; length < sizeof(text) - 1 && request->text[length]; length++) {
        const char c = request->text[length];
        text[length] = c >= 0x20 && c < 0x7f ? c : '?';
    }
    text[length] = '\0';
    if (request->args[0] == EMU_FAULT_CHECKPOINT) {
        checkpoint_fault(server, client, text);
        return CUDA_SUCCESS;
    }
    server->cards[request->gpu].async_faults++;
    fprintf(stderr, "brim emulate: gpu %u: %s (pid %d): %s\n", request->gpu, client->name,
            (int)client->pid, text);
    return CUDA_SUCCESS;
}

struct answer {
    struct emu_reply reply;
    const void *payload; /* borrowed */
    size_t payload_bytes;
    int fd; /* borrowed; -1: none */
};

static int send_answer(const struct client *client, struct answer *answer)
{
    struct iovec parts[2] = {
        { &answer->reply, sizeof(answer->reply) },
        { (void *)(uintptr_t)answer->payload, answer->payload_bytes },
    };
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct msghdr packet = { .msg_iov = parts, .msg_iovlen = answer->payload_bytes > 0 ? 2 : 1 };

    if (answer->fd >= 0) {
        packet.msg_control = control.bytes;
        packet.msg_controllen = sizeof(control.bytes);
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.head), &answer->fd, sizeof(int));
    }
    /* Who does not read its answers is not waited for. */
    return sendmsg(client->fd, &packet, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int say_hello(const struct server *server, struct client *client,
                     const struct emu_request *request, struct answer *answer)
{
    if (request->args[0] != EMU_VERSION || request->args[1] < EMU_ROLE_CUDA ||
        request->args[1] > EMU_ROLE_RESTORE || client->checkpoint)
        return -EPROTO;
    client->role = (enum emu_role)request->args[1];
    if (client->role == EMU_ROLE_RESTORE && checkpoint_open(client) < 0)
        return -ENOMEM;
    answer->fd = server->orders_fd;
    answer->reply.values[0] = server->card_count;
    answer->reply.values[1] = server->options.is_async_late ? EMU_HELLO_ASYNC_LATE : 0;
    answer->reply.values[2] = server->number;
    return 0;
}

static int answer_books(struct server *server, struct client *client,
                        const struct emu_request *request, struct answer *answer)
{
    if (client->role != EMU_ROLE_CUDA || request->args[0] > EMU_BOOKS_GONE)
        return -EPROTO;
    answer->reply.status = account_open(server, client);
    answer->reply.values[0] = client->account;
    if (answer->reply.status == CUDA_SUCCESS)
        answer->fd = request->args[0] == EMU_BOOKS_FILE ? server->books_fd : server->gone_fd;
    return send_answer(client, answer);
}

static int answer_stats(struct server *server, const struct client *client, struct answer *answer)
{
    size_t bytes = 0;
    char *const text = stats_text(server, &bytes);

    if (!text)
        return -ENOMEM;
    answer->payload = text;
    answer->payload_bytes = bytes;
    const int r = send_answer(client, answer);
    free(text);
    return r;
}

static int obey(struct server *server, const struct client *client,
                const struct emu_request *request, struct answer *answer)
{
    char order[EMU_TEXT_BYTES];
    struct error err = { 0 };

    (void)snprintf(order, sizeof(order), "%.*s", EMU_TEXT_BYTES - 1, request->text);
    if (script_obey(server, order, &err) < 0) {
        answer->reply.status = CUDA_ERROR_INVALID_VALUE;
        answer->payload = err.message;
        answer->payload_bytes = strlen(err.message);
    }
    return send_answer(client, answer);
}

static int answer_processes(struct server *server, const struct client *client, uint32_t gpu,
                            struct answer *answer)
{
    static struct emu_process list[EMU_PROCESS_MAX]; /* 32 KiB; the server has one thread */

    answer->reply.count = holding_list(server, gpu, list);
    answer->payload = list;
    answer->payload_bytes = answer->reply.count * sizeof(list[0]);
    return send_answer(client, answer);
}

static int answer_export(struct server *server, struct client *client,
                         const struct emu_request *request, struct answer *answer)
{
    OWNED(fd_close) int fd = -1;

    answer->reply.status = shared_export(server, client, request, &fd);
    answer->fd = fd;
    return send_answer(client, answer);
}

static int answer_places(struct server *server, const struct client *client,
                         const struct emu_request *request, struct answer *answer)
{
    static struct emu_place list[EMU_PLACE_MAX];

    answer->reply.count =
        checkpoint_places(server, client->pid, request->args[0], list, &answer->reply.values[0]);
    answer->payload = list;
    answer->payload_bytes = answer->reply.count * sizeof(list[0]);
    return send_answer(client, answer);
}

/* Requests that have to do with checkpoints. Negative: the client is to be closed. */
static int handle_checkpoint_request(struct server *server, struct client *client,
                                     const struct emu_request *request, struct answer *answer)
{
    switch (request->op) {
    case EMU_CHECKPOINT:
        return checkpoint_ask(server, client, request);
    case EMU_RESTORE:
        return checkpoint_hear(server, client, request);
    case EMU_PLACES:
        return answer_places(server, client, request, answer);
    case EMU_NVML_GONE:
        client->has_lost_nvml = client->role == EMU_ROLE_NVML;
        return send_answer(client, answer);
    case EMU_GOODBYE:
        if (client->checkpoint)
            client->checkpoint->has_said_goodbye = true;
        return 0;
    default:
        return -EPROTO;
    }
}

/* Negative: the client is to be closed. */
static int handle_gpu_request(struct server *server, struct client *client,
                              const struct emu_request *request, struct answer *answer)
{
    struct card *const card = &server->cards[request->gpu];

    switch (request->op) {
    case EMU_GPU_INFO:
        answer->payload = &card->info;
        answer->payload_bytes = sizeof(card->info);
        answer->fd = request->args[0] == 1 ? card->memfd : -1;
        break;
    case EMU_CONTEXT_ADD:
        answer->reply.status = holding_add_context(server, client, request->gpu);
        break;
    case EMU_CONTEXT_REMOVE:
        answer->reply.status = holding_remove_context(server, client, request->gpu);
        break;
    case EMU_LEASE:
        answer->reply.status = lease_open(server, client, request, answer->reply.values);
        break;
    case EMU_UNLEASE:
        answer->reply.status = lease_close(server, client, request);
        break;
    case EMU_MEMORY:
        answer->reply.values[0] = card->info.capacity_bytes;
        answer->reply.values[1] = card_used(card);
        break;
    case EMU_ADOPT:
        answer->reply.status = shared_adopt(server, client, request);
        break;
    case EMU_DROP:
        answer->reply.status = shared_drop(server, client, request, &answer->reply.values[0]);
        break;
    case EMU_SHARE:
        answer->reply.status = shared_share(server, client, request, &answer->reply.values[0]);
        break;
    case EMU_OPEN:
        answer->reply.status = shared_open(server, client, request, &answer->reply.values[0]);
        break;
    case EMU_MANAGED:
        answer->reply.status = managed_set(server, client, request, &answer->reply.values[0]);
        break;
    case EMU_ROOM:
        answer->reply.values[0] = managed_make_room(server, request->gpu, request->args[0]);
        break;
    case EMU_EXPORT:
        return answer_export(server, client, request, answer);
    case EMU_FAULT:
        answer->reply.status = report_fault(server, client, request);
        break;
    case EMU_PROCESSES:
        return answer_processes(server, client, request->gpu, answer);
    default:
        return -EPROTO;
    }
    return send_answer(client, answer);
}

static int handle_request(struct server *server, struct client *client,
                          const struct emu_request *request, size_t request_bytes, int fd)
{
    struct answer answer = { .fd = -1 };
    const bool has_text = request->op == EMU_FAULT || request->op == EMU_CONTROL;
    const size_t expected = has_text ? sizeof(struct emu_request) : EMU_REQUEST_BYTES;

    if (request_bytes != expected)
        return -EPROTO;
    if (request->op == EMU_HELLO) {
        const int r = say_hello(server, client, request, &answer);
        return r < 0 ? r : send_answer(client, &answer);
    }
    if (client->role == 0)
        return -EPROTO;
    if (request->op == EMU_IMPORT) {
        answer.reply.status = shared_import(server, client, fd, answer.reply.values);
        return send_answer(client, &answer);
    }
    if (request->op == EMU_BOOKS)
        return answer_books(server, client, request, &answer);
    if (request->op == EMU_CONTROL)
        return obey(server, client, request, &answer);
    if (request->op == EMU_STATS)
        return answer_stats(server, client, &answer);
    if (request->op >= EMU_CHECKPOINT && request->op <= EMU_GOODBYE)
        return handle_checkpoint_request(server, client, request, &answer);
    if (request->gpu >= server->card_count)
        return -EPROTO;
    return handle_gpu_request(server, client, request, &answer);
}

/* A packet and the descriptor that may come with it; any more of them the kernel closes. */
static ssize_t receive(const struct client *client, struct emu_request *ret_request, int *ret_fd)
{
    struct iovec part = { ret_request, sizeof(*ret_request) };
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr packet = { .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_LEN(sizeof(int)) };
    const ssize_t got = recvmsg(client->fd, &packet, MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
    const struct cmsghdr *const head = got >= 0 ? CMSG_FIRSTHDR(&packet) : NULL;

    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
        head->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(ret_fd, CMSG_DATA(head), sizeof(int));
    return got;
}

static void on_packet(struct server *server, struct watch *watch)
{
    struct client *const client =
        (struct client *)((char *)watch - offsetof(struct client, socket_watch));
    struct emu_request request = { 0 };
    OWNED(fd_close) int fd = -1;
    const ssize_t got = receive(client, &request, &fd);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got < (ssize_t)EMU_REQUEST_BYTES || got > (ssize_t)sizeof(request) ||
        handle_request(server, client, &request, (size_t)got, fd) < 0)
        client_hang_up(server, client);
}

static void on_process_end(struct server *server, struct watch *watch)
{
    client_close(server, (struct client *)((char *)watch - offsetof(struct client, process_watch)));
}

/* Who is at the other end: only this user's processes, each by its pid and start time. */
static int identify(struct client *client)
{
    struct ucred peer = { 0 };
    struct process_info process = { 0 };
    socklen_t length = sizeof(peer);

    if (getsockopt(client->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return -errno;
    if (peer.uid != geteuid() && peer.uid != 0)
        return -EPERM;
    const int r = process_read(peer.pid, &process);
    if (r < 0)
        return r;
    client->pid = peer.pid;
    client->uid = peer.uid;
    client->start_ticks = process.start_ticks;
    (void)snprintf(client->name, sizeof(client->name), "%s", process.name);
    client->pidfd = process_open(peer.pid, process.start_ticks);
    return client->pidfd < 0 ? client->pidfd : 0;
}

static int client_open(struct server *server, int fd)
{
    struct client *const client = calloc(1, sizeof(*client));

    if (!client) {
        fd_close(&fd);
        return -ENOMEM;
    }
    client->fd = fd;
    client->pidfd = -1;
    client->next = server->clients;
    if (client->next)
        client->next->previous = client;
    server->clients = client;
    server->client_count++;
    int r = identify(client);
    client->socket_watch = (struct watch){ on_packet, client->fd };
    client->process_watch = (struct watch){ on_process_end, client->pidfd };
    if (r == 0)
        r = server_watch(server, &client->socket_watch);
    if (r == 0)
        r = server_watch(server, &client->process_watch);
    if (r < 0)
        client_close(server, client);
    return r;
}

static void on_connection(struct server *server, struct watch *watch)
{
    const int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    const bool is_full = fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;

    if (fd >= 0)
        (void)client_open(server, fd);
    if (!is_full && server->client_count < server->client_max)
        return;
    /* No place, or no descriptor: whoever connects waits until somebody leaves. */
    if (server->client_count > 0) {
        server_unwatch(server, &server->listener);
        server->is_listening = false;
    }
}

/* A client takes two descriptors. The limit is raised as far as it goes; the command gets its own
 * back. */
static void find_room(struct server *server)
{
    struct rlimit limit = { 0 };

    if (getrlimit(RLIMIT_NOFILE, &server->file_limit) < 0)
        server->file_limit = (struct rlimit){ 1024, 1024 };
    limit = server->file_limit;
    limit.rlim_cur = limit.rlim_max < CLIENT_MAX * 2 ? limit.rlim_max : CLIENT_MAX * 2;
    if (limit.rlim_cur < server->file_limit.rlim_cur || setrlimit(RLIMIT_NOFILE, &limit) < 0)
        limit = server->file_limit;
    server->client_max = limit.rlim_cur < 256 ? 64 : (size_t)limit.rlim_cur / 2 - 64;
}

int client_listen(struct server *server, struct error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", server->socket_path);
    find_room(server);
    server->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server->listen_fd < 0 ||
        bind(server->listen_fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(server->listen_fd, 512) < 0)
        return error_set(err, -errno, "the emulator's socket %s: %s", server->socket_path,
                         strerror(errno));
    server->listener = (struct watch){ on_connection, server->listen_fd };
    const int r = server_watch(server, &server->listener);
    if (r < 0)
        return error_set(err, r, "epoll: %s", strerror(-r));
    server->is_listening = true;
    return 0;
}
