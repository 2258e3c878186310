/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_API_CLIENT_H
#define CLI_API_CLIENT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/*
 * Questions to the daemon's API (docs/internals/api.md) over its unix socket: the user's own
 * daemon, else the system's. Never starts one.
 */

#define API_CLIENT_PATIENCE_S 10

/* 0 and a fresh *ret_json; -ESRCH: no daemon runs (err says how to start one); -ENOENT, -EINVAL,
 * -EPERM, -EREMOTEIO: the daemon's own "error" (404, 400, 403, any other); -EIO: it hangs or is
 * gone; -EPROTO: what answers is no Brim. */
int api_get(const char *target, json_t **ret_json, struct error *err)
    __attribute__((warn_unused_result));
/* The same; body is borrowed, NULL for none. */
int api_post(const char *target, const json_t *body, json_t **ret_json, struct error *err)
    __attribute__((warn_unused_result));

/* Each line of an answer without end, as it comes: a JSON object, borrowed. A negative return value
 * of the function ends the stream and is returned. 0 when the daemon has ended it. */
int api_follow(const char *target, int (*on_object)(void *user, json_t *object), void *user,
               struct error *err) __attribute__((warn_unused_result));

/* The same, until is_over(user) says so, which is asked at least once a second: then 0 as well. */
int api_follow_until(const char *target, int (*on_object)(void *user, json_t *object),
                     bool (*is_over)(void *user), void *user, struct error *err)
    __attribute__((warn_unused_result));

/* Text as one part of a path or query, fresh; NULL when memory is out. */
char *api_escape(const char *text);

#endif
