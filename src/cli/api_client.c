/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/api_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/paths.h"
#include "client/daemon.h"

#define ANSWER_MAX_BYTES (64u << 20)
#define LAST_WORDS_MS    1000 /* who says enough reads on for so long if it must */

/* What has come of an answer. A stream hands on whole lines and keeps the rest. */
struct answer {
    char *text; /* owned */
    size_t bytes, room;
    CURL *curl;                                   /* borrowed */
    int (*on_object)(void *user, json_t *object); /* NULL: collect */
    bool (*is_over)(void *user);                  /* NULL: when the daemon ends it */
    uint64_t over_since_ms;                       /* 0: not yet */
    void *user;
    int stopped; /* what on_object returned, or -errno */
};

static int append(struct answer *answer, const char *data, size_t bytes)
{
    if (bytes >= ANSWER_MAX_BYTES - answer->bytes)
        return -EFBIG;
    if (answer->bytes + bytes + 1 > answer->room) {
        const size_t room = (answer->bytes + bytes + 1) * 2;
        char *const text = realloc(answer->text, room);
        if (!text)
            return -ENOMEM;
        answer->text = text;
        answer->room = room;
    }
    memcpy(answer->text + answer->bytes, data, bytes);
    answer->bytes += bytes;
    answer->text[answer->bytes] = '\0';
    return 0;
}

static int hand_on_lines(struct answer *answer)
{
    size_t start = 0;

    for (;;) {
        char *const line = answer->text + start;
        char *const end = memchr(line, '\n', answer->bytes - start);
        if (!end)
            break;
        json_t *const object = json_loadb(line, (size_t)(end - line), 0, NULL);
        if (!object)
            return -EPROTO;
        const int r = answer->on_object(answer->user, object);
        json_decref(object);
        if (r < 0)
            return r;
        start = (size_t)(end - answer->text) + 1;
    }
    answer->bytes -= start;
    memmove(answer->text, answer->text + start, answer->bytes + 1);
    return 0;
}

static size_t on_data(char *data, size_t size, size_t count, void *user)
{
    struct answer *const answer = user;
    long status = 0;
    int r = append(answer, data, size * count);

    (void)curl_easy_getinfo(answer->curl, CURLINFO_RESPONSE_CODE, &status);
    if (r == 0 && answer->on_object && status == 200)
        r = hand_on_lines(answer);
    answer->stopped = r;
    return r < 0 ? 0 : size * count;
}

static int no_daemon(struct error *err)
{
    return error_set(err, -ESRCH, "no daemon runs; `brim run` or `brim daemon start` starts one");
}

/* A status other than 200 carries the reason as {"error": "…"}. */
static int read_refusal(const struct answer *answer, long status, struct error *err)
{
    json_t *const json = answer->text ? json_loads(answer->text, 0, NULL) : NULL;
    const char *const text = json_string_value(json_object_get(json, "error"));
    const int code = status == 404   ? -ENOENT
                     : status == 400 ? -EINVAL
                     : status == 403 ? -EPERM
                                     : -EREMOTEIO;

    if (text)
        (void)error_set(err, code, "%s", text);
    else
        (void)error_set(err, code, "the daemon answered with status %ld and no reason", status);
    json_decref(json);
    return code;
}

static int read_failure(CURLcode code, const struct answer *answer, const char *socket_path,
                        struct error *err)
{
    if (code == CURLE_COULDNT_CONNECT)
        return no_daemon(err);
    if (code == CURLE_WRITE_ERROR && answer->stopped < 0)
        return error_set(err, answer->stopped, "reading the daemon's answer: %s",
                         strerror(-answer->stopped));
    if (code == CURLE_OPERATION_TIMEDOUT)
        return error_set(err, -EIO,
                         "the daemon at %s does not answer; see brimd.log in the state directory",
                         socket_path);
    if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY)
        return error_set(err, -EPROTO, "what listens at %s is not brimd", socket_path);
    return error_set(err, -EIO, "the daemon at %s went away: %s", socket_path,
                     curl_easy_strerror(code));
}

/* Called whenever something comes, and about once a second. Not 0: enough, and what had come before
 * was read. */
