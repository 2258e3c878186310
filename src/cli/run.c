/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <brim/brim.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/size.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/python.h"
#include "client/daemon.h"
#include "client/lease.h"

/*
 * brim run: a program under a lease. Acquires, then becomes the program: it inherits the lease's
 * connection and the granted gpu in its environment. There is no wrapper left, so signals and the
 * status are the program's own. Such a program cannot say when it is busy, so it holds all that
 * it was granted for life.
 */

#define STATUS_NEVER_FITS 123
#define STATUS_NO_ROOM    124
#define STATUS_FAILED     125
#define STATUS_NO_EXEC    126
#define STATUS_NOT_FOUND  127

#define QUIET_WAIT_MS 1000 /* a shorter wait is not spoken of, but on a terminal */

enum {
    OPTION_VRAM,
    OPTION_BURST,
    OPTION_LOAD_PEAK,
    OPTION_NAME,
    OPTION_PRIORITY,
    OPTION_GPU,
    OPTION_MAX_WAIT,
    OPTION_PID,
    OPTION_PYTHON_JANITOR,
};

static const struct option_spec specs[] = {
    [OPTION_VRAM] = { 0, "vram", "SIZE", "what it holds, as nvidia-smi shows it: 5.2GiB" },
    [OPTION_BURST] = { 0, "burst", "SIZE", "the most it takes beyond that" },
    [OPTION_LOAD_PEAK] = { 0, "load-peak", "SIZE", "the most it takes while it loads" },
    [OPTION_NAME] = { 0, "name", "NAME", "shown by brim ps; default: the program's" },
    [OPTION_PRIORITY] = { 0, "priority", "P", "interactive, normal (default) or background" },
    [OPTION_GPU] = { 0, "gpu", "GPU", "index or UUID, several with commas; default: any" },
    [OPTION_MAX_WAIT] = { 0, "max-wait", "TIME",
                          "wait for room: 10m, 0 = not at all; default: for ever" },
    [OPTION_PID] = { 0, "pid", "PID", "take a running program under a lease instead" },
    [OPTION_PYTHON_JANITOR] = { 0, "python-janitor", NULL,
                                "Python gives back what PyTorch keeps for nobody" },
};

struct wish {
    struct brim_claim claim;
    char **command; /* borrowed; NULL: none was given */
    char name[MESSAGE_NAME_BYTES];
    bool has_vram;
    bool has_janitor;
};

/* ---- what was asked for ---- */

static int complain(const struct error *err)
{
    fprintf(stderr, "brim run: %s\n", err->message);
    return STATUS_FAILED;
}

static int read_size(const char *option, const char *value, uint64_t *ret_bytes, struct error *err)
{
    const int r = size_parse(value, ret_bytes, err);

    return r < 0 ? error_wrap(err, option) : 0;
}

static int read_priority(const char *value, uint32_t *ret_priority, struct error *err)
{
    static const char *const names[] = { [BRIM_PRIORITY_NORMAL] = "normal",
                                         [BRIM_PRIORITY_INTERACTIVE] = "interactive",
                                         [BRIM_PRIORITY_BACKGROUND] = "background" };

    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(value, names[i]) == 0) {
            *ret_priority = i;
            return 0;
        }
    }
    return error_set(err, -EINVAL, "--priority: '%s' is none of interactive, normal, background",
                     value);
}

static int read_max_wait(const char *value, int64_t *ret_ms, struct error *err)
{
    uint64_t wait_ms = 0;
    const int r = duration_parse(value, &wait_ms, err);

    if (r < 0)
        return error_wrap(err, "--max-wait");
    if (wait_ms > INT64_MAX)
        return error_set(err, -ERANGE, "--max-wait: '%s' is too long", value);
    *ret_ms = (int64_t)wait_ms;
    return 0;
}

static int read_pid(const char *value, uint64_t *ret_pid, struct error *err)
{
    char *end = NULL;

    errno = 0;
    const unsigned long pid = strtoul(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || pid == 0 || pid > INT32_MAX)
        return error_set(err, -EINVAL, "--pid: '%s' is not the number of a process", value);
    *ret_pid = pid;
    return 0;
}

