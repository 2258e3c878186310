/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http.h"
#include "base/cleanup.h"

/*
 * One request: who asks, is it allowed, which route, what to answer. libmicrohttpd calls
 * http_request() once when the head is there, once for each piece of the body, and once at its end;
 * only then is the route called. What does not fit the limits is answered, or the connection
 * closed, before that.
 *
 *   head -> body -> route -> answered
 *                    |  ^
 *      wait_for_facts|  |on_fresh, http_request_stop
 *                    v  |
 *                  suspended
 *
 * The daemon calls on_fresh() once whatever happens, so its context is a ticket that outlives the
 * request.
 */

#define PATH_TEXT_BYTES 128 /* of a client's path, in an answer */

struct ticket {
    struct request *request; /* borrowed; NULL: it is gone, or waits no more */
};

struct request {
    struct request *next;  /* in api->waiting */
    struct ticket *ticket; /* borrowed: while it waits */
    bool is_fresh;         /* it has waited */
    struct MHD_Connection *connection;
    struct api *api;
    struct api_peer peer;
    const char *argument; /* what follows a route's path; borrowed from libmicrohttpd */
    size_t body_bytes;
    char body[HTTP_BODY_BYTES];
};

struct route {
    const char *method;
    const char *path;
    bool has_argument; /* /v1/why or /v1/why/ARGUMENT */
    bool is_of_facts; /* the answer is only as good as the driver's figures: waits for fresh ones */
    const char *usage; /* for the list of routes */
    /* NULL: the event stream, which makes its own response. */
    int (*answer)(const struct request *request, json_t **ret_json, struct error *err);
};

static int query_number(const struct request *request, const char *name, uint64_t *ret_number,
                        struct error *err)
{
    const char *const text =
        MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
    uint64_t number = 0;

    if (!text)
        return -ENOENT;
    for (const char *digit = text; *digit || digit == text; digit++) {
        if (*digit < '0' || *digit > '9' || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*digit - '0'), &number))
            return error_set(err, -EINVAL, "%s: '%.40s' is not a whole number of 64 bits", name,
                             text);
    }
    *ret_number = number;
    return 0;
}

static int answer_status(const struct request *request, json_t **ret_json, struct error *err)
{
    const struct api_source *const source = &request->api->source;

    return source->status(source->user, &request->peer, ret_json, err);
}

static int answer_why(const struct request *request, json_t **ret_json, struct error *err)
{
    const struct api_source *const source = &request->api->source;
    json_t *const text = json_string(request->argument); /* NULL: no UTF-8 */

    json_decref(text);
    if (!text)
        return error_set(err, -EINVAL, "/v1/why/WHAT: WHAT is not UTF-8");
    return source->why(source->user, &request->peer, request->argument, ret_json, err);
}

static int answer_fit(const struct request *request, json_t **ret_json, struct error *err)
{
    const struct api_source *const source = &request->api->source;
    uint64_t resident_bytes = 0, burst_bytes = 0;
    int r = query_number(request, "resident", &resident_bytes, err);

    if (r == -ENOENT)
        return error_set(err, -EINVAL, "resident is missing: /v1/fit?resident=BYTES&burst=BYTES");
    if (r == 0)
        r = query_number(request, "burst", &burst_bytes, err);
    if (r < 0 && r != -ENOENT)
        return r;
    const char *const gpu =
        MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "gpu");
    return source->fit(source->user, resident_bytes, burst_bytes, gpu && *gpu ? gpu : NULL,
                       ret_json, err);
}

/* {"name": "…"} or {"id": "l7"}: whose name or id it is. */
static int body_name(const struct request *request, json_t **ret_body, const char **ret_name,
                     struct error *err)
{
    json_error_t json_error;
    const char *name = NULL, *id = NULL;
    json_t *const body =
        json_loadb(request->body, request->body_bytes, JSON_REJECT_DUPLICATES, &json_error);

