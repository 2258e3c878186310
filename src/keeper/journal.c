/* SPDX-License-Identifier: Apache-2.0 */

#include "keeper/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/paths.h"

#define TAIL_BYTES  2048
#define TAIL_LINES  3
#define TAIL_GROWTH ((size_t)2 * TAIL_LINES)

int keeper_journal_open(const char *path, off_t *ret_start, struct error *err)
{
    OWNED(fd_close) int fd = -1;
    struct stat info = { 0 };
    char older[PATHS_BYTES];

    if (stat(path, &info) == 0 && info.st_size > KEEPER_JOURNAL_LIMIT_BYTES &&
        snprintf(older, sizeof(older), "%s.1", path) < (int)sizeof(older))
        (void)rename(path, older); /* if it fails, the log just grows on */
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || fstat(fd, &info) < 0)
        return error_set(err, -errno, "cannot write the log %s: %s", path, strerror(errno));
    *ret_start = info.st_size;
    return fd_take(&fd);
}

/* Where the last TAIL_LINES lines of the text begin. */
static size_t last_lines(const char *text, size_t length)
{
    int lines = 0;

    for (size_t at = length; at > 0; at--) {
        if (text[at - 1] == '\n' && ++lines == TAIL_LINES)
            return at;
    }
    return 0;
}

const char *keeper_journal_tail(const char *path, off_t start, char *text, size_t text_bytes)
{
    OWNED(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char raw[TAIL_BYTES];
    struct stat info = { 0 };
    size_t used = 0, at = 0;

    text[0] = '\0';
    if (fd < 0 || fstat(fd, &info) < 0 || info.st_size <= start)
        return text;
    if (info.st_size - start > (off_t)sizeof(raw))
        start = info.st_size - (off_t)sizeof(raw);
    const ssize_t got = pread(fd, raw, sizeof(raw), start);
    size_t length = got > 0 ? (size_t)got : 0;
    while (length > 0 && (raw[length - 1] == '\n' || raw[length - 1] == ' '))
        length--;
    at = last_lines(raw, length);
    /* A newline becomes three bytes; the end is what counts. */
    const size_t most = text_bytes > TAIL_GROWTH + 1 ? text_bytes - TAIL_GROWTH - 1 : 0;
    if (length - at > most)
        at = length - most;
    for (; at < length; at++) {
        const unsigned char byte = (unsigned char)raw[at];
        if (byte == '\n')
            used += (size_t)snprintf(text + used, text_bytes - used, " | ");
        else
            text[used++] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
    }
    text[used] = '\0';
    return text;
}
