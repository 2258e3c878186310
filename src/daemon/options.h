/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/paths.h"

/* Who a daemon is for: everybody on the machine (started by systemd as the user brim), or the one
 * who started it. */
enum scope {
    SCOPE_USER,
    SCOPE_SYSTEM,
};
const char *scope_name(enum scope scope);

/* What the command line of brimd says, the defaults filled in. */
struct options {
    enum scope scope;
    char runtime_dir[PATHS_BYTES];
    char state_dir[PATHS_BYTES];
    uint64_t reserve_bytes; /* of each gpu, never granted */
    enum log_level log_level;
    int ready_fd; /* where to say "ready", or why not; -1: nowhere */
};

enum options_answer {
    OPTIONS_RUN = 0,
    OPTIONS_SHOWN = 1, /* --help or --version: it is printed, end with success */
};

/* enum options_answer, or negative with a message. */
int options_parse(int argc, char **argv, struct options *ret_options, struct error *err);

#endif
