/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_CHANNEL_H
#define BATCH_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Channel: lines to and from a worker, over one socket or two pipes, without ever blocking. What
 * the other side does not read yet waits in memory: one segment at a time, so it is little. A line
 * longer than the protocol's limit ends the channel before it fills our memory.
 */

struct channel {
    int read_fd;  /* owned; -1: closed */
    int write_fd; /* owned; may be the same number as read_fd */
    char *in;     /* owned: what has come and is not a whole line yet */
    size_t in_bytes, in_room_bytes;
    size_t scanned_bytes; /* of in: known to hold no newline */
    char *line;           /* owned: the line that was taken last */
    char *out;            /* owned: what the other side has not taken */
    size_t out_bytes;
};

void channel_init(struct channel *channel);
/* Take over two non-blocking descriptors (equal ones for a socket). */
void channel_open(struct channel *channel, int take_read_fd, int take_write_fd);
void channel_close(struct channel *channel);
bool channel_is_open(const struct channel *channel);

/* Queue a line (with its newline) and write what can be written. 0 or -errno. */
int channel_send(struct channel *channel, const char *line) __attribute__((warn_unused_result));
/* Write more of what is queued. */
int channel_flush(struct channel *channel) __attribute__((warn_unused_result));

/* Read what is there: 1 while more may come, 0 at the other side's end, -EMSGSIZE for a line that
 * is too long, other -errno. Whole lines then come from channel_take_line. */
int channel_fill(struct channel *channel) __attribute__((warn_unused_result));
/* The next whole line, without its newline and NUL-terminated: its length, -1 where there is none,
 * -ENOMEM where it cannot be taken. Lasts until the next call of a channel_ function. */
long channel_take_line(struct channel *channel, const char **ret_line);

#endif
