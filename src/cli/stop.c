/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/ask.h"
#include "cli/command.h"

int cmd_stop(int argc, char **argv)
{
    static const struct ask ask = {
        .command = "stop",
        .target = "/v1/stop",
        .help = "Asks a holder to end: a worker at the end of its segment, a program under\n"
                "`brim run` by SIGTERM. NAME is a name or a lease (l7).",
    };

    return ask_holder(&ask, argc, argv);
}
