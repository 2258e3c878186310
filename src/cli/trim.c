/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/ask.h"
#include "cli/command.h"

int cmd_trim(int argc, char **argv)
{
    static const struct ask ask = {
        .command = "trim",
        .target = "/v1/trim",
        .help = "Asks a holder to give back memory that it keeps but does not use (the caches of\n"
                "its allocator), at its next convenient place. NAME is a name or a lease (l7).",
    };

    return ask_holder(&ask, argc, argv);
}