static int read_option(int found, const char *value, struct wish *wish, struct error *err)
{
    struct brim_claim *claim = &wish->claim;

    switch (found) {
    case OPTION_VRAM:
        wish->has_vram = true;
        return read_size("--vram", value, &claim->resident_bytes, err);
    case OPTION_BURST:
        return read_size("--burst", value, &claim->burst_bytes, err);
    case OPTION_LOAD_PEAK:
        return read_size("--load-peak", value, &claim->load_peak_bytes, err);
    case OPTION_PRIORITY:
        return read_priority(value, &claim->priority, err);
    case OPTION_MAX_WAIT:
        return read_max_wait(value, &claim->max_wait_ms, err);
    case OPTION_PID:
        return read_pid(value, &claim->pid, err);
    case OPTION_PYTHON_JANITOR:
        wish->has_janitor = true;
        return 0;
    case OPTION_GPU:
        claim->gpu = value;
        return 0;
    default: /* OPTION_NAME */
        if (strlen(value) >= sizeof(wish->name))
            return error_set(err, -EINVAL, "--name: at most %zu bytes", sizeof(wish->name) - 1);
        claim->name = value;
        return 0;
    }
}

static void print_help(const struct options *options)
{
    options_print_help(options, "--vram SIZE [OPTION]... [--] COMMAND [ARGUMENT]...",
                       "Runs COMMAND under a lease: waits until its memory is free, and holds it\n"
                       "until COMMAND ends. The status is COMMAND's own; 123: it can never fit,\n"
                       "124: no room in time, 125: another failure here, 126 and 127: COMMAND\n"
                       "cannot be run, is not there. `brim run --pid PID` takes a running program\n"
                       "under a lease.");
}

/* -1: go on; otherwise the status to end with. */
static int parse(int argc, char **argv, struct wish *wish)
{
    struct options options = { .command = "run",
                               .specs = specs,
                               .count = sizeof(specs) / sizeof(specs[0]) };
    struct error err = { 0 };
    int found = 0;

    options_init(&options, argc, argv);
    while ((found = options_next(&options)) != OPTIONS_END) {
        if (found == OPTIONS_HELP) {
            print_help(&options);
            return COMMAND_OK;
        }
        if (found == OPTIONS_OPERAND) {
            wish->command = argv + options.at - 1;
            break;
        }
        if (found == OPTIONS_WRONG)
            return STATUS_FAILED;
        if (read_option(found, options.value, wish, &err) < 0)
            return complain(&err);
    }
    if (wish->claim.pid != 0 && wish->command)
        error_set(&err, -EINVAL, "--pid takes a running program, and no COMMAND");
    else if (wish->claim.pid != 0 && wish->has_janitor)
        error_set(&err, -EINVAL, "--python-janitor is for a program that starts, not for --pid");
    else if (wish->claim.pid == 0 && !wish->command)
        error_set(&err, -EINVAL, "no COMMAND; write: brim run --vram 6GiB -- COMMAND");
    else if (wish->claim.pid == 0 && !wish->has_vram)
        error_set(&err, -EINVAL,
                  "--vram is missing: how much %s takes, as nvidia-smi shows it; write: brim run "
                  "--vram 6GiB -- %s",
                  wish->command[0], wish->command[0]);
    return err.code < 0 ? complain(&err) : -1;
}

/* ---- the command ---- */

static bool is_runnable(const char *path, int *status)
{
    if (access(path, F_OK) < 0)
        return false;
    if (access(path, X_OK) == 0) {
        *status = 0;
        return true;
    }
    *status = STATUS_NO_EXEC;
    return false;
}

/* Before hours of waiting, not after them: 0, or the status to end with. */
static int check_command(const char *command)
{
    const char *rest = getenv("PATH");
    char path[PATHS_BYTES];
    int status = STATUS_NOT_FOUND;

    if (strchr(command, '/')) {
        (void)is_runnable(command, &status);
    } else {
        for (; rest && *rest; rest += *rest == ':') {
            const int bytes = (int)strcspn(rest, ":");
            if (snprintf(path, sizeof(path), "%.*s/%s", bytes, rest, command) < (int)sizeof(path) &&
                is_runnable(path, &status))
                break;
            rest += bytes;
        }
    }
    if (status == STATUS_NOT_FOUND)
        fprintf(stderr, "brim run: %s: no such command\n", command);
    if (status == STATUS_NO_EXEC)
        fprintf(stderr, "brim run: %s: not executable\n", command);
    return status;
}

