/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The counters, as one JSON object: what the cards hand out and refuse, as the driver counts it.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "checkpoint.h"
#include "client.h"

#define STATS_MAX_BYTES 16384

char *stats_text(const struct server *server, size_t *ret_bytes)
{
    char *text = NULL;
    FILE *const out = open_memstream(&text, ret_bytes);

    if (!out)
        return NULL;
    fprintf(out, "{\"gpus\": [");
    for (uint32_t i = 0; i < server->card_count; i++) {
        const struct card *const card = &server->cards[i];
        uint64_t managed = 0, resident = 0;
        for (const struct client *it = server->clients; it; it = it->next) {
            managed += it->managed_bytes[i];
            resident += it->managed_resident_bytes[i];
        }
        fprintf(out,
                "%s{\"uuid\": \"%s\", \"capacity_bytes\": %" PRIu64 ", \"used_bytes\": %" PRIu64
                ", \"peak_bytes\": %" PRIu64 ", \"oom_count\": %" PRIu64
                ", \"async_faults\": %" PRIu64 ", \"allocations\": %" PRIu64
                ", \"managed_bytes\": %" PRIu64 ", \"managed_resident_bytes\": %" PRIu64 "}",
                i > 0 ? ", " : "", card->uuid, card->info.capacity_bytes, card_used(card),
                books_peak_bytes(server->books, i), atomic_load(&server->books->cards[i].oom_count),
                card->async_faults, account_allocations(server, i), managed, resident);
    }
    fprintf(out,
            "], \"injected_faults\": %" PRIu64 ", \"checkpoint_faults\": %" PRIu64
            ", \"image_bytes\": %" PRIu64 "}\n",
            server->orders ? atomic_load(&server->orders->injected_count) : 0,
            server->checkpoint_faults, checkpoint_image_bytes(server));
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

int stats_write_file(const struct server *server, struct error *err)
{
    const char *const path = server->options.stats_file;
    OWNED(freep) char *text = NULL;
    OWNED(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t bytes = 0;

    if (fd < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    text = stats_text(server, &bytes);
    const int r = text ? fd_write_all(fd, text, bytes) : -ENOMEM;
    return r < 0 ? error_set(err, r, "%s: %s", path, strerror(-r)) : 0;
}

/* Says hello, then the request; the reply is in packet. Its bytes, or -errno. */
static int ask(const char *path, const struct emu_request *request, char *packet,
               size_t packet_bytes)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const struct emu_request hello = { .op = EMU_HELLO, .args = { EMU_VERSION, EMU_ROLE_NVML } };
    OWNED(fd_close) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ssize_t got = 0;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        const struct emu_request *const now = i == 0 ? &hello : request;
        const size_t bytes = now->op == EMU_CONTROL ? sizeof(*now) : EMU_REQUEST_BYTES;
        if (send(fd, now, bytes, MSG_NOSIGNAL) < 0)
            return -errno;
        got = recv(fd, packet, packet_bytes, 0);
        if (got < (ssize_t)sizeof(struct emu_reply))
            return got < 0 ? -errno : -EPROTO;
    }
    return (int)got;
}

/* The socket's path; NULL, and told, outside of an emulator. */
static const char *find_emulator(const char *option)
{
    const char *const path = secure_getenv("BRIM_EMU_SOCKET");

    if (!path)
        fprintf(stderr,
                "brim emulate: %s works inside `brim emulate` only (BRIM_EMU_SOCKET is not set)\n",
                option);
    return path;
}

int stats_ask(void)
{
    const struct emu_request request = { .op = EMU_STATS };
    const char *const path = find_emulator("--stats");
    char packet[STATS_MAX_BYTES];

    if (!path)
        return 2;
    const int got = ask(path, &request, packet, sizeof(packet));
    if (got < 0) {
        fprintf(stderr, "brim emulate: %s: %s\n", path, strerror(-got));
        return 1;
    }
    const size_t head = sizeof(struct emu_reply);
    (void)fwrite(packet + head, 1, (size_t)got - head, stdout);
    return 0;
}

int stats_order(const char *order)
{
    struct emu_request request = { .op = EMU_CONTROL };
    const char *const path = find_emulator("--control");
    char packet[STATS_MAX_BYTES];
    struct emu_reply reply = { 0 };

    if (!path)
        return 2;
    (void)snprintf(request.text, sizeof(request.text), "%s", order);
    const int got = ask(path, &request, packet, sizeof(packet));
    if (got < 0) {
        fprintf(stderr, "brim emulate: %s: %s\n", path, strerror(-got));
        return 1;
    }
    memcpy(&reply, packet, sizeof(reply));
    if (reply.status == 0)
        return 0;
    fprintf(stderr, "brim emulate: %s: %.*s\n", order, got - (int)sizeof(reply),
            packet + sizeof(reply));
    return 2;
}
