/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_ASK_H
#define CLI_ASK_H

#include <jansson.h>

#include "base/error.h"

/*
 * Commands of the form `brim VERB NAME [--json]` that ask a holder to do something: they POST the
 * name to the daemon and print its answer.
 */

struct ask {
    const char *command; /* "trim" */
    const char *target;  /* "/v1/trim" */
    const char *help;
    /* Asked first, may be NULL: 0 and the answer to print, -ENOENT for "ask the daemon", or a
     * failure. */
    int (*instead)(const char *name, json_t **ret_answer, struct error *err);
};

/* The whole command; returns its exit status. */
int ask_holder(const struct ask *ask, int argc, char **argv);

#endif
