/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_CLIENT_H
#define EMU_CLIENT_H

#include "base/process.h"
#include "server.h"

/*
 * A connection of an emulated library, and what its process holds. client.c speaks with it,
 * holding.c keeps the books.
 */

struct client {
    struct client *previous, *next;
    int fd;    /* owned */
    int pidfd; /* owned */
    struct watch socket_watch, process_watch;
    pid_t pid;
    uid_t uid;
    uint64_t start_ticks;
    enum emu_role role; /* 0 before EMU_HELLO */
    char name[PROCESS_NAME_BYTES];
    struct extent *extents; /* owned */
    struct hold *holds;     /* owned */
    uint32_t contexts[EMU_GPU_MAX];
    uint64_t used_bytes[EMU_GPU_MAX];
    struct checkpoint *checkpoint;      /* owned; of a restore thread's connection, else NULL */
    uint64_t parked_bytes[EMU_GPU_MAX]; /* given back by a checkpoint */
    bool is_unlisted;                   /* NVML does not tell whose its bytes are */
    bool is_waiting;                    /* for the answer to EMU_CHECKPOINT */
    bool has_lost_nvml;
    uint64_t managed_bytes[EMU_GPU_MAX];          /* what it may come to use */
    uint64_t managed_resident_bytes[EMU_GPU_MAX]; /* what of it is among the used bytes */
};

/* The status of each is what the library gets: a CUresult. */
int holding_add_context(struct server *server, struct client *client, uint32_t gpu);
int holding_remove_context(struct server *server, struct client *client, uint32_t gpu);
int holding_alloc(struct server *server, struct client *client, const struct emu_request *request,
                  uint64_t *ret_offset);
int holding_free(struct server *server, struct client *client, const struct emu_request *request);

/* The extent is no longer the client's own, nor charged to it. */
void holding_detach(struct client *client, struct extent *extent);
/* The opposite. */
void holding_attach(struct client *client, struct extent *extent);

/* All that the client held: its places are wiped later, its bytes come back now or after the lag.
 */
void holding_end(struct server *server, struct client *client);

/* Each process once, whatever number of connections it has. Returns how many. */
uint32_t holding_list(const struct server *server, uint32_t gpu,
                      struct emu_process list[EMU_PROCESS_MAX]);

/* managed.c: managed memory, which is on the card as far as there is room. */
int managed_set(struct server *server, struct client *client, const struct emu_request *request,
                uint64_t *ret_resident_bytes);
/* All of it goes to the host. */
void managed_leave(struct server *server, struct client *client, uint32_t gpu);
/* Charge bytes that must be there: managed memory gives way. A CUresult. */
int managed_charge(struct server *server, uint32_t gpu, uint64_t bytes);

/* What ended processes have left, at the server's end. */
void holding_deinit(struct server *server);

#endif
