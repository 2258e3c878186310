/* SPDX-License-Identifier: Apache-2.0 */
#include "diary.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define LINE_BYTES (4096 + 256)

int diary_open(struct diary *diary, const char *path)
{
    diary->fd = -1;
    if (!path)
        return 0;
    diary->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return diary->fd < 0 ? -errno : 0;
}

void diary_close(struct diary *diary)
{
    fd_close(&diary->fd);
}

static int append(struct diary *diary, const char *what, uint64_t number,
                  const struct voice_result *result, const char *out)
{
    if (diary->fd < 0)
        return 0;
    char line[LINE_BYTES];
    int length = snprintf(line, sizeof(line), "%s\t%" PRIu64 "\t%d\t%" PRIu64 "\t%s\t%s\n", what,
                          number, (int)getpid(), result ? result->pcm_bytes : 0,
                          result ? result->pcm_sha256 : "-", out);
    if (length < 0 || length >= (int)sizeof(line))
        return -ENAMETOOLONG;
    ssize_t written = write(diary->fd, line, (size_t)length);
    if (written < 0)
        return -errno;
    return written == length ? 0 : -ENOSPC;
}

int diary_begin(struct diary *diary, uint64_t segment, const char *out)
{
    return append(diary, "begin", segment, NULL, out);
}

int diary_done(struct diary *diary, uint64_t segment, const struct voice_result *result,
               const char *out)
{
    return append(diary, "done", segment, result, out);
}

int diary_flush(struct diary *diary, uint64_t done_count)
{
    return append(diary, "flush", done_count, NULL, "-");
}
