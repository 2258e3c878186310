/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The books' file, and whose account is whose. An account is a process's from its first call of the
 * driver until the process has ended, also where its connection ends before: what it may still
 * charge itself with in that moment is settled then, and no other process ever writes to the same
 * account.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "client.h"
#include "cuda/cuda.h"

static_assert(BOOKS_CARD_MAX == EMU_GPU_MAX, "every card has its books");

int account_open_books(struct server *server, struct error *err)
{
    server->gone_fd = epoll_create1(EPOLL_CLOEXEC);
    server->books_fd = memfd_create("brim-emulated-books", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (server->gone_fd < 0 || server->books_fd < 0 ||
        ftruncate(server->books_fd, sizeof(*server->books)) < 0 ||
        fcntl(server->books_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return error_set(err, -errno, "the emulator's books: %s", strerror(errno));
    void *const books =
        mmap(NULL, sizeof(*server->books), PROT_READ | PROT_WRITE, MAP_SHARED, server->books_fd, 0);
    if (books == MAP_FAILED)
        return error_set(err, -errno, "the emulator's books: %s", strerror(errno));
    server->books = books;
    for (uint32_t i = 0; i < server->card_count; i++)
        server->cards[i].at = (struct books_at){ books, i, BOOKS_SERVER };
    return 0;
}

void account_close_books(struct server *server)
{
    if (server->books)
        (void)munmap(server->books, sizeof(*server->books));
    server->books = NULL;
    fd_close(&server->books_fd);
    fd_close(&server->gone_fd);
}

/* A hint for processes that read the books: whoever polls gone_fd as readable asks us, and we look
 * at ends before we answer. Requests are no news there. */
int account_watch(const struct server *server, int fd, uint32_t events)
{
    struct epoll_event event = { .events = events };

    return epoll_ctl(server->gone_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int account_open(struct server *server, struct client *client)
{
    uint32_t account = BOOKS_SERVER + 1;

    if (client->account != 0)
        return CUDA_SUCCESS;
    while (account < BOOKS_ACCOUNT_MAX && server->by_account[account])
        account++;
    if (account == BOOKS_ACCOUNT_MAX || account_watch(server, client->fd, EPOLLRDHUP) < 0 ||
        account_watch(server, client->pidfd, EPOLLIN) < 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    client->account = account;
    server->by_account[account] = client;
    server->account_count++;
    atomic_store(&server->books->accounts[account].is_closed, 0);
    return CUDA_SUCCESS;
}

void account_end(struct server *server, const struct client *client)
{
    if (client->account != 0)
        atomic_store(&server->books->accounts[client->account].is_closed, 1);
}

void account_close(struct server *server, struct client *client)
{
    if (client->account == 0)
        return;
    for (uint32_t i = 0; i < server->card_count; i++) {
        const struct books_at at = { server->books, i, client->account };
        server->cards[i].allocations += books_state(&at).taken_count;
        books_reset(&at);
    }
    server->by_account[client->account] = NULL;
    server->account_count--;
    client->account = 0;
}

uint64_t account_bytes(const struct server *server, const struct client *client, uint32_t gpu)
{
    const struct books_at at = { server->books, gpu, client->account };

    if (client->account == 0)
        return 0;
    const uint64_t held_bytes = books_state(&at).held_bytes;
    return held_bytes > client->taken_over_bytes[gpu] ? held_bytes - client->taken_over_bytes[gpu]
                                                      : 0;
}

uint64_t account_allocations(const struct server *server, uint32_t gpu)
{
    uint64_t count = server->cards[gpu].allocations;

    for (const struct client *client = server->clients; client; client = client->next) {
        const struct books_at at = { server->books, gpu, client->account };
        if (client->account != 0)
            count += books_state(&at).taken_count;
    }
    return count;
}
