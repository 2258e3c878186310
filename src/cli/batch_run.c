/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "batch/batch.h"
#include "cli/api_client.h"
#include "cli/batch.h"
#include "cli/batch_flags.h"
#include "cli/command.h"

/*
 * brim batch run: this process becomes the batch's keeper, in the foreground or, with -d, detached
 * in a session of its own. The status: 0 all done, 1 failed or some segments set aside, 2 usage or
 * configuration, 3 a worker can never fit, 128 + signal when it was interrupted.
 */

#define STATUS_OF_SIGNAL 128

static void deinit_flags(struct batch_flags *flags)
{
    stack_batch_deinit(&flags->spec);
}

static int complain(const struct error *err, int status)
{
    fprintf(stderr, "brim batch run: %s\n", err->message);
    return status;
}

static int status_of(int r, const struct batch_result *result)
{
    if (r < 0)
        return COMMAND_FAILED;
    switch (result->end) {
    case BATCH_END_DONE:
        return COMMAND_OK;
    case BATCH_END_NEVER_FITS:
        return COMMAND_NO_FIT;
    case BATCH_END_INTERRUPTED:
        return result->signal_number ? STATUS_OF_SIGNAL + result->signal_number : COMMAND_FAILED;
    case BATCH_END_INCOMPLETE:
    default:
        return COMMAND_FAILED;
    }
}

/* From what the daemon tells of all leases. */
static int measure(uint64_t lease_id, uint64_t *ret_bytes)
{
    json_t *status = NULL, *lease = NULL;
    char id[24];
    size_t i = 0;
    int r = api_get("/v1/status", &status, NULL);

    if (r < 0)
        return r;
    (void)snprintf(id, sizeof(id), "l%" PRIu64, lease_id);
    r = -ENOENT;
    json_array_foreach(json_object_get(status, "leases"), i, lease)
    {
        const char *lease_text = json_string_value(json_object_get(lease, "id"));
        if (lease_text && strcmp(lease_text, id) == 0) {
            *ret_bytes = (uint64_t)json_integer_value(json_object_get(lease, "measured_bytes"));
            r = 0;
        }
    }
    json_decref(status);
    return r;
}

/* ---- detached ---- */

/* The end of the pipe to the starter: one NUL byte says "under way", a text says why not. */
static int run_detached(const struct batch_flags *flags, const char *dir, int ready_fd)
{
    const struct batch_options options = {
        .dir = dir,
        .summary_path = flags->summary,
        .starts_over = flags->starts_over,
        .is_detached = true,
        .ready_fd = ready_fd,
        .measure = measure,
    };
    struct batch_result result = { 0 };
    struct error err = { 0 };
    OWNED(fd_close) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)setsid();
    for (int fd = 0; fd <= 2; fd++)
        (void)dup2(null_fd, fd);
    const int r = batch_run(&flags->spec, &options, &result, &err);
    if (r < 0 && !result.is_told)
        (void)fd_write_all(ready_fd, err.message, strlen(err.message));
    return status_of(r, &result);
}

static int wait_until_ready(int fd, pid_t pid, const char *name)
{
    struct error err = { 0 };
    size_t used = 0;

    while (used < sizeof(err.message) - 1) {
        const ssize_t got = read(fd, err.message + used, sizeof(err.message) - 1 - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        if (used == 0 && err.message[0] == '\0') {
            printf("%s runs in the background (process %d); brim logs %s -f shows it\n", name,
                   (int)pid, name);
            return COMMAND_OK;
        }
        used += (size_t)got;
    }
    if (used == 0)
        (void)snprintf(err.message, sizeof(err.message), "the batch ended before it began");
    return complain(&err, COMMAND_FAILED);
}

static int detach(const struct batch_flags *flags, const char *dir)
{
    OWNED(fd_close) int read_fd = -1;
    OWNED(fd_close) int write_fd = -1;
    struct error err = { 0 };
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0) {
        (void)error_set(&err, -errno, "cannot make a pipe: %s", strerror(errno));
        return complain(&err, COMMAND_FAILED);
    }
    read_fd = ends[0];
    write_fd = ends[1];
    const pid_t pid = fork();
    if (pid < 0) {
        (void)error_set(&err, -errno, "cannot start a process: %s", strerror(errno));
        return complain(&err, COMMAND_FAILED);
    }
    if (pid == 0)
        return run_detached(flags, dir, write_fd);
    fd_close(&write_fd);
    return wait_until_ready(read_fd, pid, flags->spec.name);
}

/* ---- in the foreground ---- */

static int run_here(const struct batch_flags *flags, const char *dir)
{
    const struct batch_options options = {
        .dir = dir,
        .summary_path = flags->summary,
        .starts_over = flags->starts_over,
        .ready_fd = -1,
        .measure = measure,
    };
    struct batch_result result = { 0 };
    struct error err = { 0 };
    const int r = batch_run(&flags->spec, &options, &result, &err);

    if (r < 0 && !result.is_told)
        return complain(&err, COMMAND_FAILED);
    return status_of(r, &result);
}

int batch_run_command(int argc, char **argv)
{
    OWNED(deinit_flags) struct batch_flags flags;
    struct error err = { 0 };
    char dir[PATHS_BYTES];
    const int status = batch_flags_read(&flags, argc, argv);

    if (status >= 0)
        return status;
    if (stack_batch_check(&flags.spec, &err) < 0 || batch_check_command(&flags.spec, &err) < 0)
        return complain(&err, COMMAND_USAGE);
    if (batch_dir(flags.spec.name, dir, &err) < 0)
        return complain(&err, COMMAND_FAILED);
    return flags.is_detached ? detach(&flags, dir) : run_here(&flags, dir);
}
