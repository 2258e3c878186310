/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/input.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "batch/digest.h"

#define FIRST_ROOM 256

void input_deinit(struct input *input)
{
    for (uint64_t i = 0; i < input->count; i++)
        free(input->texts[i]);
    free(input->texts);
    free(input->hashes);
    *input = (struct input){ 0 };
}

static int grow(struct input *input)
{
    const uint64_t room = input->room ? input->room * 2 : FIRST_ROOM;

    if (input->count < input->room)
        return 0;
    char **texts = reallocarray(input->texts, room, sizeof(*texts));
    if (!texts)
        return -ENOMEM;
    input->texts = texts;
    unsigned char *hashes = reallocarray(input->hashes, room, DIGEST_BYTES);
    if (!hashes)
        return -ENOMEM;
    input->hashes = hashes;
    input->room = room;
    return 0;
}

/* Add a segment; hashed are the bytes that tell whether it is the same as last time. */
static int add(struct input *input, const char *text, size_t text_bytes, const void *hashed,
               size_t hashed_bytes)
{
    int r = grow(input);

    if (r == 0)
        r = digest_bytes(hashed, hashed_bytes, input->hashes + input->count * DIGEST_BYTES);
    if (r < 0)
        return r;
    input->texts[input->count] = strndup(text, text_bytes);
    if (!input->texts[input->count])
        return -ENOMEM;
    input->count++;
    return 0;
}

/* One UTF-8 character's length, or 0 where there is none; strict: no overlong forms, no surrogates.
 */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const unsigned char lead = text[0];
    const size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t code = length > 1 ? lead & (0xffu >> (length + 1)) : lead;

    if (length == 0 || length > left || lead > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text[i] & 0x3fu);
    }
    return code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0
                                                                                        : length;
}

static int check_line(const struct stack_batch *spec, const char *line, size_t length,
                      uint64_t number, struct error *err)
{
    json_error_t problem;

    if (length > INPUT_LINE_BYTES)
        return error_set(err, -EINVAL, "%s:%" PRIu64 ": the line has %zu bytes; at most %zu fit",
                         spec->input_path, number, length, INPUT_LINE_BYTES);
    for (size_t at = 0, step = 0; at < length; at += step) {
        step = line[at] == '\0' ? 0 : utf8_length((const unsigned char *)line + at, length - at);
        if (step == 0)
            return error_set(err, -EINVAL, "%s:%" PRIu64 ":%zu: not UTF-8 text; convert it first",
                             spec->input_path, number, at + 1);
    }
    if (spec->input != STACK_INPUT_JSONL)
        return 0;
    json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &problem);
    const int is_object = json_is_object(object);
    json_decref(object);
    if (!object)
        return error_set(err, -EINVAL, "%s:%" PRIu64 ": not JSON: %s", spec->input_path, number,
                         problem.text);
    if (!is_object)
        return error_set(err, -EINVAL,
                         "%s:%" PRIu64 ": a line must be a JSON object, like "
                         "{\"text\": \"...\"}",
                         spec->input_path, number);
    return 0;
}

static int read_lines(const struct stack_batch *spec, struct input *input, struct error *err)
{
    OWNED(freep) char *text = NULL;
    size_t text_bytes = 0;
    uint64_t number = 1;
    int r = fd_read_file(spec->input_path, INPUT_LIMIT_BYTES, &text, &text_bytes);

    if (r < 0)
        return error_set(err, r, "cannot read the input %s: %s", spec->input_path, strerror(-r));
    for (size_t at = 0; at < text_bytes; number++) {
        const char *line = text + at;
        const char *newline = memchr(line, '\n', text_bytes - at);
        size_t length = newline ? (size_t)(newline - line) : text_bytes - at;
        at += length + 1;
        if (length > 0 && line[length - 1] == '\r')
            length--;
        if (strspn(line, " \t\r\f\v") >= length)
            continue;
        r = check_line(spec, line, length, number, err);
        if (r < 0)
            return r;
        if (input->count == INPUT_SEGMENT_MAX)
            return error_set(err, -EINVAL, "%s has more than %d segments", spec->input_path,
                             INPUT_SEGMENT_MAX);
        if (add(input, line, length, line, length) < 0)
            return error_set(err, -ENOMEM, "%s: out of memory", spec->input_path);
    }
    return 0;
}

static int add_file(struct input *input, const char *path, struct error *err)
{
    OWNED(freep) char *identity = NULL;
    struct stat info = { 0 };

    if (stat(path, &info) < 0)
        return error_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return 0;
    for (size_t at = 0, length = strlen(path), step = 0; at < length; at += step) {
        step = utf8_length((const unsigned char *)path + at, length - at);
        if (step == 0)
            return error_set(err, -EINVAL, "the name of %s is not UTF-8; rename it", path);
    }
    const int length = asprintf(&identity, "%s\n%jd\n%jd.%09ld", path, (intmax_t)info.st_size,
                                (intmax_t)info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
    if (length < 0 || add(input, path, strlen(path), identity, (size_t)length) < 0)
        return error_set(err, -ENOMEM, "%s: out of memory", path);
    return 0;
}

static int read_files(const struct stack_batch *spec, struct input *input, struct error *err)
{
    glob_t found = { 0 };
    int r = 0;

    const int result = glob(spec->input_path, GLOB_ERR, NULL, &found);
    if (result == GLOB_NOMATCH)
        r = error_set(err, -ENOENT, "no file matches %s", spec->input_path);
    else if (result != 0)
        r = error_set(err, -EIO, "cannot look for %s: %s", spec->input_path,
                      result == GLOB_NOSPACE ? "out of memory" : "a directory cannot be read");
    for (size_t i = 0; r == 0 && i < found.gl_pathc; i++)
        r = add_file(input, found.gl_pathv[i], err);
    globfree(&found);
    return r;
}

int input_read(const struct stack_batch *spec, struct input *ret_input, struct error *err)
{
    OWNED(input_deinit) struct input input = { 0 };
    int r = 0;

    if (spec->input == STACK_INPUT_FILES)
        r = read_files(spec, &input, err);
    else
        r = read_lines(spec, &input, err);
    if (r < 0)
        return r;
    if (input.count == 0)
        return error_set(err, -EINVAL, "the input %s is empty: there is nothing to do",
                         spec->input_path);
    *ret_input = input;
    input = (struct input){ 0 };
    return 0;
}
