/* SPDX-License-Identifier: Apache-2.0 */
#ifndef API_HTTP_H
#define API_HTTP_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "api/api.h"

/*
 * The insides of the API, for the files of this folder: api.c (the loop and libmicrohttpd),
 * request.c (one request, its route and its answer), follow.c (event streams).
 */

#define HTTP_CONNECTION_MAX  64
#define HTTP_HEAD_BYTES      16384 /* libmicrohttpd keeps a request's head in a pool this large */
#define HTTP_BODY_BYTES      16384
#define HTTP_IDLE_SECONDS    5    /* a connection on which nothing moves, half a request included */
#define HTTP_FOLLOW_USER_MAX 16   /* streams of one user, where there are others */
#define HTTP_FOLLOW_CHECK_MS 1000 /* how soon a follower that went away is seen */
#define HTTP_STREAM_BYTES    16384 /* block of an event stream */

struct api {
    struct api_source source;
    struct events *events;   /* borrowed */
    struct MHD_Daemon *http; /* owned */
    struct uv_poll_s poll;
    struct uv_timer_s timer;       /* libmicrohttpd's own time-outs */
    struct uv_timer_s check_timer; /* runs while there are followers */
    unsigned open_handles;
    bool is_resuming; /* a connection was resumed since libmicrohttpd last ran */
    bool is_closing;
    struct follower *followers; /* owned by their responses */
    size_t step_followers;      /* of these: of steps */
    struct request *waiting;    /* owned by their connections: suspended until facts are fresh */
    void (*on_closed)(void *user);
    void *on_closed_user;
};

/* Resume a suspended connection. Without a thread of its own libmicrohttpd does not notice this by
 * itself, so it is called once more soon. */
void http_resume(struct api *api, struct MHD_Connection *connection);

/* libmicrohttpd's callbacks for a request. */
enum MHD_Result http_request(void *user, struct MHD_Connection *connection, const char *path,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_bytes, void **state);
void http_request_end(void *user, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode reason);

/* Whoever waits for fresh facts is resumed and answered with what there is. */
void http_request_stop(struct api *api);

/* How many streams a user has open. */
size_t follow_count(const struct api *api, uid_t uid);
/* Answer with the events after `since`, and, for a follower, with those to come. */
enum MHD_Result follow_respond(struct api *api, struct MHD_Connection *connection, uint64_t since,
                               bool is_following);
/* Answer with the steps from now on. */
enum MHD_Result follow_steps(struct api *api, struct MHD_Connection *connection);
/* Something was appended: wake who waits for it. */
void follow_wake(struct api *api);
/* Drop followers whose other end is gone, or that are so slow that the ring has passed them. */
void follow_check(struct api *api);
/* No more: every follower is resumed and ends. */
void follow_stop(struct api *api);

#endif
