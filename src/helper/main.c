/* SPDX-License-Identifier: Apache-2.0 */

/*
 * brim-helper: the process that may hang in the driver in the daemon's place.
 *
 *   brim-helper facts          answers requests on its standard input (wire/facts.h)
 *   brim-helper facts --once   prints the facts as JSON
 */

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "helper/facts.h"

static int serve(void)
{
    /* A helper without its daemon has nothing to do, not even to finish a call. The daemon may be
     * gone already; then the socket tells. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int r = facts_serve(0);

    if (r == 0)
        return 0;
    fprintf(stderr, "brim-helper: standard input: %s (brimd starts this program)\n", strerror(-r));
    return 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "facts") == 0)
        return serve();
    if (argc == 3 && strcmp(argv[1], "facts") == 0 && strcmp(argv[2], "--once") == 0)
        return facts_print(stdout) == 0 ? 0 : 1;
    fprintf(stderr, "usage: brim-helper facts [--once]\n");
    return 2;
}