/* 0, or the status to end with. */
static int check_process(struct wish *wish)
{
    struct process_info info = { 0 };

    if (process_read((pid_t)wish->claim.pid, &info) < 0) {
        fprintf(stderr, "brim run: --pid %" PRIu64 ": there is no such process\n", wish->claim.pid);
        return STATUS_FAILED;
    }
    (void)snprintf(wish->name, sizeof(wish->name), "%s", info.name);
    return 0;
}

static void name_after_command(struct wish *wish)
{
    const char *const slash = strrchr(wish->command[0], '/');

    (void)snprintf(wish->name, sizeof(wish->name), "%s", slash ? slash + 1 : wish->command[0]);
}

/* ---- asking ---- */

static void tell_waiting(const char *reason, bool is_for_ever, char *told, size_t told_bytes)
{
    const int line_bytes = (int)strcspn(reason, "\n");

    if (strncmp(told, reason, (size_t)line_bytes) == 0 && told[line_bytes] == '\0')
        return;
    const bool is_first = told[0] == '\0';
    (void)snprintf(told, told_bytes, "%.*s", line_bytes, reason);
    fprintf(stderr, "brim run: waiting%s: %s\n",
            is_first && is_for_ever ? " for as long as it takes (--max-wait sets an end)" : "",
            told);
}

static void wait_for_answer(brim_lease *lease, bool is_for_ever)
{
    const uint64_t start_ms = clock_now_ms();
    const uint64_t quiet_ms = isatty(STDERR_FILENO) ? 0 : QUIET_WAIT_MS;
    char told[MESSAGE_REASON_BYTES] = "";

    while (brim_lease_state(lease) == BRIM_LEASE_QUEUED) {
        struct pollfd watch = { .fd = brim_lease_fd(lease), .events = POLLIN };
        const uint64_t waited_ms = clock_now_ms() - start_ms;
        const struct brim_refusal *reason = brim_lease_refusal(lease);

        if (reason && waited_ms >= quiet_ms)
            tell_waiting(reason->text, is_for_ever, told, sizeof(told));
        (void)poll(&watch, 1, waited_ms < quiet_ms ? (int)(quiet_ms - waited_ms) : -1);
        (void)brim_dispatch(lease);
    }
}

static void print_reason(const char *reason)
{
    fprintf(stderr, "brim run: %s\n", reason);
}

static int refuse(brim_lease *lease, const struct wish *wish)
{
    const struct brim_refusal *refusal = brim_lease_refusal(lease);
    const int code = refusal ? refusal->code : BRIM_ERR_LOST;

    print_reason(refusal ? refusal->text : brim_strerror(code));
    if (code == BRIM_ERR_NO_GPU && !wish->claim.gpu && !getenv("BRIM_EMULATED") &&
        !(refusal && strstr(refusal->text, "brim emulate")))
        fprintf(stderr, "to try it on a card that is not there:\n"
                        "  brim emulate --gpu rtx4070ti -- brim run …\n");
    if (refusal && refusal->id != 0 && (code == BRIM_ERR_NEVER_FITS || code == BRIM_ERR_NO_ROOM))
        fprintf(stderr, "`brim why r%" PRIu64 "` tells it again\n", refusal->id);
    brim_release(lease);
    if (code == BRIM_ERR_NEVER_FITS)
        return STATUS_NEVER_FITS;
    return code == BRIM_ERR_NO_ROOM ? STATUS_NO_ROOM : STATUS_FAILED;
}

