/* SPDX-License-Identifier: Apache-2.0 */

#include "api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "api/http.h"
#include "base/cleanup.h"
#include "base/fd.h"

/*
 * libmicrohttpd in somebody else's loop: it puts its sockets into an epoll set of its own, whose
 * descriptor is watched here, and tells when it wants to be called for a time-out. It runs inside
 * serve(), nowhere else, and never blocks.
 */

static void serve(struct api *api);

static void on_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    serve(poll->data);
}

static void on_time(uv_timer_t *timer)
{
    serve(timer->data);
}

static bool is_full(struct api *api)
{
    const union MHD_DaemonInfo *const info =
        MHD_get_daemon_info(api->http, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

    return info && info->num_connections >= HTTP_CONNECTION_MAX;
}

static void serve(struct api *api)
{
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;
    const bool was_full = is_full(api);

    api->is_resuming = false;
    (void)MHD_run(api->http);
    /* At its limit libmicrohttpd stops listening, and begins again only when it runs once more
     * after the run that made room. */
    if (was_full && !is_full(api))
        (void)MHD_run(api->http);
    if (api->is_resuming)
        (void)uv_timer_start(&api->timer, on_time, 0, 0);
    else if (MHD_get_timeout(api->http, &wait_ms) == MHD_YES)
        (void)uv_timer_start(&api->timer, on_time, wait_ms, 0);
    else
        (void)uv_timer_stop(&api->timer);
}

void http_resume(struct api *api, struct MHD_Connection *connection)
{
    MHD_resume_connection(connection);
    api->is_resuming = true;
    if (!api->is_closing)
        (void)uv_timer_start(&api->timer, on_time, 0, 0);
}

static void on_append(void *user)
{
    follow_wake(user);
}

static struct MHD_Daemon *start_http(struct api *api, int listen_fd)
{
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, http_request,
                            api, MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)HTTP_CONNECTION_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)HTTP_HEAD_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
                            (unsigned)HTTP_IDLE_SECONDS, MHD_OPTION_NOTIFY_COMPLETED,
                            http_request_end, api, MHD_OPTION_END);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct api *const api = handle->data;

    if (--api->open_handles > 0)
        return;
    void (*const on_closed)(void *user) = api->on_closed;
    void *const user = api->on_closed_user;
    free(api);
    if (on_closed)
        on_closed(user);
}

static void open_handle(struct api *api, void *handle)
{
    ((uv_handle_t *)handle)->data = api;
    api->open_handles++;
}

int api_open(uv_loop_t *loop, int take_listen_fd, const struct api_source *source,
             struct events *events, struct api **ret_api, struct error *err)
{
    /* libmicrohttpd may or may not close its descriptor when it fails: it gets one of its own. */
    int listen_fd = fcntl(take_listen_fd, F_DUPFD_CLOEXEC, 3);
    struct api *const api = calloc(1, sizeof(*api));

    if (!api || listen_fd < 0) {
        fd_close(&listen_fd);
        free(api);
        return error_set(err, -ENOMEM, "the API: out of memory or descriptors");
    }
    api->source = *source;
    api->events = events;
    api->http = start_http(api, listen_fd);
    const union MHD_DaemonInfo *const info =
        api->http ? MHD_get_daemon_info(api->http, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info || uv_poll_init(loop, &api->poll, info->epoll_fd) < 0) {
        if (api->http)
            MHD_stop_daemon(api->http);
        free(api);
        return error_set(err, -EIO, "the API: libmicrohttpd cannot serve the socket");
    }
    open_handle(api, &api->poll);
    (void)uv_timer_init(loop, &api->timer);
    open_handle(api, &api->timer);
    (void)uv_timer_init(loop, &api->check_timer);
    open_handle(api, &api->check_timer);
    (void)uv_poll_start(&api->poll, UV_READABLE, on_ready);
    events_listen(events, on_append, api);
    if (source->steps)
        events_listen(source->steps, on_append, api);
    serve(api);
    fd_close(&take_listen_fd);
    *ret_api = api;
    return 0;
}

void api_close(struct api *api, void (*on_closed)(void *user), void *user)
{
    api->is_closing = true;
    api->on_closed = on_closed;
    api->on_closed_user = user;
    events_listen(api->events, NULL, api);
    if (api->source.steps)
        events_listen(api->source.steps, NULL, api);
    follow_stop(api);
    http_request_stop(api);
    (void)uv_poll_stop(&api->poll);
    MHD_stop_daemon(api->http);
    uv_close((uv_handle_t *)&api->poll, on_handle_closed);
    uv_close((uv_handle_t *)&api->timer, on_handle_closed);
    uv_close((uv_handle_t *)&api->check_timer, on_handle_closed);
}

/* The length of the UTF-8 sequence that starts here, 0 where none does. Overlong forms, surrogates
 * and what lies beyond U+10FFFF are left to jansson, which refuses them. */
static size_t sequence_length(const unsigned char *text)
{
    const size_t length = text[0] < 0x80             ? 1
                          : (text[0] & 0xe0) == 0xc0 ? 2
                          : (text[0] & 0xf0) == 0xe0 ? 3
                          : (text[0] & 0xf8) == 0xf0 ? 4
                                                     : 0;

    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    return length;
}

json_t *api_text(const char *text)
{
    json_t *json = text ? json_string(text) : json_null();

    if (json)
        return json;
    OWNED(freep) char *copy = strdup(text);
    if (!copy)
        return NULL;
    for (char *at = copy; *at;) {
        const size_t length = sequence_length((const unsigned char *)at);
        json = length > 0 ? json_stringn(at, length) : NULL;
        if (json) {
            at += length;
        } else {
            *at++ = '?';
        }
        json_decref(json);
    }
    return json_string(copy);
}
