/* SPDX-License-Identifier: Apache-2.0 */

/*
 * brimd: the arbiter of a machine's GPU memory. See daemon.h for its parts.
 *
 * It stays in the foreground of whoever started it and writes its log to standard error. Exit
 * codes: 0 it was asked to end; 1 it could not start; 2 usage.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/fd.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/place.h"

#define EXIT_USAGE 2

/* Whoever started us waits for "ready"; anything else is the reason why not. */
static void tell_starter(int *ready_fd, const char *text)
{
    if (*ready_fd >= 0)
        (void)fd_write_all(*ready_fd, text, strlen(text));
    fd_close(ready_fd);
}

static int fail(struct options *options, const struct error *err)
{
    log_error("daemon", "event=failed reason=\"%s\"", err->message);
    tell_starter(&options->ready_fd, err->message);
    return EXIT_FAILURE;
}

static int serve(uv_loop_t *loop, struct options *options, struct place *place)
{
    struct daemon *daemon = NULL;
    struct error err = { 0 };

    if (daemon_open(loop, options, place, &daemon, &err) < 0)
        return fail(options, &err);
    log_info("daemon", "event=started version=%s pid=%d scope=%s runtime_dir=%s state_dir=%s%s",
             BRIM_VERSION, (int)getpid(), scope_name(options->scope), options->runtime_dir,
             options->state_dir, daemon->is_emulated ? " emulated=1" : "");
    tell_starter(&options->ready_fd, "ready\n");
    if (notify_systemd("READY=1") < 0)
        log_warn("daemon", "event=notify_failed");
    (void)unsetenv("NOTIFY_SOCKET"); /* brim-helper has nothing to say to systemd */
    (void)uv_run(loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(loop);
    daemon_free(daemon);
    log_info("daemon", "event=ended");
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static uv_loop_t loop;
    struct options options;
    struct place place;
    struct error err = { 0 };
    int r = options_parse(argc, argv, &options, &err);

    if (r < 0) {
        (void)fprintf(stderr, "brimd: %s\n", err.message);
        return EXIT_USAGE;
    }
    if (r == OPTIONS_SHOWN)
        return EXIT_SUCCESS;
    log_set_level(options.log_level);
    (void)signal(SIGPIPE, SIG_IGN);
    /* One thread is plenty for the journal, and each more costs memory. Before libuv looks. */
    (void)setenv("UV_THREADPOOL_SIZE", "1", 1);
    r = place_open(&options, &place, &err);
    if (r == 0)
        r = uv_loop_init(&loop) < 0 ? error_set(&err, -1, "cannot make an event loop") : 0;
    if (r < 0)
        return fail(&options, &err);
    r = serve(&loop, &options, &place);
    place_close(&place);
    return r;
}
