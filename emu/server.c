/* SPDX-License-Identifier: Apache-2.0 */

/*
 * brim-emulator: set up, then the loop. One event is taken at a time, so that a handler may close
 * any connection without another event of it being under way.
 */

#include "server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

int server_watch(struct server *server, struct watch *watch)
{
    struct epoll_event event = { .events = EPOLLIN, .data = { .ptr = watch } };

    return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0 ? -errno : 0;
}

void server_unwatch(struct server *server, struct watch *watch)
{
    if (watch->fd >= 0)
        (void)epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
}

static int wait_ms(const struct server *server, bool has_more)
{
    uint64_t due_ms = server->tree.deadline_ms;
    const uint64_t now_ms = clock_now_ms();

    if (has_more)
        return 0;
    if (server->late_first && server->late_first->due_ms < due_ms)
        due_ms = server->late_first->due_ms;
    if (schedule_due_ms(server) < due_ms)
        due_ms = schedule_due_ms(server);
    if (tree_hogs_due_ms(server) < due_ms)
        due_ms = tree_hogs_due_ms(server);
    if (due_ms == CLOCK_NEVER_MS)
        return -1;
    if (due_ms <= now_ms)
        return 0;
    return due_ms - now_ms > 60000 ? 60000 : (int)(due_ms - now_ms);
}

static int run_loop(struct server *server, struct error *err)
{
    bool has_more = false;

    while (server->tree.state != TREE_ENDED) {
        struct epoll_event event = { 0 };
        const int count = epoll_wait(server->epoll_fd, &event, 1, wait_ms(server, has_more));
        if (count < 0 && errno != EINTR)
            return error_set(err, -errno, "epoll_wait: %s", strerror(errno));
        if (count > 0) {
            struct watch *const watch = event.data.ptr;
            watch->on_ready(server, watch);
        }
        if (server->late_first)
            holding_settle(server, clock_now_ms());
        schedule_settle(server, clock_now_ms());
        tree_settle_hogs(server, clock_now_ms());
        if (server->tree.deadline_ms <= clock_now_ms())
            tree_on_deadline(server);
        has_more = holding_wipe_some(server);
    }
    return 0;
}

static int server_open(struct server *server, struct error *err)
{
    int r = 0;

    server->listen_fd = server->orders_fd = server->books_fd = server->gone_fd = -1;
    if (getrandom(&server->number, sizeof(server->number), 0) != sizeof(server->number))
        return error_set(err, -errno, "getrandom: %s", strerror(errno));
    server->tree.signal_fd = -1;
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll_fd < 0)
        return error_set(err, -errno, "epoll_create1: %s", strerror(errno));
    for (uint32_t i = 0; i < server->card_count && r == 0; i++)
        r = card_open(&server->cards[i], i, err);
    if (r == 0)
        r = account_open_books(server, err);
    if (r == 0)
        r = script_open(server, err);
    if (r == 0)
        r = environment_open(server, err);
    if (r == 0)
        r = client_listen(server, err);
    if (r == 0)
        r = tree_open(server, err);
    return r;
}

static void server_close(struct server *server)
{
    tree_close(server);
    client_close_all(server);
    fd_close(&server->listen_fd);
    fd_close(&server->epoll_fd);
    for (uint32_t i = 0; i < server->card_count; i++)
        card_close(&server->cards[i]);
    account_close_books(server);
    script_close(server);
    environment_close(server);
}

int main(int argc, char **argv)
{
    static struct server server;
    struct error err = { 0 };

    if (argc == 4 && strcmp(argv[1], "--hold") == 0)
        return holder_run(argv[2], argv[3]);
    if (argc == 2 && strcmp(argv[1], "--stats") == 0)
        return stats_ask();
    if (argc == 3 && strcmp(argv[1], "--control") == 0)
        return stats_order(argv[2]);
    const int status = options_read(&server, argc, argv);
    if (status != 0)
        return status;
    int r = server_open(&server, &err);
    if (r == 0)
        r = tree_start(&server, &err);
    if (r == 0)
        r = run_loop(&server, &err);
    if (server.options.stats_file && r == 0)
        r = stats_write_file(&server, &err);
    server_close(&server);
    if (r < 0) {
        fprintf(stderr, "brim emulate: %s\n", err.message);
        return 125;
    }
    return server.tree.status;
}
