/* SPDX-License-Identifier: Apache-2.0 */

#include <stdio.h>

#include "cli/command.h"

int cmd_ps(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    fprintf(stderr, "brim ps: no daemon runs; `brim run` starts one\n");
    return COMMAND_FAILED;
}
