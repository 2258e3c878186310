/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The worker's side of the worker protocol: libbrim's small JSON reader. The first byte says
 * whether the bytes are a line of a stranger, or texts that a batch writes into a line of its own:
 * such a line is read, and holds what was written.
 */

#include "client/flat.h"

#include <jansson.h>

#include "batch/answer.h"
#include "fuzz.h"

#define QUOTED_BYTES 4096

static void check_members(const struct flat *flat, const char *line, size_t line_bytes)
{
    FUZZ_MUST(flat->count <= FLAT_MEMBER_MAX);
    for (size_t i = 0; i < flat->count; i++) {
        const struct flat_member *const member = &flat->members[i];
        FUZZ_MUST(member->key >= line && member->key < line + line_bytes);
        FUZZ_MUST(member->text >= line && member->text < line + line_bytes);
        FUZZ_MUST(strlen(member->key) + strlen(member->text) <= line_bytes);
        FUZZ_MUST(flat_find(flat, member->key, member->kind) == member->text);
    }
}

/* Whoever else reads JSON strictly agrees that it is one object. */
static void check_stranger(const uint8_t *bytes, size_t byte_count)
{
    char *const line = fuzz_text(bytes, byte_count);
    struct flat flat;

    if (flat_parse(line, byte_count, &flat) == 0) {
        json_t *const object = json_loadb((const char *)bytes, byte_count,
                                          JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
        check_members(&flat, line, byte_count);
        FUZZ_MUST(!object || json_object_size(object) == flat.count);
        json_decref(object);
    }
    free(line);
}

static void check_written(struct fuzz_input *input)
{
    const size_t id_bytes = fuzz_byte(input) < input->left ? input->left / 2 : input->left;
    char *const id = fuzz_text(input->at, id_bytes);
    char *const text = fuzz_text(input->at + id_bytes, input->left - id_bytes);
    char *const line = request_segment(12, id, text, false, "/out/12.wav");
    char quoted[QUOTED_BYTES];
    struct flat flat;

    if (line) {
        const size_t line_bytes = strcspn(line, "\n");
        line[line_bytes] = '\0';
        FUZZ_MUST(flat_parse(line, line_bytes, &flat) == 0);
        FUZZ_MUST(flat_find(&flat, "input", FLAT_TEXT));
        FUZZ_MUST(strcmp(flat_find(&flat, "out", FLAT_TEXT), "/out/12.wav") == 0);
    }
    size_t used = flat_quote(quoted, sizeof(quoted) - 16, 5, text);
    if (used > 0) {
        memcpy(quoted, "{\"a\":", 5);
        quoted[used] = '}';
        quoted[used + 1] = '\0';
        FUZZ_MUST(flat_parse(quoted, used + 1, &flat) == 0);
        FUZZ_MUST(flat_find(&flat, "a", FLAT_TEXT));
    }
    free(line);
    free(id);
    free(text);
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    struct fuzz_input input = { bytes, byte_count };

    if (fuzz_byte(&input) == 'w')
        check_written(&input);
    else
        check_stranger(bytes, byte_count);
}
