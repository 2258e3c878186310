/* SPDX-License-Identifier: Apache-2.0 */

#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MARK_BYTES ((size_t)4096)

static int connect_to(const char *path, int *ret_fd)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (strlen(path) >= sizeof(address.sun_path)) {
        (void)close(fd);
        return -ENAMETOOLONG;
    }
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    while (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        const int r = -errno;
        if (r == -EINTR)
            continue;
        (void)close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

static int make_mark(struct link *link)
{
    void *const page =
        mmap(NULL, MARK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return -errno;
    if (madvise(page, MARK_BYTES, MADV_WIPEONFORK) < 0) {
        const int r = -errno;
        (void)munmap(page, MARK_BYTES);
        return r;
    }
    link->alive = page;
    *link->alive = 1;
    return 0;
}

/* Without them nothing goes wrong, which is all that a foreign process of the emulator needs. */
static void map_orders(struct link *link, int fd)
{
    void *const page =
        fd < 0 || secure_getenv("BRIM_EMU_EXEMPT")
            ? MAP_FAILED
            : mmap(NULL, sizeof(*link->orders), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    link->orders = page == MAP_FAILED ? NULL : page;
}

int link_open(struct link *link, enum emu_role role, struct emu_reply *ret_hello)
{
    const struct emu_request hello = { .op = EMU_HELLO, .args = { EMU_VERSION, role } };
    const char *const path = secure_getenv("BRIM_EMU_SOCKET");
    const int saved_errno = errno;
    int orders_fd = -1;
    int r = path ? connect_to(path, &link->fd) : -ENOENT;

    link->is_broken = false;
    if (r == 0)
        r = make_mark(link);
    if (r == 0)
        r = link_call_payload(link, &hello, ret_hello, NULL, 0, &orders_fd);
    if (r == 0)
        map_orders(link, orders_fd);
    if (orders_fd >= 0)
        (void)close(orders_fd);
    if (r != 0)
        link_close(link);
    errno = saved_errno;
    return r;
}

void link_close(struct link *link)
{
    const int saved_errno = errno;

    if (link->fd >= 0)
        (void)close(link->fd);
    if (link->alive)
        (void)munmap((void *)(uintptr_t)link->alive, MARK_BYTES);
    if (link->orders)
        (void)munmap(link->orders, sizeof(*link->orders));
    *link = (struct link)LINK_CLOSED;
    errno = saved_errno;
}

bool link_is_inherited(const struct link *link)
{
    return link->alive && *link->alive == 0;
}

static void take_fd(struct msghdr *packet, int *ret_fd)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(packet); head; head = CMSG_NXTHDR(packet, head)) {
        if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
            memcpy(ret_fd, CMSG_DATA(head), sizeof(int));
    }
}

static ssize_t receive(const struct link *link, struct iovec *parts, size_t part_count, int *ret_fd)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr packet = { .msg_iov = parts, .msg_iovlen = part_count };
    ssize_t got = 0;

    if (ret_fd) {
        packet.msg_control = control.bytes;
        packet.msg_controllen = sizeof(control.bytes);
        *ret_fd = -1;
    }
    do
        got = recvmsg(link->fd, &packet, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got > 0 && ret_fd)
        take_fd(&packet, ret_fd);
    return got;
}

/* One packet, with a descriptor unless fd is -1. */
static ssize_t send_request(const struct link *link, const struct emu_request *request, int fd)
{
    struct iovec part = { (void *)(uintptr_t)request,
                          request->op == EMU_FAULT ? sizeof(*request) : EMU_REQUEST_BYTES };
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct msghdr packet = { .msg_iov = &part, .msg_iovlen = 1 };
    ssize_t sent = 0;

    if (fd >= 0) {
        packet.msg_control = control.bytes;
        packet.msg_controllen = sizeof(control.bytes);
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.head), &fd, sizeof(int));
    }
    do
        sent = sendmsg(link->fd, &packet, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent;
}

static int finish_call(struct link *link, ssize_t got, const struct emu_reply *reply,
                       int saved_errno)
{
    const int failure = got < 0 ? -errno : -EPIPE;

    errno = saved_errno;
    if (got < (ssize_t)sizeof(*reply)) {
        link->is_broken = true;
        return failure;
    }
    return reply->status;
}

int link_call_payload(struct link *link, const struct emu_request *request,
                      struct emu_reply *ret_reply, void *payload, size_t payload_bytes, int *ret_fd)
{
    struct iovec parts[2] = { { ret_reply, sizeof(*ret_reply) }, { payload, payload_bytes } };
    const int saved_errno = errno;

    if (link->fd < 0 || link->is_broken)
        return -ENOTCONN;
    ssize_t got = send_request(link, request, -1);
    if (got >= 0)
        got = receive(link, parts, payload ? 2 : 1, ret_fd);
    return finish_call(link, got, ret_reply, saved_errno);
}

int link_call_fd(struct link *link, const struct emu_request *request, int fd,
                 struct emu_reply *ret_reply)
{
    struct iovec part = { ret_reply, sizeof(*ret_reply) };
    const int saved_errno = errno;

    if (link->fd < 0 || link->is_broken)
        return -ENOTCONN;
    ssize_t got = send_request(link, request, fd);
    if (got < 0 && errno == EBADF) { /* the program's mistake, not the link's end */
        errno = saved_errno;
        return -EBADF;
    }
    if (got >= 0)
        got = receive(link, &part, 1, NULL);
    return finish_call(link, got, ret_reply, saved_errno);
}

int link_call(struct link *link, const struct emu_request *request, struct emu_reply *ret_reply)
{
    return link_call_payload(link, request, ret_reply, NULL, 0, NULL);
}

int link_send(struct link *link, const struct emu_request *request)
{
    const int saved_errno = errno;
    const int r = send_request(link, request, -1) < 0 ? -errno : 0;

    errno = saved_errno;
    return r;
}

int link_receive(struct link *link, struct emu_reply *ret_packet)
{
    struct iovec part = { ret_packet, sizeof(*ret_packet) };
    const int saved_errno = errno;
    const ssize_t got = receive(link, &part, 1, NULL);
    const int r = got < 0 ? -errno : got < (ssize_t)sizeof(*ret_packet) ? -EPIPE : 0;

    errno = saved_errno;
    return r;
}
