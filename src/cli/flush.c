/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "cli/batch.h"
#include "cli/command.h"
#include "cli/options.h"

/* brim flush NAME: SIGUSR1 to the batch, which flushes each worker at its segment's end. */

static int flush(const char *name)
{
    OWNED(fd_close) int pidfd = -1;
    struct segments_info info = { 0 };
    struct error err = { 0 };
    int r = batch_find(name, &info, &err);

    if (r == 0)
        r = pidfd = batch_runner(name, &info, &err);
    if (r >= 0)
        r = process_signal(pidfd, SIGUSR1);
    if (r < 0 && err.code == 0)
        (void)error_set(&err, r, "cannot signal process %d: %s", (int)info.runner_pid,
                        strerror(-r));
    if (r < 0) {
        fprintf(stderr, "brim flush: %s\n", err.message);
        return COMMAND_FAILED;
    }
    printf("%s flushes each worker when its segment is finished\n", name);
    return COMMAND_OK;
}

int cmd_flush(int argc, char **argv)
{
    struct options options = { .command = "flush" };
    const char *name = NULL;
    int found = 0;

    options_init(&options, argc, argv);
    while ((found = options_next(&options)) != OPTIONS_END) {
        if (found == OPTIONS_HELP) {
            options_print_help(&options, "NAME",
                               "Makes the workers of a running batch give their gpu memory back\n"
                               "whole and take it again: by themselves where they can (worker\n"
                               "protocol), else by a restart; each when its segment is finished.");
            return COMMAND_OK;
        }
        if (found == OPTIONS_WRONG)
            return COMMAND_USAGE;
        if (name)
            return options_complain(&options, "one name at a time");
        name = options.value;
    }
    return name ? flush(name) : options_complain(&options, "which batch? brim batch ls lists them");
}