static int on_progress(void *user, curl_off_t down_all, curl_off_t down, curl_off_t up_all,
                       curl_off_t up)
{
    struct answer *const answer = user;
    curl_socket_t fd = CURL_SOCKET_BAD;

    (void)down_all;
    (void)down;
    (void)up_all;
    (void)up;
    if (!answer->is_over(answer->user))
        return 0;
    if (answer->over_since_ms == 0)
        answer->over_since_ms = clock_now_ms();
    (void)curl_easy_getinfo(answer->curl, CURLINFO_ACTIVESOCKET, &fd);
    struct pollfd more = { .fd = fd, .events = POLLIN };
    return fd == CURL_SOCKET_BAD || poll(&more, 1, 0) <= 0 ||
           clock_now_ms() - answer->over_since_ms > LAST_WORDS_MS;
}

static void set_options(CURL *curl, const char *socket_path, const char *url, const char *body,
                        struct answer *answer)
{
    (void)curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* whatever the environment says */
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)API_CLIENT_PATIENCE_S);
    if (!answer->on_object)
        (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)API_CLIENT_PATIENCE_S);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (answer->is_over) {
        (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, answer);
    }
    if (body) {
        (void)curl_easy_setopt(curl, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    }
}

static int perform(const char *target, const char *body, struct answer *answer, struct error *err)
{
    char directory[PATHS_BYTES], socket_path[PATHS_SOCKET_BYTES], url[2048];
    long status = 0;
    int r = daemon_runtime_dir(directory, err);

    if (r < 0 || paths_join(socket_path, sizeof(socket_path), directory, PATHS_API_SOCKET, err) < 0)
        return r < 0 ? r : -ENAMETOOLONG;
    if (snprintf(url, sizeof(url), "http://brim%s", target) >= (int)sizeof(url))
        return error_set(err, -EINVAL, "the name is too long");
    CURL *const curl = curl_easy_init();
    if (!curl)
        return error_set(err, -ENOMEM, "out of memory");
    answer->curl = curl;
    set_options(curl, socket_path, url, body, answer);
    const CURLcode code = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    if (answer->is_over && code == CURLE_ABORTED_BY_CALLBACK)
        return 0;
    if (code != CURLE_OK && !(answer->on_object && code == CURLE_PARTIAL_FILE))
        return read_failure(code, answer, socket_path, err);
    if (status != 200)
        return read_refusal(answer, status, err);
    return 0;
}

static int ask(const char *target, const char *body, json_t **ret_json, struct error *err)
{
    struct answer answer = { 0 };
    int r = perform(target, body, &answer, err);

    if (r == 0) {
        json_t *const json = json_loadb(answer.text ? answer.text : "", answer.bytes, 0, NULL);
        if (json)
            *ret_json = json;
        else /* jansson does not tell one from the other */
            r = error_set(err, -EPROTO, "the daemon's answer is not JSON, or memory is out");
    }
    free(answer.text);
    return r;
}

int api_get(const char *target, json_t **ret_json, struct error *err)
{
    return ask(target, NULL, ret_json, err);
}

int api_post(const char *target, const json_t *body, json_t **ret_json, struct error *err)
{
    OWNED(freep) char *text = body ? json_dumps(body, JSON_COMPACT) : strdup("");

    if (!text)
        return error_set(err, -ENOMEM, "out of memory, or a name that is not UTF-8");
    return ask(target, text, ret_json, err);
}

int api_follow(const char *target, int (*on_object)(void *user, json_t *object), void *user,
               struct error *err)
{
    struct answer answer = { .on_object = on_object, .user = user };
    const int r = perform(target, NULL, &answer, err);

    free(answer.text);
    return r;
}

int api_follow_until(const char *target, int (*on_object)(void *user, json_t *object),
                     bool (*is_over)(void *user), void *user, struct error *err)
{
    struct answer answer = { .on_object = on_object, .is_over = is_over, .user = user };
    const int r = perform(target, NULL, &answer, err);

    free(answer.text);
    return r;
}

char *api_escape(const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *const out = malloc(strlen(text) * 3 + 1);
    size_t used = 0;

    if (!out)
        return NULL;
    for (; *text; text++) {
        const unsigned char byte = (unsigned char)*text;
        const bool is_plain = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                              (byte >= 'a' && byte <= 'z') || strchr("-._~", byte);
        if (is_plain) {
            out[used++] = (char)byte;
            continue;
        }
        out[used++] = '%';
        out[used++] = hex[byte >> 4];
        out[used++] = hex[byte & 15];
    }
    out[used] = '\0';
    return out;
}
