/* SPDX-License-Identifier: Apache-2.0 */
#ifndef API_API_H
#define API_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "api/events.h"
#include "base/error.h"

/*
 * API: HTTP and JSON over a unix socket for people and tools (docs/internals/api.md). It knows the
 * protocol and nothing of budgets: what it tells and does comes from the daemon through a table of
 * functions, all called in the loop's thread, none of which may block.
 */

struct api_peer {
    uid_t uid;
    pid_t pid;
};

/* Each fills *ret_json (owned by the API afterwards) and returns 0, or a negative errno with a
 * message: -ENOENT becomes 404, -EINVAL 400, -EPERM 403, anything else 500. */
struct api_source {
    void *user;             /* borrowed */
    bool is_for_other_uids; /* system scope; false: anybody but this uid and root gets 403 */
    /* Asked before status() and fit(): true when the facts are fresh enough to show. Otherwise a
     * sample is taken first: on_fresh(context) then runs exactly once, later, in the loop, after at
     * most 300 ms whatever became of it (at once when the daemon ends, also after api_close()); the
     * connection is suspended until then. NULL: always fresh. */
    bool (*refresh)(void *user, void (*on_fresh)(void *context), void *context);
    int (*status)(void *user, const struct api_peer *peer, json_t **ret_json, struct error *err);
    /* what: as in docs/internals/api.md; "" is the newest refusal, or who waits now. */
    int (*why)(void *user, const struct api_peer *peer, const char *what, json_t **ret_json,
               struct error *err);
    int (*fit)(void *user, uint64_t resident_bytes, uint64_t burst_bytes, const char *gpu,
               json_t **ret_json, struct error *err);
    int (*stop)(void *user, const struct api_peer *peer, const char *name, json_t **ret_json,
                struct error *err);
    int (*trim)(void *user, const struct api_peer *peer, const char *name, json_t **ret_json,
                struct error *err);
    /* A remark of a program's, for the events. */
    int (*note)(void *user, const struct api_peer *peer, const char *text, json_t **ret_json,
                struct error *err);
    int (*shutdown)(void *user, const struct api_peer *peer, json_t **ret_json, struct error *err);
    /* What each lease does, one by one, while somebody follows it: appended by the source, which
     * says in steps_begin() what there is already. Borrowed; NULL: not offered. */
    struct events *steps;
    void (*steps_begin)(void *user);
};

struct api;

/* Any text (a process name may be any bytes) as a JSON string: what is no UTF-8 becomes '?'. NULL
 * becomes null. A fresh reference, or NULL when memory is out. */
json_t *api_text(const char *text);

/* Serve on listen_fd (bound and listening, non-blocking, taken over on success) in this loop. The
 * source is copied; what it points to and the events must live until on_closed. */
int api_open(uv_loop_t *loop, int take_listen_fd, const struct api_source *source,
             struct events *events, struct api **ret_api, struct error *err);
/* Does anybody follow the steps? */
bool api_has_step_followers(const struct api *api);
/* Stops accepting and closes what is open; on_closed runs in the loop when all handles are gone. */
void api_close(struct api *api, void (*on_closed)(void *user), void *user);

#endif