    if (!body)
        return error_set(err, -EINVAL, "the body is not JSON: %s (line %d, column %d)",
                         json_error.text, json_error.line, json_error.column);
    if (json_unpack_ex(body, &json_error, 0, "{s?s s?s !}", "name", &name, "id", &id) < 0 ||
        !name == !id || strlen(name ? name : id) >= EVENT_NAME_BYTES) {
        json_decref(body);
        return error_set(err, -EINVAL, "the body must be {\"name\": \"NAME\"} or {\"id\": \"l7\"}");
    }
    *ret_body = body;
    *ret_name = name ? name : id;
    return 0;
}

static int call_with_name(const struct request *request,
                          int (*function)(void *user, const struct api_peer *peer, const char *name,
                                          json_t **ret_json, struct error *err),
                          json_t **ret_json, struct error *err)
{
    json_t *body = NULL;
    const char *name = NULL;
    int r = body_name(request, &body, &name, err);

    if (r < 0)
        return r;
    r = function(request->api->source.user, &request->peer, name, ret_json, err);
    json_decref(body);
    return r;
}

static int answer_stop(const struct request *request, json_t **ret_json, struct error *err)
{
    return call_with_name(request, request->api->source.stop, ret_json, err);
}

static int answer_trim(const struct request *request, json_t **ret_json, struct error *err)
{
    return call_with_name(request, request->api->source.trim, ret_json, err);
}

static int answer_note(const struct request *request, json_t **ret_json, struct error *err)
{
    const struct api_source *const source = &request->api->source;
    json_t *const body = json_loadb(request->body, request->body_bytes, 0, NULL);
    const char *text = NULL;
    int r = 0;

    if (json_unpack(body, "{s:s !}", "text", &text) < 0 || *text == '\0')
        r = error_set(err, -EINVAL, "the body must be {\"text\": \"WHAT HAPPENED\"}");
    else
        r = source->note(source->user, &request->peer, text, ret_json, err);
    json_decref(body);
    return r;
}

static int answer_shutdown(const struct request *request, json_t **ret_json, struct error *err)
{
    const struct api_source *const source = &request->api->source;

    return source->shutdown(source->user, &request->peer, ret_json, err);
}

static const struct route routes[] = {
    { "GET", "/v1/status", false, true, "", answer_status },
    { "GET", "/v1/why", true, false, "[/WHAT]", answer_why },
    { "GET", "/v1/fit", false, true, "?resident=N&burst=N&gpu=G", answer_fit },
    { "GET", "/v1/events", false, false, "?since=N&last=N&follow=1", NULL },
    { "GET", "/v1/steps", false, true, "", NULL },
    { "POST", "/v1/stop", false, false, " {\"name\": \"NAME\"}", answer_stop },
    { "POST", "/v1/trim", false, false, " {\"name\": \"NAME\"}", answer_trim },
    { "POST", "/v1/note", false, false, " {\"text\": \"…\"}", answer_note },
    { "POST", "/v1/shutdown", false, false, "", answer_shutdown },
};

#define ROUTE_COUNT (sizeof(routes) / sizeof(routes[0]))

static const struct route *find_route(const char *path, const char **ret_argument)
{
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        const size_t length = strlen(routes[i].path);
        if (strncmp(path, routes[i].path, length) != 0)
            continue;
        if (path[length] == '\0') {
            *ret_argument = "";
            return &routes[i];
        }
        if (routes[i].has_argument && path[length] == '/' && path[length + 1] != '\0') {
            *ret_argument = path + length + 1;
            return &routes[i];
        }
    }
    return NULL;
}

