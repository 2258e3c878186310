/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_ASK_H
#define CLI_ASK_H

/*
 * Commands of the form `brim VERB NAME [--json]` that ask a holder to do something: they POST the
 * name to the daemon and print its answer.
 */

struct ask {
    const char *command; /* "trim" */
    const char *target;  /* "/v1/trim" */
    const char *help;
    /* Tried where the daemon knows nobody of that name, or does not run: the exit status, or -1
     * where this does not know the name either. May be NULL. */
    int (*otherwise)(const char *name);
};

/* The whole command; returns its exit status. */
int ask_holder(const struct ask *ask, int argc, char **argv);

#endif
