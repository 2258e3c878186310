/* SPDX-License-Identifier: Apache-2.0 */

#include "client/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/options.h"

/*
 * brim daemon start | stop | status. Nobody has to: the first command that needs brimd starts it,
 * and who holds a lease starts it again.
 */

#define STOP_PATIENCE_MS  10000
#define START_PATIENCE_MS 10000
#define START_RETRY_MS    20

static const struct option_spec specs[] = { { 0, "json", NULL, "status: the daemon's own words" } };

static int complain(const struct error *err)
{
    fprintf(stderr, "brim daemon: %s\n", err->message);
    return COMMAND_FAILED;
}

static const char *text_of(const json_t *daemon, const char *key)
{
    const char *text = json_string_value(json_object_get(daemon, key));

    return text ? text : "?";
}

static json_int_t pid_of(const json_t *status)
{
    return json_integer_value(json_object_get(json_object_get(status, "daemon"), "pid"));
}

static void print_status(const json_t *status)
{
    const json_t *daemon = json_object_get(status, "daemon");
    const json_t *leases = json_object_get(status, "leases");
    const char *problem = json_string_value(json_object_get(status, "problem"));

    printf("brimd %s runs: pid %" JSON_INTEGER_FORMAT ", scope %s, leases %zu\n",
           text_of(status, "version"), pid_of(status), text_of(daemon, "scope"),
           json_array_size(leases));
    printf("  sockets in %s\n  state and log in %s\n", text_of(daemon, "runtime_dir"),
           text_of(daemon, "state_dir"));
    if (problem)
        printf("  problem: %s\n", problem);
}

static int show_status(bool is_json)
{
    struct error err = { 0 };
    json_t *status = NULL;
    const int r = api_get("/v1/status", &status, &err);

    if (r == -ESRCH && !is_json) {
        printf("no daemon runs; the first `brim run` starts one, or: brim daemon start\n");
        return COMMAND_FAILED;
    }
    if (r < 0)
        return complain(&err);
    if (is_json) {
        (void)json_dumpf(json_object_get(status, "daemon"), stdout, JSON_INDENT(2));
        fputc('\n', stdout);
    } else {
        print_status(status);
    }
    json_decref(status);
    return COMMAND_OK;
}

static int start(void)
{
    const uint64_t deadline_ms = clock_now_ms() + START_PATIENCE_MS;
    struct error err = { 0 };
    json_t *status = NULL;
    int r = 0;

    /* A daemon that is being killed takes connections to its very end, and looks as if it ran; or
     * goes away with the question. */
    do {
        r = daemon_start(&err);
        if (r < 0)
            return complain(&err);
        r = api_get("/v1/status", &status, &err);
        if (r == -ESRCH || r == -EIO)
            (void)poll(NULL, 0, START_RETRY_MS);
    } while ((r == -ESRCH || r == -EIO) && clock_now_ms() < deadline_ms);
    if (r < 0)
        return complain(&err);
    print_status(status);
    json_decref(status);
    return COMMAND_OK;
}

static int wait_for_end(int pidfd, json_int_t pid)
{
    struct pollfd watch = { .fd = pidfd, .events = POLLIN };

    if (poll(&watch, 1, STOP_PATIENCE_MS) == 1) {
        printf("brimd (pid %" JSON_INTEGER_FORMAT ") has ended; what it granted stays valid\n",
               pid);
        return COMMAND_OK;
    }
    fprintf(stderr, "brim daemon: brimd (pid %" JSON_INTEGER_FORMAT ") has not ended after %d s\n",
            pid, STOP_PATIENCE_MS / 1000);
    return COMMAND_FAILED;
}

static int stop(void)
{
    struct error err = { 0 };
    json_t *status = NULL;
    json_t *answer = NULL;
    int r = api_get("/v1/status", &status, &err);

    if (r == -ESRCH) {
        printf("no daemon runs\n");
        return COMMAND_OK;
    }
    if (r < 0)
        return complain(&err);
    const json_int_t pid = pid_of(status);
    const size_t lease_count = json_array_size(json_object_get(status, "leases"));
    json_decref(status);
    OWNED(fd_close) int pidfd = process_open((pid_t)pid, 0);
    r = api_post("/v1/shutdown", NULL, &answer, &err);
    json_decref(answer);
    /* It may end before it has answered. */
    if (r < 0 && r != -EIO && r != -ESRCH)
        return complain(&err);
    if (lease_count > 0)
        printf("%zu lease%s held: a holder that uses libbrim starts brimd again\n", lease_count,
               lease_count == 1 ? " is" : "s are");
    return pidfd >= 0 ? wait_for_end(pidfd, pid) : COMMAND_OK;
}

static void print_help(const struct options *options)
{
    options_print_help(options, "start | stop | status [--json]",
                       "brimd decides who may hold gpu memory. The first command that needs it\n"
                       "starts it; what it granted stays valid while it is away.");
}

int cmd_daemon(int argc, char **argv)
{
    struct options options = { .command = "daemon",
                               .specs = specs,
                               .count = sizeof(specs) / sizeof(specs[0]) };
    const char *verb = NULL;
    bool is_json = false;
    int found = 0;

    options_init(&options, argc, argv);
    while ((found = options_next(&options)) != OPTIONS_END) {
        if (found == OPTIONS_HELP) {
            print_help(&options);
            return COMMAND_OK;
        }
        if (found == OPTIONS_WRONG)
            return COMMAND_USAGE;
        if (found == 0)
            is_json = true;
        else if (verb)
            return options_complain(&options, "one of start, stop, status; got '%s' as well",
                                    options.value);
        else
            verb = options.value;
    }
    if (!verb || strcmp(verb, "status") == 0)
        return show_status(is_json);
    if (is_json)
        return options_complain(&options, "--json goes with status");
    if (strcmp(verb, "start") == 0)
        return start();
    if (strcmp(verb, "stop") == 0)
        return stop();
    return options_complain(&options, "'%s' is none of start, stop, status", verb);
}
