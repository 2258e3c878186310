/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include "api/api.h"

/*
 * What people and tools see of the daemon, and may ask of it: the functions behind the API
 * (docs/internals/api.md). status.c shows, why.c explains, control.c acts.
 */

struct daemon;
struct holder;

/* The table for api_open(). */
struct api_source control_source(struct daemon *daemon);

/* One file each. */
int control_status(void *user, const struct api_peer *peer, json_t **ret_json, struct error *err);
int control_why(void *user, const struct api_peer *peer, const char *what, json_t **ret_json,
                struct error *err);

/* The lease that is meant by "l7", or NULL; with a name: the newest that holds or waits. */
struct holder *control_find_holder(struct daemon *daemon, const char *what);

#endif
