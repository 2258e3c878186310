/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/answer.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define SHOWN_BYTES 60

static void json_put(json_t **value)
{
    json_decref(*value);
    *value = NULL;
}

/* The beginning of a foreign line, without what a terminal would act on. */
static const char *shown(const char *line, size_t line_bytes, char text[SHOWN_BYTES + 4])
{
    size_t used = 0;

    for (; used < line_bytes && used < SHOWN_BYTES; used++) {
        const unsigned char byte = (unsigned char)line[used];
        text[used] = byte < 0x20 || byte >= 0x7f ? '?' : (char)byte;
    }
    (void)snprintf(text + used, 4, "%s", used < line_bytes ? "..." : "");
    return text;
}

static int read_number(const json_t *value, uint64_t *ret_number)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return -EPROTO;
    *ret_number = (uint64_t)json_integer_value(value);
    return 0;
}

static int read_flag(json_t *object, const char *name, bool *ret_flag)
{
    json_t *value = json_object_get(object, name);

    if (value && !json_is_boolean(value))
        return -EPROTO;
    *ret_flag = json_is_true(value);
    return 0;
}

static int read_ready(json_t *object, struct answer *answer)
{
    /* Members that a later worker may announce are none of ours and do no harm. */
    if (!json_is_true(json_object_get(object, "ready")) ||
        read_flag(object, "flush", &answer->can_flush) < 0 ||
        read_flag(object, "heartbeat", &answer->has_heartbeat) < 0)
        return -EPROTO;
    return read_flag(object, "asks", &answer->asks);
}

static int read_failed(json_t *object, struct answer *answer)
{
    const json_t *reason = json_object_get(object, "reason");

    if (json_object_size(object) > 1 + (reason ? 1U : 0U) || (reason && !json_is_string(reason)))
        return -EPROTO;
    if (reason)
        (void)snprintf(answer->reason, sizeof(answer->reason), "%s", json_string_value(reason));
    for (char *at = answer->reason; *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = ' ';
    }
    return read_number(json_object_get(object, "failed"), &answer->number);
}

static int read_object(json_t *object, struct answer *answer)
{
    static const struct {
        const char *name;
        enum answer_kind kind;
    } kinds[] = {
        { "ready", ANSWER_READY },         { "burst", ANSWER_BURST },
        { "done", ANSWER_DONE },           { "failed", ANSWER_FAILED },
        { "heartbeat", ANSWER_HEARTBEAT }, { "flushed", ANSWER_FLUSHED },
    };
    json_t *value = NULL;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && !value; i++) {
        value = json_object_get(object, kinds[i].name);
        answer->kind = kinds[i].kind;
    }
    if (!value)
        return -EPROTO;
    if (answer->kind == ANSWER_READY)
        return read_ready(object, answer);
    if (answer->kind == ANSWER_FAILED)
        return read_failed(object, answer);
    if (json_object_size(object) != 1)
        return -EPROTO;
    if (answer->kind == ANSWER_FLUSHED) {
        answer->is_good = json_is_true(value);
        return json_is_boolean(value) ? 0 : -EPROTO;
    }
    return answer->kind == ANSWER_HEARTBEAT ? 0 : read_number(value, &answer->number);
}

int answer_parse(const char *line, size_t line_bytes, struct answer *ret_answer, struct error *err)
{
    OWNED(json_put) json_t *object = NULL;
    struct answer answer = { 0 };
    json_error_t problem;
    char text[SHOWN_BYTES + 4];

    object = json_loadb(line, line_bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!object && problem.text[0] == '\0') /* jansson has nothing to say against the line itself */
        return error_set(err, -ENOMEM, "out of memory");
    if (!object)
        return error_set(err, -EPROTO, "a line that is no JSON: '%s'",
                         shown(line, line_bytes, text));
    if (!json_is_object(object) || read_object(object, &answer) < 0)
        return error_set(err, -EPROTO, "a line that is no answer of a worker: '%s'",
                         shown(line, line_bytes, text));
    *ret_answer = answer;
    return 0;
}

/* The object as a line; takes it over. */
static char *take_line(json_t *take_object)
{
    OWNED(json_put) json_t *object = take_object;
    OWNED(freep) char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    char *line = NULL;

    if (!text || asprintf(&line, "%s\n", text) < 0)
        return NULL;
    return line;
}

char *request_segment(uint64_t index, const char *id, const char *input, bool is_json,
                      const char *out)
{
    json_t *value = is_json ? json_loads(input, JSON_REJECT_DUPLICATES, NULL) : json_string(input);

    if (!value)
        return NULL;
    return take_line(json_pack("{s:I, s:s, s:o, s:s}", "segment", (json_int_t)index, "id", id,
                               "input", value, "out", out));
}

char *request_granted(uint64_t bytes)
{
    return take_line(json_pack("{s:I}", "granted", (json_int_t)bytes));
}

char *request_refused(const char *why)
{
    return take_line(json_pack("{s:s}", "refused", why));
}

char *request_flush(void)
{
    return take_line(json_pack("{s:i}", "flush", 1));
}

char *request_stop(const char *why)
{
    return take_line(json_pack("{s:s}", "stop", why));
}
