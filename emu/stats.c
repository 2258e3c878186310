/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The counters, as one JSON object: what the cards hand out and refuse, as the driver counts it.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "server.h"

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
        fprintf(out,
                "%s{\"uuid\": \"%s\", \"capacity_bytes\": %" PRIu64 ", \"used_bytes\": %" PRIu64
                ", \"peak_bytes\": %" PRIu64 ", \"oom_count\": %" PRIu64
                ", \"async_faults\": %" PRIu64 ", \"allocations\": %" PRIu64 "}",
                i > 0 ? ", " : "", card->uuid, card->info.capacity_bytes, card->used_bytes,
                card->peak_bytes, card->oom_count, card->async_faults, card->allocations);
    }
    fprintf(out, "]}\n");
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

static int ask(const char *path, char *packet, size_t packet_bytes)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const struct emu_request requests[2] = {
        { .op = EMU_HELLO, .args = { EMU_VERSION, EMU_ROLE_NVML } },
        { .op = EMU_STATS },
    };
    OWNED(fd_close) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ssize_t got = 0;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        if (send(fd, &requests[i], EMU_REQUEST_BYTES, MSG_NOSIGNAL) < 0)
            return -errno;
        got = recv(fd, packet, packet_bytes, 0);
        if (got < (ssize_t)sizeof(struct emu_reply))
            return got < 0 ? -errno : -EPROTO;
    }
    return (int)got;
}

int stats_ask(void)
{
    const char *const path = secure_getenv("BRIM_EMU_SOCKET");
    char packet[STATS_MAX_BYTES];

    if (!path) {
        fprintf(stderr, "brim emulate: --stats works inside `brim emulate` only "
                        "(BRIM_EMU_SOCKET is not set)\n");
        return 2;
    }
    const int got = ask(path, packet, sizeof(packet));
    if (got < 0) {
        fprintf(stderr, "brim emulate: %s: %s\n", path, strerror(-got));
        return 1;
    }
    const size_t head = sizeof(struct emu_reply);
    (void)fwrite(packet + head, 1, (size_t)got - head, stdout);
    return 0;
}