/* Takes the text. */
static enum MHD_Result respond_text(struct MHD_Connection *connection, unsigned status, char *text,
                                    const char *allow)
{
    struct MHD_Response *const response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);

    if (!response) {
        free(text);
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    if (allow)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
    const enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

/* Takes the JSON; NULL (memory is out) ends the connection. */
static enum MHD_Result respond_json(struct MHD_Connection *connection, unsigned status,
                                    json_t *take_json, const char *allow)
{
    char *const text = take_json ? json_dumps(take_json, JSON_COMPACT) : NULL;

    json_decref(take_json);
    return text ? respond_text(connection, status, text, allow) : MHD_NO;
}

static enum MHD_Result respond_error(struct MHD_Connection *connection, unsigned status,
                                     const char *message)
{
    return respond_json(connection, status, json_pack("{so}", "error", api_text(message)), NULL);
}

static enum MHD_Result respond_unknown(struct MHD_Connection *connection, const char *path)
{
    char message[PATH_TEXT_BYTES + 32];
    json_t *const list = json_array();

    for (size_t i = 0; i < ROUTE_COUNT; i++)
        (void)json_array_append_new(
            list, json_sprintf("%s %s%s", routes[i].method, routes[i].path, routes[i].usage));
    (void)snprintf(message, sizeof(message), "there is no %.*s here", PATH_TEXT_BYTES, path);
    return respond_json(connection, MHD_HTTP_NOT_FOUND,
                        json_pack("{so so}", "error", api_text(message), "paths", list), NULL);
}

static enum MHD_Result respond_wrong_method(struct MHD_Connection *connection,
                                            const struct route *route)
{
    return respond_json(
        connection, MHD_HTTP_METHOD_NOT_ALLOWED,
        json_pack("{so}", "error", json_sprintf("%s takes %s only", route->path, route->method)),
        route->method);
}

static unsigned status_of(int code)
{
    switch (code) {
    case -ENOENT:
        return MHD_HTTP_NOT_FOUND;
    case -EINVAL:
        return MHD_HTTP_BAD_REQUEST;
    case -EPERM:
        return MHD_HTTP_FORBIDDEN;
    default:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

static enum MHD_Result respond_events(const struct request *request)
{
    const struct events *const events = request->api->events;
    const char *const follow =
        MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "follow");
    struct error err = { 0 };
    uint64_t since = 0, last = UINT64_MAX;

    if (query_number(request, "since", &since, &err) == -EINVAL ||
        query_number(request, "last", &last, &err) == -EINVAL)
        return respond_error(request->connection, MHD_HTTP_BAD_REQUEST, err.message);
    if (last != UINT64_MAX && events_since_newest(events, last) > since)
        since = events_since_newest(events, last);
    return follow_respond(request->api, request->connection, since,
                          follow && strcmp(follow, "1") == 0);
}

static enum MHD_Result respond_steps(const struct request *request)
{
    if (!request->api->source.steps)
        return respond_error(request->connection, MHD_HTTP_NOT_FOUND, "no steps are told here");
    return follow_steps(request->api, request->connection);
}

/* A stream takes a connection for as long as it likes: nobody may have all there are. */
static bool has_enough_streams(const struct request *request)
{
    return request->api->source.is_for_other_uids &&
           follow_count(request->api, request->peer.uid) >= HTTP_FOLLOW_USER_MAX;
}

static enum MHD_Result respond_route(const struct request *request, const struct route *route)
{
    struct error err = { .message = "the daemon is out of memory" };
    json_t *json = NULL;

    if (!route->answer && has_enough_streams(request))
        return respond_error(request->connection, MHD_HTTP_TOO_MANY_REQUESTS,
                             "you have as many streams as one user may have");
    if (!route->answer && strcmp(route->path, "/v1/steps") == 0)
        return respond_steps(request);
    if (!route->answer)
        return respond_events(request);
    const int r = route->answer(request, &json, &err);
    if (r < 0 || !json)
        return respond_error(request->connection, status_of(r), err.message);
    return respond_json(request->connection, MHD_HTTP_OK, json, NULL);
}

static void end_wait(struct request *request)
{
    struct request **at = &request->api->waiting;

    while (*at && *at != request)
        at = &(*at)->next;
    if (*at)
        *at = request->next;
    request->ticket->request = NULL;
    request->ticket = NULL;
    request->is_fresh = true;
}

static void on_fresh(void *context)
{
    OWNED(freep) struct ticket *ticket = context;
    struct request *const request = ticket->request;

    if (!request)
        return;
    end_wait(request);
    http_resume(request->api, request->connection);
}

/* false: the facts are fresh, or cannot be waited for. */
static bool wait_for_facts(struct request *request)
{
    const struct api_source *const source = &request->api->source;
    struct ticket *const ticket = calloc(1, sizeof(*ticket));

    if (!ticket)
        return false;
    if (source->refresh(source->user, on_fresh, ticket)) {
        free(ticket);
        return false;
    }
    ticket->request = request;
    request->ticket = ticket;
    request->next = request->api->waiting;
    request->api->waiting = request;
    MHD_suspend_connection(request->connection);
    return true;
}

void http_request_stop(struct api *api)
{
    while (api->waiting) {
        struct request *const request = api->waiting;
        end_wait(request);
        http_resume(request->api, request->connection);
    }
}

/* A unix socket's peer, as the kernel noted it when the peer connected. */
static int read_peer(struct MHD_Connection *connection, struct api_peer *ret_peer)
{
    const union MHD_ConnectionInfo *const info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred credentials = { 0 };
    socklen_t bytes = sizeof(credentials);

    if (!info)
        return -EIO;
    if (getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) < 0)
        return -errno;
    *ret_peer = (struct api_peer){ .uid = credentials.uid, .pid = credentials.pid };
    return 0;
}

static bool is_allowed(const struct api *api, const struct api_peer *peer)
{
    return api->source.is_for_other_uids || peer->uid == getuid() || peer->uid == 0;
}

/* The head is there: refuse what needs no body to be refused, else make room for one. */
static enum MHD_Result begin_request(struct api *api, struct MHD_Connection *connection,
                                     void **state)
{
    const char *const length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    struct api_peer peer = { 0 };

    if (read_peer(connection, &peer) < 0)
        return MHD_NO;
    if (!is_allowed(api, &peer))
        return respond_error(
            connection, MHD_HTTP_FORBIDDEN,
            "this daemon serves its own user only; `brim run` starts one of yours");
    /* libmicrohttpd has checked that it is a number. */
    if (length && strtoull(length, NULL, 10) > HTTP_BODY_BYTES)
        return respond_error(connection, MHD_HTTP_CONTENT_TOO_LARGE,
                             "the body is too large: at most 16384 bytes");
    struct request *const request = malloc(sizeof(*request));
    if (!request)
        return MHD_NO;
    /* Not calloc: the body's room is written before it is read. */
    request->next = NULL;
    request->ticket = NULL;
    request->is_fresh = false;
    request->connection = connection;
    request->api = api;
    request->peer = peer;
    request->argument = NULL;
    request->body_bytes = 0;
    *state = request;
    return MHD_YES;
}

/* NOLINTNEXTLINE(readability-function-size): the form is libmicrohttpd's */
enum MHD_Result http_request(void *user, struct MHD_Connection *connection, const char *path,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_bytes, void **state)
{
    struct request *const request = *state;

    (void)version;
    if (!request)
        return begin_request(user, connection, state);
    if (*upload_bytes > 0) {
        /* A chunked body tells its size by and by: one that grows too large ends here. */
        if (*upload_bytes > sizeof(request->body) - request->body_bytes)
            return MHD_NO;
        memcpy(request->body + request->body_bytes, upload, *upload_bytes);
        request->body_bytes += *upload_bytes;
        *upload_bytes = 0;
        return MHD_YES;
    }
    const struct route *const route = find_route(path, &request->argument);
    if (!route)
        return respond_unknown(connection, path);
    if (strcmp(method, route->method) != 0)
        return respond_wrong_method(connection, route);
    if (route->is_of_facts && request->api->source.refresh && !request->is_fresh &&
        wait_for_facts(request))
        return MHD_YES;
    return respond_route(request, route);
}

void http_request_end(void *user, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode reason)
{
    struct request *const request = *state;

    (void)user;
    (void)connection;
    (void)reason;
    if (request && request->ticket)
        end_wait(request);
    free(request);
    *state = NULL;
}
