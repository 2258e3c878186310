/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a worker writes to its batch: any bytes, in any pieces. Lines come out whole and in order;
 * each is an answer with its number, or an error that shows its beginning. The pipe is played by
 * read() here, which a kernel's would make ten times slower.
 */

#include <unistd.h>

#include "batch/answer.h"
#include "batch/channel.h"
#include "fuzz.h"

#define WORKER_FD 1000 /* nobody's: descriptors of an input are these two */
#define BATCH_FD  1001

static struct fuzz_input input;
static size_t piece_bytes;

/* The linker's names (--wrap). */
/* NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming) */
ssize_t __wrap_read(int fd, void *to, size_t to_bytes);
int __wrap_close(int fd);
/* NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming) */

ssize_t __wrap_read(int fd, void *to, size_t to_bytes)
{
    const size_t now_bytes = to_bytes < piece_bytes ? to_bytes : piece_bytes;

    FUZZ_MUST(fd == WORKER_FD && to_bytes > 0);
    return (ssize_t)fuzz_some(&input, to, now_bytes);
}

int __wrap_close(int fd)
{
    FUZZ_MUST(fd == WORKER_FD || fd == BATCH_FD);
    return 0;
}

static void take_lines(struct channel *channel)
{
    const char *line = NULL;
    long length = 0;

    while ((length = channel_take_line(channel, &line)) >= 0) {
        struct answer answer;
        struct error err = { 0 };
        FUZZ_MUST((size_t)length <= ANSWER_LINE_MAX_BYTES && line[length] == '\0');
        FUZZ_MUST(!memchr(line, '\n', (size_t)length));
        if (answer_parse(line, (size_t)length, &answer, &err) < 0)
            FUZZ_MUST(err.message[0] != '\0');
        else
            FUZZ_MUST(memchr(answer.reason, '\0', sizeof(answer.reason)));
    }
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    struct channel channel;

    input = (struct fuzz_input){ bytes, byte_count };
    piece_bytes = 1 + (size_t)fuzz_byte(&input) * 16;
    channel_init(&channel);
    channel_open(&channel, WORKER_FD, BATCH_FD);
    while (channel_fill(&channel) > 0)
        take_lines(&channel);
    take_lines(&channel);
    channel_close(&channel);
}
