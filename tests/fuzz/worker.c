/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a worker writes to its batch: any bytes, in any pieces. Lines come out whole and in order;
 * each is an answer with its number, or an error that shows its beginning.
 */

#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "batch/answer.h"
#include "batch/channel.h"
#include "fuzz.h"

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
    struct fuzz_input input = { bytes, byte_count };
    struct channel channel;
    int worker[2];
    const size_t piece_bytes = 1 + (size_t)fuzz_byte(&input) * 16; /* less than the pipe holds */

    channel_init(&channel);
    FUZZ_MUST(pipe2(worker, O_CLOEXEC | O_NONBLOCK) == 0);
    channel_open(&channel, worker[0], open("/dev/null", O_WRONLY | O_CLOEXEC | O_NONBLOCK));
    while (input.left > 0) {
        const size_t now_bytes = input.left < piece_bytes ? input.left : piece_bytes;
        FUZZ_MUST(write(worker[1], input.at, now_bytes) == (ssize_t)now_bytes);
        input.at += now_bytes;
        input.left -= now_bytes;
        if (channel_fill(&channel) < 0)
            break;
        take_lines(&channel);
    }
    fd_close(&worker[1]);
    while (channel_fill(&channel) > 0)
        take_lines(&channel);
    take_lines(&channel);
    channel_close(&channel);
}
