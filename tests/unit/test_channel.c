/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "batch/answer.h"
#include "batch/channel.h"
#include "check.h"

static int open_pair(struct channel *channel)
{
    int pair[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    channel_init(channel);
    channel_open(channel, pair[0], pair[0]);
    return pair[1];
}

static void put(int fd, const char *text)
{
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void test_lines_come_whole_however_they_are_cut(void)
{
    struct channel channel;
    const char *line = NULL;
    const int other = open_pair(&channel);

    put(other, "one\ntw");
    CHECK(channel_fill(&channel) == 1);
    CHECK(channel_take_line(&channel, &line) == 3 && strcmp(line, "one") == 0);
    CHECK(channel_take_line(&channel, &line) == -1);
    put(other, "o\n\n");
    CHECK(channel_fill(&channel) == 1);
    CHECK(channel_take_line(&channel, &line) == 3 && strcmp(line, "two") == 0);
    CHECK(channel_take_line(&channel, &line) == 0 && line[0] == '\0');
    CHECK(channel_fill(&channel) == 1); /* nothing there: no end either */
    (void)close(other);
    CHECK(channel_fill(&channel) == 0);
    channel_close(&channel);
    channel_close(&channel);
}

static void test_a_line_without_an_end_does_not_fill_the_memory(void)
{
    static char block[1 << 16];
    struct channel channel;
    const char *line = NULL;
    const int other = open_pair(&channel);
    size_t sent_bytes = 0;
    int r = 1;

    memset(block, 'x', sizeof(block));
    while (r > 0 && sent_bytes < (ANSWER_LINE_MAX_BYTES << 2)) {
        const ssize_t written = write(other, block, sizeof(block));
        sent_bytes += written > 0 ? (size_t)written : 0;
        r = channel_fill(&channel);
        CHECK(channel_take_line(&channel, &line) == -1);
    }
    CHECK(r == -EMSGSIZE);
    CHECK(channel.in_room_bytes <= ANSWER_LINE_MAX_BYTES + 1);
    (void)close(other);
    channel_close(&channel);
}

static void test_a_reader_that_does_not_read_is_waited_for(void)
{
    static char line[1 << 20];
    static char taken[1 << 21];
    struct channel channel;
    const int other = open_pair(&channel);
    size_t got_bytes = 0;

    memset(line, 'y', sizeof(line) - 2);
    line[sizeof(line) - 2] = '\n';
    CHECK(channel_send(&channel, line) == 0);
    CHECK(channel.out_bytes > 0); /* a socket takes less than that */
    while (channel.out_bytes > 0 || got_bytes < sizeof(line) - 1) {
        const ssize_t got = read(other, taken + got_bytes, sizeof(taken) - got_bytes);
        got_bytes += got > 0 ? (size_t)got : 0;
        CHECK(channel_flush(&channel) == 0);
    }
    CHECK(memcmp(taken, line, sizeof(line) - 1) == 0);
    (void)close(other);
    channel_close(&channel);
}

TESTS(TEST(test_lines_come_whole_however_they_are_cut),
      TEST(test_a_line_without_an_end_does_not_fill_the_memory),
      TEST(test_a_reader_that_does_not_read_is_waited_for))
