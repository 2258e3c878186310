/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_FLAT_H
#define CLIENT_FLAT_H

#include <stddef.h>

/*
 * Flat: one JSON object of a line, for the worker side of libbrim. A guest gets no JSON library
 * from us, and the protocol's lines are small: texts are read in place, numbers and nested values
 * stay as the text they are. Strict RFC 8259: anything else is refused, and so is a key that stands
 * twice.
 */

#define FLAT_MEMBER_MAX 8
#define FLAT_DEPTH_MAX  64

enum flat_kind {
    FLAT_TEXT = 1, /* unescaped UTF-8; \u0000 is refused */
    FLAT_NUMBER,
    FLAT_WORD,   /* true, false, null */
    FLAT_NESTED, /* an object or a list, as its JSON text */
};

struct flat_member {
    const char *key; /* points into the line, as text does; both end with NUL */
    const char *text;
    enum flat_kind kind;
};

struct flat {
    struct flat_member members[FLAT_MEMBER_MAX];
    size_t count;
};

/* Reads line_bytes of the line, which must be NUL-terminated and is changed. 0, or -EPROTO. */
int flat_parse(char *line, size_t line_bytes, struct flat *ret_flat)
    __attribute__((warn_unused_result));

/* NULL where there is none of that key and kind. */
const char *flat_find(const struct flat *flat, const char *key, enum flat_kind kind);

/* Append text as a JSON string, quotes included, at to[used]. Returns the new length, or 0 where it
 * does not fit. Bytes that are no UTF-8 become '?'. */
size_t flat_quote(char *to, size_t to_bytes, size_t used, const char *text);

#endif
