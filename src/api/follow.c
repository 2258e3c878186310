/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/http.h"
#include "base/cleanup.h"

/*
 * An event stream: a response whose content is made when the socket takes it. A follower holds the
 * number of the last event it was given and at most one line that did not fit the block, so that a
 * client that never reads costs its connection and nothing else. With nothing to tell, the
 * connection is suspended; libmicrohttpd then does not watch its socket, hence follow_check().
 *
 *   reading --(no more events)--> suspended --(follow_wake, follow_check, follow_stop)--> reading
 *      \--(the ring has passed it; the client is gone)--> shutdown, ended by libmicrohttpd
 */

struct follower {
    struct follower *next, **link; /* in api->followers */
    struct api *api;               /* borrowed */
    struct events *events;         /* borrowed: the api's, or the steps */
    struct MHD_Connection *connection;
    int fd; /* borrowed: the connection's */
    uint64_t since;
    uint64_t last; /* of those asked for; UINT64_MAX: for ever */
    bool is_suspended;
    bool is_dropped;
    char *line; /* owned; what is left of it starts at line_at */
    size_t line_at, line_bytes;
};

static int next_line(struct follower *follower)
{
    uint64_t number = 0;
    json_t *json = NULL;
    const int r = events_next(follower->events, follower->since, &number, &json);

    if (r < 0)
        return r;
    if (number > follower->last) {
        json_decref(json);
        return -ENOENT;
    }
    char *const line = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (!line)
        return -ENOMEM;
    free(follower->line);
    follower->line = line;
    follower->line_at = 0;
    follower->line_bytes = strlen(line) + 1;
    line[follower->line_bytes - 1] = '\n'; /* the end of a line in place of the string's */
    follower->since = number;
    return 0;
}

static size_t copy_line(struct follower *follower, char *block, size_t block_bytes)
{
    const size_t left = follower->line_bytes - follower->line_at;
    const size_t count = left < block_bytes ? left : block_bytes;

    memcpy(block, follower->line + follower->line_at, count);
    follower->line_at += count;
    return count;
}

static ssize_t on_read(void *user, uint64_t position, char *block, size_t block_bytes)
{
    struct follower *const follower = user;
    size_t used = 0;
    int r = 0;

    (void)position;
    while (used < block_bytes && r == 0) {
        if (follower->line_at < follower->line_bytes)
            used += copy_line(follower, block + used, block_bytes - used);
        else
            r = next_line(follower);
    }
    if (used > 0)
        return (ssize_t)used;
    if (r != -ENOENT || follower->is_dropped)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (follower->last != UINT64_MAX || follower->api->is_closing)
        return MHD_CONTENT_READER_END_OF_STREAM;
    follower->is_suspended = true;
    MHD_suspend_connection(follower->connection);
    return 0;
}

static void on_free(void *user)
{
    struct follower *const follower = user;

    *follower->link = follower->next;
    if (follower->next)
        follower->next->link = follower->link;
    if (follower->events != follower->api->events)
        follower->api->step_followers--;
    if (!follower->api->followers && !follower->api->is_closing)
        (void)uv_timer_stop(&follower->api->check_timer);
    free(follower->line);
    free(follower);
}

static void on_check(uv_timer_t *timer)
{
    follow_check(timer->data);
}

static struct follower *follower_new(struct api *api, struct MHD_Connection *connection,
                                     struct events *events)
{
    const union MHD_ConnectionInfo *const info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct follower *const follower = calloc(1, sizeof(*follower));

    if (!info || !follower) {
        free(follower);
        return NULL;
    }
    follower->api = api;
    follower->events = events;
    if (events != api->events)
        api->step_followers++;
    follower->connection = connection;
    follower->fd = info->connect_fd;
    follower->next = api->followers;
    follower->link = &api->followers;
    if (follower->next)
        follower->next->link = &follower->next;
    api->followers = follower;
    (void)uv_timer_start(&api->check_timer, on_check, HTTP_FOLLOW_CHECK_MS, HTTP_FOLLOW_CHECK_MS);
    return follower;
}

/* Takes the follower. */
static enum MHD_Result respond(struct follower *follower)
{
    struct MHD_Connection *const connection = follower->connection;
    struct MHD_Response *const response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, HTTP_STREAM_BYTES, on_read, follower, on_free);

    if (!response) {
        on_free(follower);
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/x-ndjson");
    const enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

size_t follow_count(const struct api *api, uid_t uid)
{
    struct ucred peer = { 0 };
    size_t count = 0;

    for (const struct follower *follower = api->followers; follower; follower = follower->next) {
        socklen_t peer_bytes = sizeof(peer);
        if (getsockopt(follower->fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) == 0 &&
            peer.uid == uid)
            count++;
    }
    return count;
}

enum MHD_Result follow_respond(struct api *api, struct MHD_Connection *connection, uint64_t since,
                               bool is_following)
{
    struct follower *const follower = follower_new(api, connection, api->events);

    if (!follower)
        return MHD_NO;
    follower->since = since;
    if (since + 1 < events_first(api->events))
        follower->since = events_first(api->events) - 1;
    follower->last = is_following ? UINT64_MAX : events_last(api->events);
    return respond(follower);
}

enum MHD_Result follow_steps(struct api *api, struct MHD_Connection *connection)
{
    struct follower *const follower = follower_new(api, connection, api->source.steps);

    if (!follower)
        return MHD_NO;
    follower->since = events_last(api->source.steps);
    follower->last = UINT64_MAX;
    api->source.steps_begin(api->source.user);
    return respond(follower);
}

bool api_has_step_followers(const struct api *api)
{
    return api->step_followers > 0;
}

static void resume(struct follower *follower)
{
    if (!follower->is_suspended)
        return;
    follower->is_suspended = false;
    http_resume(follower->api, follower->connection);
}

/* The socket is shut rather than closed: it is libmicrohttpd's, which sees its end and cleans up.
 */
static void drop(struct follower *follower)
{
    follower->is_dropped = true;
    (void)shutdown(follower->fd, SHUT_RDWR);
    resume(follower);
}

void follow_wake(struct api *api)
{
    for (struct follower *follower = api->followers; follower; follower = follower->next)
        resume(follower);
}

void follow_check(struct api *api)
{
    for (struct follower *follower = api->followers; follower; follower = follower->next) {
        struct pollfd end = { .fd = follower->fd, .events = POLLRDHUP };
        const bool is_passed =
            !follower->is_suspended && follower->since + 1 < events_first(follower->events);
        if (is_passed || poll(&end, 1, 0) > 0)
            drop(follower);
    }
}

void follow_stop(struct api *api)
{
    follow_wake(api);
}
