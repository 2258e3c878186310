/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/paths.h"
#include "batch/template.h"

#define ATTEMPTS_KEPT_MAX 64 /* older ones were removed when they were given up */
#define FULL_BYTES        (64 << 10)

const char *output_id(uint64_t index, char id[OUTPUT_ID_BYTES])
{
    (void)snprintf(id, OUTPUT_ID_BYTES, "%06" PRIu64, index);
    return id;
}

char *output_path(const char *pattern, uint64_t index)
{
    char id[OUTPUT_ID_BYTES];
    const struct template_values values = { .segment = output_id(index, id) };

    return template_expand(pattern, &values);
}

/* The name's suffix with its dot ("" where there is none), where a suffix may begin. */
static const char *suffix_of(const char *path)
{
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    const char *dot = strrchr(name, '.');

    return dot && dot != name ? dot : path + strlen(path);
}

static char *path_with(const char *path, const char *before_name, const char *mark, uint64_t number)
{
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    const char *suffix = suffix_of(path);
    char *result = NULL;

    if (asprintf(&result, "%.*s%s%.*s.%s-%" PRIu64 "%s", (int)(name - path), path, before_name,
                 (int)(suffix - name), name, mark, number, suffix) < 0)
        return NULL;
    return result;
}

char *output_attempt_path(const char *path, uint32_t attempt)
{
    return path_with(path, ".", "attempt", attempt);
}

char *output_old_path(const char *path, uint64_t generation)
{
    return path_with(path, "", "old", generation);
}

static int make_parents(char *path, struct error *err)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0777) < 0 && errno != EEXIST) /* the user's data: the umask decides */
            return error_set(err, -errno, "cannot make the output directory %s: %s", path,
                             strerror(errno));
        *slash = '/';
    }
    return 0;
}

int output_share_dir(const char *path, const char *other)
{
    const char *slash = strrchr(path, '/'), *other_slash = strrchr(other, '/');

    return slash - path == other_slash - other && memcmp(path, other, (size_t)(slash - path)) == 0;
}

/* The directory of a path, fresh; NULL when memory is out. */
static char *dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return strndup(path, slash > path ? (size_t)(slash - path) : 1);
}

int output_sync_dir_name(const char *path, struct error *err)
{
    OWNED(freep) char *dir = dir_of(path);
    const int r = dir ? paths_sync_parents(dir) : -ENOMEM;

    return r < 0 ? error_set(err, r, "cannot make %s durable: %s", dir ? dir : path, strerror(-r))
                 : 0;
}

int output_make_dir(const char *path, struct error *err)
{
    OWNED(freep) char *dir = dir_of(path);
    OWNED(freep) char *copy = strdup(path);
    struct stat info = { 0 };
    int r = 0;

    if (!dir || !copy)
        return error_set(err, -ENOMEM, "out of memory");
    if (stat(dir, &info) < 0) {
        r = make_parents(copy, err);
        if (r == 0)
            r = output_sync_dir_name(path, err);
    } else if (!S_ISDIR(info.st_mode)) {
        r = error_set(err, -ENOTDIR, "the output directory %s is a file; move it away", dir);
    }
    if (r == 0 && access(dir, W_OK | X_OK) < 0)
        r = error_set(err, -errno, "cannot write to the output directory %s: %s", dir,
                      strerror(errno));
    return r;
}

int output_sync_dir(const char *path)
{
    OWNED(freep) char *dir = dir_of(path);

    return dir ? fd_sync_dir(dir) : -ENOMEM;
}

int output_commit(const char *attempt_path, const char *path, uint64_t *ret_bytes,
                  unsigned char ret_hash[DIGEST_BYTES], struct error *err)
{
    OWNED(fd_close) int fd = -1;
    unsigned char hash[DIGEST_BYTES];
    struct stat info = { 0 };
    uint64_t bytes = 0;
    int r = 0;

    /* O_NONBLOCK: a worker that made a pipe of it must not hold us. */
    fd = open(attempt_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return error_set(err, -ENOENT, "it said done, but there is no output at %s", attempt_path);
    if (fd < 0 && errno == EACCES)
        return error_set(err, -EINVAL, "it made the output %s unreadable", attempt_path);
    /* A link, or a socket. */
    const bool cannot_be_file = fd < 0 && (errno == ELOOP || errno == ENXIO);
    if (!cannot_be_file && (fd < 0 || fstat(fd, &info) < 0))
        return error_set(err, -errno, "cannot read the output %s: %s", attempt_path,
                         strerror(errno));
    if (!S_ISREG(info.st_mode))
        return error_set(err, -EINVAL, "the output %s is no regular file", attempt_path);
    r = digest_file(fd, hash, &bytes);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (r < 0)
        return error_set(err, r, "cannot make %s durable: %s", attempt_path, strerror(-r));
    CRASH_POINT(batch_output_synced);
    if (rename(attempt_path, path) < 0)
        return error_set(err, -errno, "cannot put the output at %s: %s", path, strerror(errno));
    CRASH_POINT(batch_renamed);
    r = output_sync_dir(path);
    if (r < 0)
        return error_set(err, r, "cannot make %s durable: %s", path, strerror(-r));
    CRASH_POINT(batch_dir_synced);
    memcpy(ret_hash, hash, sizeof(hash));
    *ret_bytes = bytes;
    return 0;
}

void output_remove_attempts(const char *path, uint32_t last)
{
    const uint32_t first = last > ATTEMPTS_KEPT_MAX ? last - ATTEMPTS_KEPT_MAX : 1;

    for (uint32_t attempt = first; attempt <= last; attempt++) {
        OWNED(freep) char *attempt_path = output_attempt_path(path, attempt);
        if (attempt_path)
            (void)unlink(attempt_path);
    }
}

int output_is_there(const char *path, uint64_t bytes)
{
    struct stat info = { 0 };

    return lstat(path, &info) == 0 && S_ISREG(info.st_mode) && (uint64_t)info.st_size == bytes;
}

int output_is_full(const char *path)
{
    OWNED(freep) char *dir = dir_of(path);
    struct statvfs info = { 0 };

    if (!dir || statvfs(dir, &info) < 0 || info.f_blocks == 0) /* 0: it does not tell */
        return 0;
    return (uint64_t)info.f_bavail * info.f_frsize < FULL_BYTES ||
           (info.f_files > 0 && info.f_favail == 0);
}