/* 0 with a granted lease, else the status to end with. */
static int acquire(const struct wish *wish, brim_lease **ret_lease)
{
    struct error err = { 0 };
    int r = daemon_start(&err);

    if (r < 0)
        return complain(&err);
    r = brim_acquire_start(&wish->claim, ret_lease);
    if (r < 0) {
        print_reason(
            r == BRIM_ERR_INVALID
                ? "the claim is not possible: its sizes add up to nothing or too much, or a "
                  "name is too long"
                : brim_strerror(r));
        return STATUS_FAILED;
    }
    wait_for_answer(*ret_lease, wish->claim.max_wait_ms == BRIM_WAIT_FOREVER);
    if (brim_lease_state(*ret_lease) == BRIM_LEASE_REFUSED ||
        brim_lease_state(*ret_lease) == BRIM_LEASE_LOST)
        return refuse(*ret_lease, wish);
    return 0;
}

/* ---- running ---- */

static int become(brim_lease *lease, char **command)
{
    char id[32];

    (void)snprintf(id, sizeof(id), "l%" PRIu64, brim_lease_id(lease));
    if (setenv("CUDA_VISIBLE_DEVICES", brim_lease_gpu_uuid(lease), 1) < 0 ||
        setenv("BRIM_LEASE", id, 1) < 0) {
        print_reason("out of memory");
        brim_release(lease);
        return STATUS_FAILED;
    }
    if (brim_lease_state(lease) == BRIM_LEASE_LOADING)
        (void)brim_ready(lease);
    /* The connection is the lease: it stays open in the program and in whatever it starts. */
    if (lease_socket_fd(lease) >= 0)
        (void)fd_set_cloexec(lease_socket_fd(lease), 0);
    (void)execvp(command[0], command);
    const int failure = errno;
    fprintf(stderr, "brim run: cannot run %s: %s\n", command[0], strerror(failure));
    brim_release(lease);
    return failure == ENOENT ? STATUS_NOT_FOUND : STATUS_NO_EXEC;
}

static int tell_adopted(brim_lease *lease, const struct wish *wish)
{
    char size[SIZE_TEXT_BYTES];

    printf("%s (pid %" PRIu64 ") is now lease l%" PRIu64, wish->claim.name, wish->claim.pid,
           brim_lease_id(lease));
    if (wish->has_vram)
        printf(" of %s", size_format(wish->claim.resident_bytes + wish->claim.burst_bytes, size));
    printf(", until it ends\n");
    /* Not released: brimd goes by the process from here on. */
    return COMMAND_OK;
}

/* A program that cannot tell when it loads or bursts is charged its worst for life. */
static void charge_for_life(struct wish *wish)
{
    struct brim_claim *claim = &wish->claim;
    const bool is_adopted = claim->pid != 0;

    if (claim->burst_bytes > 0 && !is_adopted)
        fprintf(stderr,
                "brim run: %s cannot tell when it is busy, so its burst is held for life; libbrim "
                "or a batch would hold it only while needed\n",
                claim->name);
    if (claim->load_peak_bytes > claim->resident_bytes &&
        claim->load_peak_bytes - claim->resident_bytes > claim->burst_bytes)
        claim->burst_bytes = claim->load_peak_bytes - claim->resident_bytes;
    claim->load_peak_bytes = 0;
    claim->flags =
        BRIM_CLAIM_HELD_BY_PROCESS | BRIM_CLAIM_ALWAYS_BUSY | (is_adopted ? BRIM_CLAIM_ADOPT : 0);
}

int cmd_run(int argc, char **argv)
{
    struct wish wish = { .claim = { .struct_bytes = sizeof(wish.claim),
                                    .max_wait_ms = BRIM_WAIT_FOREVER } };
    static brim_lease *lease; /* lives as long as this process, whatever it becomes */
    struct error err = { 0 };
    int status = parse(argc, argv, &wish);

    if (status >= 0)
        return status;
    status = wish.command ? check_command(wish.command[0]) : check_process(&wish);
    if (status != 0)
        return status;
    if (wish.has_janitor && python_prepare(wish.command, &err) < 0)
        return complain(&err);
    if (wish.command)
        name_after_command(&wish);
    if (!wish.claim.name)
        wish.claim.name = wish.name;
    charge_for_life(&wish);
    status = acquire(&wish, &lease);
    if (status != 0)
        return status;
    CRASH_POINT(run_granted);
    return wish.command ? become(lease, wish.command) : tell_adopted(lease, &wish);
}
