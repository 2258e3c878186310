/* SPDX-License-Identifier: Apache-2.0 */

/* The process of a worker: its channel, its log, its environment. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "batch/output.h"
#include "batch/run.h"
#include "batch/template.h"
#include "keeper/journal.h"

#define OWN_VARIABLES 10

/* Both ends of a worker's channel: ours, and what becomes its descriptors. */
struct ends {
    int read_fd, write_fd; /* ours */
    int in_fd, out_fd;     /* its standard input and output; or in_fd is BRIM_FD */
};

static void close_ends(struct ends *ends)
{
    if (ends->write_fd == ends->read_fd)
        ends->write_fd = -1;
    fd_close(&ends->read_fd);
    fd_close(&ends->write_fd);
    fd_close(&ends->in_fd);
    fd_close(&ends->out_fd);
}

static int open_socket(struct ends *ends)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    ends->read_fd = ends->write_fd = pair[0];
    ends->in_fd = pair[1];
    return fd_set_nonblock(pair[0], 1);
}

/* Pipes and no socket: programs open /dev/stdin, which no socket allows. */
static int open_pipes(struct ends *ends)
{
    int to[2], from[2];
    int r = 0;

    if (pipe2(to, O_CLOEXEC) < 0)
        return -errno;
    ends->in_fd = to[0];
    ends->write_fd = to[1];
    if (pipe2(from, O_CLOEXEC) < 0)
        return -errno;
    ends->read_fd = from[0];
    ends->out_fd = from[1];
    r = fd_set_nonblock(ends->read_fd, 1);
    return r < 0 ? r : fd_set_nonblock(ends->write_fd, 1);
}

/* ---- environment ---- */

struct variables {
    char *own[OWN_VARIABLES]; /* owned */
    size_t own_count;
    const char **all; /* owned list of borrowed texts, ends with NULL */
    size_t all_count;
    bool is_short; /* memory ran out */
};

static void free_variables(struct variables *variables)
{
    for (size_t i = 0; i < variables->own_count; i++)
        free(variables->own[i]);
    free(variables->all);
}

static void set_own(struct variables *variables, const char *name, const char *value)
{
    char *text = NULL;

    if (asprintf(&text, "%s=%s", name, value) < 0) {
        variables->is_short = true;
        return;
    }
    variables->own[variables->own_count++] = text;
}

static void set_own_number(struct variables *variables, const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    set_own(variables, name, text);
}

static bool is_set(const struct variables *variables, const char *variable)
{
    const size_t length = strcspn(variable, "=");

    for (size_t i = 0; i < variables->all_count; i++) {
        if (strncmp(variables->all[i], variable, length + 1) == 0)
            return true;
    }
    return false;
}

/* What comes first wins: ours, then the batch's, then the caller's. */
static int merge(struct variables *variables, char *const *of_batch)
{
    size_t room = variables->own_count + 1;

    for (size_t i = 0; of_batch && of_batch[i]; i++)
        room++;
    for (size_t i = 0; environ[i]; i++)
        room++;
    variables->all = calloc(room, sizeof(*variables->all));
    if (!variables->all)
        return -ENOMEM;
    for (size_t i = 0; i < variables->own_count; i++)
        variables->all[variables->all_count++] = variables->own[i];
    for (size_t i = 0; of_batch && of_batch[i]; i++) {
        if (!is_set(variables, of_batch[i]))
            variables->all[variables->all_count++] = of_batch[i];
    }
    for (size_t i = 0; environ[i]; i++) {
        /* A channel or a lease that we inherited ourselves is none of the worker's. */
        if (strncmp(environ[i], "BRIM_FD=", 8) != 0 && strncmp(environ[i], "BRIM_LEASE", 10) != 0 &&
            !is_set(variables, environ[i]))
            variables->all[variables->all_count++] = environ[i];
    }
    return variables->is_short ? -ENOMEM : 0;
}

static int make_variables(const struct worker *worker, struct variables *variables)
{
    const struct stack_batch *spec = worker->run->spec;
    char id[OUTPUT_ID_BYTES], lease[24];

    set_own(variables, "BRIM_BATCH", spec->name);
    set_own_number(variables, "BRIM_WORKER", worker->number);
    (void)snprintf(lease, sizeof(lease), "l%" PRIu64, brim_lease_id(worker->lease));
    set_own(variables, "BRIM_LEASE", lease);
    set_own(variables, "CUDA_VISIBLE_DEVICES", brim_lease_gpu_uuid(worker->lease));
    if (spec->protocol == STACK_PROTOCOL_FD)
        set_own_number(variables, "BRIM_FD", KEEPER_EXTRA_FD);
    if (spec->heartbeat_ms > 0)
        set_own_number(variables, "WATCHDOG_USEC", spec->heartbeat_ms * 1000);
    if (spec->protocol == STACK_PROTOCOL_EACH) {
        set_own(variables, "SEGMENT", output_id(worker->segment, id));
        set_own(variables, "OUT", worker->attempt_path);
        set_own(variables, "INPUT", worker->run->input.texts[worker->segment]);
    }
    return merge(variables, spec->env);
}

