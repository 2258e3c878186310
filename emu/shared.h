/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_SHARED_H
#define EMU_SHARED_H

#include "client.h"

/*
 * Memory that several processes may refer to: it lives while anybody does, and is known by its
 * place in the card's memfd. It begins as a part of a process's leases, which that process wants to
 * show to others: by an exported descriptor, or by a serial (cuIpcGetMemHandle).
 *
 *   a hold     one process's handles and mappings, however many; an import is one more
 *   an export  a pipe: the program has the write end, as the descriptor that cuMemExport… gave it,
 *              and passes it on as it likes; the server has the read end. When the last copy of the
 *              write end is closed, wherever it was, the kernel tells the server.
 *
 * The bytes count for the process that has held the memory longest; without any hold, for the card
 * alone.
 */

struct hold {
    struct hold *next;                                /* of the memory, oldest first */
    struct hold *previous_of_client, *next_of_client; /* borrowed */
    struct client *client;                            /* borrowed */
    struct memory *memory;                            /* borrowed */
    uint32_t count;
};

struct export
{
    struct export *next;   /* of the server */
    struct memory *memory; /* borrowed */
    struct watch watch;
    int fd;          /* owned: the read end */
    uint64_t device; /* of the pipe, by which an import finds it */
    uint64_t inode;
};

struct memory {
    struct extent *extent; /* owned */
    struct hold *holds;    /* owned */
    uint32_t export_count;
    uint64_t serial; /* by which other processes open it; 0: it was not shared so */
};

/* Each returns a CUresult for the library. */
/* One reference of the client's less; *ret_holders: how many processes have one still. */
int shared_drop(struct server *server, struct client *client, const struct emu_request *request,
                uint64_t *ret_holders);
/* *ret_fd is the caller's to close once it is sent. */
int shared_export(struct server *server, struct client *client, const struct emu_request *request,
                  int *ret_fd);
/* fd is borrowed. values: offset, bytes, gpu. */
int shared_import(struct server *server, struct client *client, int fd, uint64_t ret_values[3]);

/* The client's own becomes memory that it holds: what it has charged itself with is ours to give
 * back from then on. */
int shared_adopt(struct server *server, struct client *client, const struct emu_request *request);
/* Memory gets a serial, by which another process refers to it. */
int shared_share(struct server *server, struct client *client, const struct emu_request *request,
                 uint64_t *ret_serial);
int shared_open(struct server *server, struct client *client, const struct emu_request *request,
                uint64_t *ret_bytes);

/* The client ends. What only it held stays in its used_bytes, for holding_end() to give back. */
void shared_end(struct server *server, struct client *client);
/* The server ends. */
void shared_deinit(struct server *server);

#endif
