/* SPDX-License-Identifier: Apache-2.0 */

#include "helper/facts.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "device/device.h"
#include "wire/facts.h"

static_assert(DEVICE_PROCESS_MAX == FACTS_PROCESS_MAX, "the packet holds what is read");
static_assert(DEVICE_MAX == FACTS_GPU_MAX, "the packet holds what is read");

struct server {
    int fd; /* borrowed */
    bool is_open;
    struct devices devices;
};

static int send_packet(int fd, const void *packet, size_t packet_bytes)
{
    ssize_t sent = 0;

    do
        sent = send(fd, packet, packet_bytes, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

static int send_gpu(const struct server *server, uint32_t seq, const struct device *device,
                    const struct device_usage *usage)
{
    static struct facts_gpu packet; /* 16 KiB */

    packet = (struct facts_gpu){ .kind = FACTS_GPU,
                                 .seq = seq,
                                 .index = device->index,
                                 .has_process_bytes = usage->has_process_bytes,
                                 .capacity_bytes = usage->capacity_bytes,
                                 .used_bytes = usage->used_bytes,
                                 .process_count = (uint32_t)usage->process_count,
                                 .is_truncated = usage->is_truncated };
    memcpy(packet.uuid, device->uuid, sizeof(packet.uuid));
    memcpy(packet.name, device->name, sizeof(packet.name));
    for (size_t i = 0; i < usage->process_count; i++)
        packet.processes[i] =
            (struct facts_process){ .pid = usage->processes[i].pid,
                                    .has_bytes = usage->processes[i].has_bytes,
                                    .used_bytes = usage->processes[i].used_bytes };
    return send_packet(server->fd, &packet,
                       offsetof(struct facts_gpu, processes) +
                           usage->process_count * sizeof(packet.processes[0]));
}

/* One packet a gpu. *ret_status is the driver's failure, the return value the socket's. */
static int send_gpus(struct server *server, uint32_t seq, int *ret_status, struct error *err)
{
    static struct device_usage usage; /* 16 KiB */
    int r = 0;

    if (!server->is_open)
        *ret_status = devices_open(&server->devices, err);
    server->is_open = *ret_status == 0;
    for (size_t i = 0; *ret_status == 0 && r == 0 && i < server->devices.count; i++) {
        *ret_status = device_read(&server->devices, &server->devices.items[i], &usage, err);
        if (*ret_status == 0)
            r = send_gpu(server, seq, &server->devices.items[i], &usage);
    }
    return r;
}

static int answer(struct server *server, uint32_t seq)
{
    struct facts_end end = { .kind = FACTS_END, .seq = seq };
    struct error err = { 0 };
    int status = 0;
    const int r = send_gpus(server, seq, &status, &err);

    if (r < 0)
        return r;
    end.status = status;
    end.gpu_count = status == 0 ? (uint32_t)server->devices.count : 0;
    (void)snprintf(end.problem, sizeof(end.problem), "%.*s", (int)sizeof(end.problem) - 1,
                   err.message);
    (void)snprintf(end.driver_version, sizeof(end.driver_version), "%s",
                   server->devices.driver_version);
    if (status < 0 && server->is_open) {
        devices_close(&server->devices); /* begin anew at the next request */
        server->is_open = false;
    }
    return send_packet(server->fd, &end, sizeof(end));
}

int facts_serve(int fd)
{
    static struct server server;
    int r = 0;

    server = (struct server){ .fd = fd };
    while (r == 0) {
        struct facts_request request = { 0 };
        const ssize_t got = recv(fd, &request, sizeof(request), MSG_TRUNC);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            break;
        if (got < 0)
            r = -errno;
        else if (got != (ssize_t)sizeof(request) || request.kind != FACTS_REQUEST)
            r = -EPROTO;
        else
            r = answer(&server, request.seq);
    }
    if (server.is_open)
        devices_close(&server.devices);
    return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}
