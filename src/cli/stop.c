/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "cli/ask.h"
#include "cli/batch.h"
#include "cli/command.h"

/*
 * brim stop: a running batch of that name ends as by `brim batch cancel`; else the daemon asks the
 * holder.
 */

static int stop_batch(const char *name, json_t **ret_answer, struct error *err)
{
    OWNED(fd_close) int pidfd = -1;
    struct segments_info info = { 0 };
    int r = batch_find(name, &info, NULL);

    if (r == 0)
        r = pidfd = batch_runner(name, &info, NULL);
    if (r < 0)
        return -ENOENT; /* no such batch, or it does not run: the name may be a lease's */
    r = process_signal(pidfd, SIGTERM);
    if (r < 0)
        return error_set(err, r, "cannot signal the batch %s (process %d)", name,
                         (int)info.runner_pid);
    *ret_answer = json_pack("{s:i, s:o}", "asked", 1, "text",
                            json_sprintf("the batch %s (process %d) ends when the segments in work "
                                         "are finished; the same command goes on with it",
                                         name, (int)info.runner_pid));
    return *ret_answer ? 0 : error_set(err, -ENOMEM, "out of memory");
}

int cmd_stop(int argc, char **argv)
{
    static const struct ask ask = {
        .command = "stop",
        .target = "/v1/stop",
        .help = "Asks a holder to end: a worker at the end of its segment, a program under\n"
                "`brim run` by SIGTERM, a batch when the segments in work are finished. NAME is\n"
                "the name of a batch, or a lease's name or id (l7).",
        .instead = stop_batch,
    };

    return ask_holder(&ask, argc, argv);
}