/* ---- arguments ---- */

static void free_arguments(char ***arguments)
{
    for (size_t i = 0; *arguments && (*arguments)[i]; i++)
        free((*arguments)[i]);
    free(*arguments);
    *arguments = NULL;
}

/* The command with the segment's values in it. */
static char **expand_command(const struct worker *worker)
{
    char *const *command = worker->run->spec->command;
    char id[OUTPUT_ID_BYTES];
    const struct template_values values = {
        .segment = output_id(worker->segment, id),
        .input = worker->run->input.texts[worker->segment],
        .out = worker->attempt_path,
    };
    size_t count = 0;

    while (command[count])
        count++;
    OWNED(free_arguments) char **arguments = calloc(count + 1, sizeof(*arguments));
    for (size_t i = 0; arguments && i < count; i++) {
        arguments[i] = template_expand(command[i], &values);
        if (!arguments[i])
            return NULL;
    }
    return TAKE(arguments);
}

/* ---- the process ---- */

static int start(struct worker *worker, struct ends *ends, struct error *err)
{
    const struct stack_batch *spec = worker->run->spec;
    const bool is_each = spec->protocol == STACK_PROTOCOL_EACH;
    const bool is_stdio = spec->protocol == STACK_PROTOCOL_STDIO;
    OWNED(free_variables) struct variables variables = { 0 };
    OWNED(free_arguments) char **expanded = NULL;
    OWNED(fd_close) int log_fd = -1;

    if (is_each && !(expanded = expand_command(worker)))
        return error_set(err, -ENOMEM, "out of memory");
    if (make_variables(worker, &variables) < 0)
        return error_set(err, -ENOMEM, "out of memory");
    log_fd = keeper_journal_open(worker->log_path, &worker->log_start, err);
    if (log_fd < 0)
        return log_fd;
    const struct keeper_command command = {
        .argv = is_each ? expanded : spec->command,
        .env = (char *const *)(uintptr_t)variables.all,
        .dir = spec->dir,
        .stdin_fd = is_stdio ? ends->in_fd : -1,
        .stdout_fd = is_stdio ? ends->out_fd : log_fd,
        .stderr_fd = log_fd,
        .extra_fd = spec->protocol == STACK_PROTOCOL_FD ? ends->in_fd : -1,
    };
    return keeper_spawn(&command, &worker->child, err);
}

static void forget_last_process(struct worker *worker)
{
    worker->can_flush = false;
    worker->has_heartbeat = false;
    worker->has_asked = false;
    worker->wants_flush = false;
    worker->is_restarting = false;
    worker->is_lost = false;
    worker->fault[0] = '\0';
    worker->done_count = 0;
    worker->done_since_flush = 0;
    worker->grown_count = 0;
    worker->wait = WORKER_WAIT_NONE;
    worker->stop_deadline_ms = CLOCK_NEVER_MS;
}

static void on_failed_start(struct worker *worker, int code, const struct error *err)
{
    struct run *run = worker->run;

    worker_end_burst(worker);
    /* Only an argument list that is too long comes from the segment; anything else would meet the
     * next one as well. */
    if (worker->has_segment && code == -E2BIG) {
        work_failed(run, worker, err->message);
        worker->wait = WORKER_WAIT_NONE;
        return;
    }
    if (worker->has_segment)
        work_give_back(run, worker);
    worker_release(worker);
    run_fail(run, code, err);
}

void worker_spawn(struct worker *worker)
{
    struct run *run = worker->run;
    const struct stack_batch *spec = run->spec;
    OWNED(close_ends) struct ends ends = { -1, -1, -1, -1 };
    struct error err = { 0 };
    int r = 0;

    forget_last_process(worker);
    if (spec->protocol == STACK_PROTOCOL_FD)
        r = open_socket(&ends);
    else if (spec->protocol == STACK_PROTOCOL_STDIO)
        r = open_pipes(&ends);
    if (r < 0)
        (void)error_set(&err, r, "cannot make a worker's channel: %s", strerror(-r));
    else
        r = start(worker, &ends, &err);
    if (r < 0) {
        on_failed_start(worker, r, &err);
        return;
    }
    if (ends.read_fd >= 0) {
        channel_open(&worker->channel, ends.read_fd, ends.write_fd);
        ends.read_fd = ends.write_fd = -1;
    }
    CRASH_POINT(batch_spawned);
    worker->state = WORKER_RUNNING;
    worker->spawned_ms = worker->heard_ms = clock_now_ms();
    if (spec->protocol == STACK_PROTOCOL_EACH && spec->timeout_ms > 0)
        worker->segment_deadline_ms = clock_after_ms(worker->spawned_ms, spec->timeout_ms);
    /* If the daemon is away it hears of the process when it is back. */
    (void)brim_lease_bind(worker->lease, (uint64_t)worker->child.pid);
}
