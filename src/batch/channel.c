/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "batch/answer.h"

#define FIRST_ROOM_BYTES 4096
/* Room for the longest line and its newline: a full buffer without one is too long a line. */
#define ROOM_MAX_BYTES (ANSWER_LINE_MAX_BYTES + 1)

void channel_init(struct channel *channel)
{
    *channel = (struct channel){ .read_fd = -1, .write_fd = -1 };
}

void channel_open(struct channel *channel, int take_read_fd, int take_write_fd)
{
    channel_close(channel);
    channel->read_fd = take_read_fd;
    channel->write_fd = take_write_fd;
}

void channel_close(struct channel *channel)
{
    if (channel->write_fd == channel->read_fd)
        channel->write_fd = -1;
    fd_close(&channel->read_fd);
    fd_close(&channel->write_fd);
    free(channel->in);
    free(channel->out);
    free(channel->line);
    channel_init(channel);
}

bool channel_is_open(const struct channel *channel)
{
    return channel->read_fd >= 0;
}

int channel_flush(struct channel *channel)
{
    size_t done_bytes = 0;
    int r = 0;

    while (done_bytes < channel->out_bytes) {
        const ssize_t written =
            write(channel->write_fd, channel->out + done_bytes, channel->out_bytes - done_bytes);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            r = errno == EAGAIN ? 0 : -errno;
            break;
        }
        done_bytes += (size_t)written;
    }
    channel->out_bytes -= done_bytes;
    if (channel->out_bytes > 0)
        memmove(channel->out, channel->out + done_bytes, channel->out_bytes);
    return r;
}

int channel_send(struct channel *channel, const char *line)
{
    const size_t line_bytes = strlen(line);

    if (!channel_is_open(channel))
        return -EPIPE;
    char *grown = realloc(channel->out, channel->out_bytes + line_bytes);
    if (!grown)
        return -ENOMEM;
    channel->out = grown;
    memcpy(channel->out + channel->out_bytes, line, line_bytes);
    channel->out_bytes += line_bytes;
    return channel_flush(channel);
}

static int make_room(struct channel *channel)
{
    size_t room_bytes = channel->in_room_bytes ? channel->in_room_bytes * 2 : FIRST_ROOM_BYTES;

    if (channel->in_bytes < channel->in_room_bytes)
        return 0;
    if (channel->in_room_bytes == ROOM_MAX_BYTES)
        return -EMSGSIZE;
    if (room_bytes > ROOM_MAX_BYTES)
        room_bytes = ROOM_MAX_BYTES;
    char *grown = realloc(channel->in, room_bytes);
    if (!grown)
        return -ENOMEM;
    channel->in = grown;
    channel->in_room_bytes = room_bytes;
    return 0;
}

/* One read a call: poll() tells of the rest, and a worker that never stops writing cannot keep the
 * others waiting. */
int channel_fill(struct channel *channel)
{
    const int r = make_room(channel);

    if (r < 0)
        return r;
    const ssize_t got = read(channel->read_fd, channel->in + channel->in_bytes,
                             channel->in_room_bytes - channel->in_bytes);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN ? 1 : -errno;
    channel->in_bytes += (size_t)got;
    return got > 0;
}

long channel_take_line(struct channel *channel, const char **ret_line)
{
    if (channel->in_bytes == 0)
        return -1;
    char *newline = memchr(channel->in + channel->scanned_bytes, '\n',
                           channel->in_bytes - channel->scanned_bytes);
    if (!newline) {
        channel->scanned_bytes = channel->in_bytes;
        return -1;
    }
    const size_t line_bytes = (size_t)(newline - channel->in);
    char *line = malloc(line_bytes + 1);
    if (!line)
        return -ENOMEM;
    memcpy(line, channel->in, line_bytes);
    line[line_bytes] = '\0';
    free(channel->line);
    channel->line = line;
    channel->in_bytes -= line_bytes + 1;
    memmove(channel->in, newline + 1, channel->in_bytes);
    channel->scanned_bytes = 0;
    *ret_line = line;
    return (long)line_bytes;
}
