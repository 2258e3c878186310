/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_LINK_H
#define EMU_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "orders.h"
#include "protocol.h"

/*
 * A library's connection to the emulator's server. Callers hold their library's lock: one request
 * is under way at a time. Nothing here prints, exits or leaves errno changed.
 *
 * After fork() the child must not speak on its parent's connection, nor be taken for it: a page
 * that the kernel wipes at fork tells the two apart without a handler.
 */

struct link {
    int fd;                    /* owned; -1 before link_open */
    volatile uint32_t *alive;  /* owned; 1 in the process that opened the link, 0 in its children */
    bool is_broken;            /* the server is gone */
    struct emu_orders *orders; /* owned; NULL: this process is exempt */
};

#define LINK_CLOSED                                                                                \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* Connect to $BRIM_EMU_SOCKET and say hello. -ENOENT without an emulator, -errno. */
int link_open(struct link *link, enum emu_role role, struct emu_reply *ret_hello);
void link_close(struct link *link);

/* Opened by a parent of this process. */
bool link_is_inherited(const struct link *link);

/* One round trip: the reply's status (a CUresult), or -errno when the server cannot be reached.
 * payload may be NULL; *ret_fd, if wanted, is the descriptor that came along or -1. */
int link_call(struct link *link, const struct emu_request *request, struct emu_reply *ret_reply);
int link_call_payload(struct link *link, const struct emu_request *request,
                      struct emu_reply *ret_reply, void *payload, size_t payload_bytes,
                      int *ret_fd);
/* Half a round trip each, for the restore thread: 0, or -errno. */
int link_send(struct link *link, const struct emu_request *request);
int link_receive(struct link *link, struct emu_reply *ret_packet);
/* A request with a descriptor, which stays the caller's. */
int link_call_fd(struct link *link, const struct emu_request *request, int fd,
                 struct emu_reply *ret_reply);

#endif
