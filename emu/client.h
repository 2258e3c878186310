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
    int fd;    /* owned; -1: hung up, but the process is still there */
    int pidfd; /* owned */
    struct watch socket_watch, process_watch;
    pid_t pid;
    uid_t uid;
    uint64_t start_ticks;
    enum emu_role role; /* 0 before EMU_HELLO */
    char name[PROCESS_NAME_BYTES];
    struct extent *extents; /* owned: its leases */
    struct hold *holds;     /* owned */
    uint32_t contexts[EMU_GPU_MAX];
    uint64_t used_bytes[EMU_GPU_MAX]; /* what we have charged it with: contexts, shared memory */
    uint32_t account;                 /* where it charges itself; 0: nowhere */
    uint64_t taken_over_bytes[EMU_GPU_MAX]; /* what of that is ours to give back by now */
    struct checkpoint *checkpoint;          /* owned; of a restore thread's connection, else NULL */
    uint64_t parked_bytes[EMU_GPU_MAX];     /* given back by a checkpoint */
    uint64_t parked_own_bytes[EMU_GPU_MAX]; /* what of that it had charged itself with */
    bool is_unlisted;                       /* NVML does not tell whose its bytes are */
    bool is_waiting;                        /* for the answer to EMU_CHECKPOINT */
    bool has_lost_nvml;
    uint64_t managed_bytes[EMU_GPU_MAX];          /* what it may come to use */
    uint64_t managed_resident_bytes[EMU_GPU_MAX]; /* what of it is among the used bytes */
};

/* The status of each is what the library gets: a CUresult. */
int holding_add_context(struct server *server, struct client *client, uint32_t gpu);
int holding_remove_context(struct server *server, struct client *client, uint32_t gpu);

/* All that the client holds, whoever has charged it. */
uint64_t holding_bytes(const struct server *server, const struct client *client, uint32_t gpu);

/* All that the client held: its places are wiped later, its bytes come back now or after the lag.
 * May be called again, for what a process has charged itself with since. */
void holding_end(struct server *server, struct client *client);

/* Each process once, whatever number of connections it has. Returns how many. */
uint32_t holding_list(const struct server *server, uint32_t gpu,
                      struct emu_process list[EMU_PROCESS_MAX]);

/* managed.c: managed memory, which is on the card as far as there is room. */
int managed_set(struct server *server, struct client *client, const struct emu_request *request,
                uint64_t *ret_resident_bytes);
/* All of it goes to the host. */
void managed_leave(struct server *server, struct client *client, uint32_t gpu);
/* It gives way until so much is free. False: the card has no room. */
bool managed_make_room(struct server *server, uint32_t gpu, uint64_t bytes);
/* Charge bytes that must be there: managed memory gives way. A CUresult. */
int managed_charge(struct server *server, uint32_t gpu, uint64_t bytes);

/* account.c: who reads the books asks us first while these events of the descriptor wait for us. */
int account_watch(const struct server *server, int fd, uint32_t events);
/* An account for a client's process. */
int account_open(struct server *server, struct client *client);
/* The connection has ended: no more changes. */
void account_end(struct server *server, const struct client *client);
/* The process has: the account is the next one's. */
void account_close(struct server *server, struct client *client);
/* What the process has charged itself with and we have not taken over. */
uint64_t account_bytes(const struct server *server, const struct client *client, uint32_t gpu);
/* How often something was taken from the card. */
uint64_t account_allocations(const struct server *server, uint32_t gpu);

/* lease.c: values: offset, bytes, how many bytes may lie idle. */
int lease_open(struct server *server, struct client *client, const struct emu_request *request,
               uint64_t ret_values[3]);
int lease_close(struct server *server, struct client *client, const struct emu_request *request);
/* What the request names (offset, bytes), cut out of the client's leases: an extent in no list.
 * NULL, and *ret_status says why. */
struct extent *lease_cut(struct server *server, struct client *client,
                         const struct emu_request *request, int *ret_status);
void extent_link(struct extent **list, struct extent *extent);
void extent_unlink(struct extent **list, struct extent *extent);

/* What ended processes have left, at the server's end. */
void holding_deinit(struct server *server);

#endif
