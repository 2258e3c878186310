/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/facts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/paths.h"
#include "base/process.h"
#include "base/size.h"

#define PATIENCE_MS   5000
#define ANSWER_BYTES  (1u << 20)
#define RESERVE_BYTES (800 * MIB) /* what a daemon would keep free by default */

static int start_helper(int output_fd, pid_t *ret_pid, struct error *err)
{
    static char name[] = "brim-helper", verb[] = "facts", once[] = "--once";
    char path[PATHS_BYTES];
    char *argv[] = { name, verb, once, NULL };
    posix_spawn_file_actions_t actions;
    int r = paths_program("brim-helper", path, err);

    if (r < 0)
        return r;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return error_set(err, -ENOMEM, "out of memory");
    r = posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawn(ret_pid, path, &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return r == 0 ? 0 : error_set(err, -r, "%s: %s", path, strerror(r));
}

/* All that the helper says until it ends, or -ETIMEDOUT. */
static int read_answer(int fd, char *text, size_t text_bytes)
{
    const uint64_t deadline_ms = clock_now_ms() + PATIENCE_MS;
    size_t used = 0;

    while (used + 1 < text_bytes) {
        const uint64_t now_ms = clock_now_ms();
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        if (now_ms >= deadline_ms)
            return -ETIMEDOUT;
        if (poll(&ready, 1, (int)(deadline_ms - now_ms)) <= 0)
            continue;
        const ssize_t got = read(fd, text + used, text_bytes - 1 - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0) {
            text[used] = '\0';
            return 0;
        }
        used += (size_t)got;
    }
    return -EFBIG;
}

static int run_helper(char *answer, size_t answer_bytes, struct error *err)
{
    OWNED(fd_close) int read_fd = -1;
    OWNED(fd_close) int write_fd = -1;
    int fds[2];
    pid_t pid = 0;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_set(err, -errno, "pipe: %s", strerror(errno));
    read_fd = fds[0];
    write_fd = fds[1];
    int r = start_helper(write_fd, &pid, err);
    if (r < 0)
        return r;
    fd_close(&write_fd);
    r = read_answer(read_fd, answer, answer_bytes);
    if (r < 0)
        (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    if (r == -ETIMEDOUT)
        return error_set(err, r,
                         "the driver does not answer (asked for %d s); `nvidia-smi` may "
                         "hang as well",
                         PATIENCE_MS / 1000);
    return r == 0 ? 0 : error_set(err, r, "brim-helper: %s", strerror(-r));
}

/* ---- its answer as a status ---- */

static uint64_t number(const json_t *object, const char *name)
{
    const json_int_t value = json_integer_value(json_object_get(object, name));

    return value > 0 ? (uint64_t)value : 0;
}

static json_t *program_to_foreign(const json_t *program)
{
    const uint64_t pid = number(program, "pid");
    const json_t *name = json_object_get(program, "name");
    struct process_info info = { 0 };

    if (!json_is_string(name) && process_read((pid_t)pid, &info) < 0)
        (void)snprintf(info.name, sizeof(info.name), "?");
    json_t *text =
        json_is_string(name) ? json_copy((json_t *)(uintptr_t)name) : json_string(info.name);
    if (!text)
        text = json_string("?"); /* a name that is not UTF-8 */
    return json_pack("{sI so sI}", "pid", (json_int_t)pid, "name", text, "bytes",
                     (json_int_t)(number(program, "bytes") + number(program, "used_bytes")));
}

static int by_bytes(const void *a, const void *b)
{
    const uint64_t left = number(*(json_t *const *)a, "bytes");
    const uint64_t right = number(*(json_t *const *)b, "bytes");

    return left < right ? 1 : left > right ? -1 : 0;
}

/* Largest first, as the daemon sorts them. NULL when memory is out. */
static json_t *foreign_of(const json_t *gpu)
{
    const json_t *const programs = json_object_get(gpu, "processes");
    const size_t count = json_array_size(programs);
    OWNED(freep) json_t **sorted = calloc(count + 1, sizeof(json_t *));
    json_t *const list = json_array();

    if (!sorted || !list) {
        json_decref(list);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        sorted[i] = program_to_foreign(json_array_get(programs, i));
    qsort(sorted, count, sizeof(json_t *), by_bytes);
    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, sorted[i]);
    return list;
}

static json_t *gpu_to_status(const json_t *gpu)
{
    const uint64_t capacity = number(gpu, "capacity_bytes"), used = number(gpu, "used_bytes");
    const uint64_t reserve = capacity < RESERVE_BYTES ? capacity : RESERVE_BYTES;
    const uint64_t free_bytes = used < capacity - reserve ? capacity - reserve - used : 0;
    json_t *const status =
        json_pack("{s:I s:I s:I s:I s:I s:I s:I s:I s:o}", "capacity_bytes", (json_int_t)capacity,
                  "used_bytes", (json_int_t)used, "reserve_bytes", (json_int_t)reserve,
                  "charged_bytes", (json_int_t)0, "draining_bytes", (json_int_t)0, "foreign_bytes",
                  (json_int_t)used, "free_bytes", (json_int_t)free_bytes, "facts_age_ms",
                  (json_int_t)0, "foreign", foreign_of(gpu));
    static const char *const copied[] = { "index", "uuid", "name", "has_process_bytes" };

    for (size_t i = 0; status && i < sizeof(copied) / sizeof(copied[0]); i++) {
        json_t *const member = json_object_get(gpu, copied[i]);
        if (member)
            (void)json_object_set(status, copied[i], member);
    }
    return status;
}

int facts_to_status(const json_t *facts, json_t **ret_status, struct error *err)
{
    const json_t *const gpus = json_object_get(facts, "gpus");
    const char *const problem = json_string_value(json_object_get(facts, "problem"));
    json_t *const list = json_array();
    size_t i = 0;
    json_t *gpu = NULL;

    json_array_foreach(gpus, i, gpu)(void) json_array_append_new(list, gpu_to_status(gpu));
    if (json_array_size(list) == 0) {
        json_decref(list);
        return error_set(err, -ENODEV, "%s", problem ? problem : "the driver shows no gpu");
    }
    const char *const profiles = getenv("BRIM_EMULATED");
    json_t *const status =
        json_pack("{s:s s:n s:b s:s? s:o s:[]}", "version", BRIM_VERSION, "daemon", "emulated",
                  profiles && *profiles, "problem", problem, "gpus", list, "leases");
    if (!status)
        return error_set(err, -ENOMEM, "out of memory");
    *ret_status = status;
    return 0;
}

int facts_read(json_t **ret_status, struct error *err)
{
    OWNED(freep) char *answer = malloc(ANSWER_BYTES);

    if (!answer)
        return error_set(err, -ENOMEM, "out of memory");
    int r = run_helper(answer, ANSWER_BYTES, err);
    if (r < 0)
        return r;
    json_t *const facts = json_loads(answer, 0, NULL);
    if (!facts)
        return error_set(err, -EPROTO, "brim-helper ended without an answer");
    r = facts_to_status(facts, ret_status, err);
    json_decref(facts);
    return r;
}
