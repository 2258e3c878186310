/* SPDX-License-Identifier: Apache-2.0 */

#include "client/flat.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Reading goes forward over `at`; unescaped text is written behind it, never ahead: an escape is
 * always longer than what it stands for. */
struct cursor {
    char *at;
    const char *end; /* the line's last byte + 1, where a NUL is */
};

static void skip_blanks(struct cursor *cursor)
{
    while (cursor->at < cursor->end && strchr(" \t\r\n", *cursor->at))
        cursor->at++;
}

static bool take(struct cursor *cursor, char byte)
{
    if (cursor->at >= cursor->end || *cursor->at != byte)
        return false;
    cursor->at++;
    return true;
}

/* ---- texts ---- */

static int hex_value(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}

static bool take_hex4(struct cursor *cursor, uint32_t *ret_code)
{
    uint32_t code = 0;

    if (cursor->end - cursor->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        const int value = hex_value(*cursor->at++);
        if (value < 0)
            return false;
        code = code << 4 | (uint32_t)value;
    }
    *ret_code = code;
    return true;
}

static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *to++ = (char)(0xe0 | code >> 12);
        } else {
            *to++ = (char)(0xf0 | code >> 18);
            *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (code & 0x3f));
    return to;
}

/* Behind "\u". Half of a pair, and NUL, are refused. */
static char *unescape_code(struct cursor *cursor, char *to)
{
    uint32_t code = 0, low = 0;

    if (!take_hex4(cursor, &code) || code == 0 || (code >= 0xdc00 && code < 0xe000))
        return NULL;
    if (code >= 0xd800 && code < 0xdc00) {
        if (!take(cursor, '\\') || !take(cursor, 'u') || !take_hex4(cursor, &low) || low < 0xdc00 ||
            low >= 0xe000)
            return NULL;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    return put_utf8(to, code);
}

static char *unescape(struct cursor *cursor, char *to)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";

    if (cursor->at >= cursor->end)
        return NULL;
    const char name = *cursor->at++;
    if (name == 'u')
        return unescape_code(cursor, to);
    const char *found = name ? strchr(names, name) : NULL;
    if (!found)
        return NULL;
    *to++ = values[found - names];
    return to;
}

/* At the opening quote: the text, unescaped in its place; *ret_end is where its NUL belongs. */
static char *take_text(struct cursor *cursor, char **ret_end)
{
    char *text = NULL, *to = NULL;

    if (!take(cursor, '"'))
        return NULL;
    text = to = cursor->at;
    while (cursor->at < cursor->end && *cursor->at != '"') {
        const char byte = *cursor->at++;
        if ((unsigned char)byte < 0x20)
            return NULL;
        if (byte == '\\')
            to = unescape(cursor, to);
        else
            *to++ = byte;
        if (!to)
            return NULL;
    }
    *ret_end = to;
    return take(cursor, '"') ? text : NULL;
}

/* ---- other values ---- */

static bool skip_digits(struct cursor *cursor)
{
    const char *start = cursor->at;

    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9')
        cursor->at++;
    return cursor->at > start;
}

static bool skip_number(struct cursor *cursor)
{
    (void)take(cursor, '-');
    if (!take(cursor, '0') && !skip_digits(cursor))
        return false;
    if (take(cursor, '.') && !skip_digits(cursor))
        return false;
    if (!take(cursor, 'e') && !take(cursor, 'E'))
        return true;
    if (!take(cursor, '+'))
        (void)take(cursor, '-');
    return skip_digits(cursor);
}

static bool skip_word(struct cursor *cursor)
{
    static const char *const words[] = { "true", "false", "null" };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const size_t length = strlen(words[i]);
        if (strncmp(cursor->at, words[i], length) == 0) {
            cursor->at += length;
            return true;
        }
    }
    return false;
}

/* The rest of a text whose opening quote was taken. */
static bool skip_text(struct cursor *cursor)
{
    while (cursor->at < cursor->end && *cursor->at != '"')
        cursor->at += *cursor->at == '\\' && cursor->at + 1 < cursor->end ? 2 : 1;
    return take(cursor, '"');
}

/* The brackets that are open, outermost first. */
struct brackets {
    char open[FLAT_DEPTH_MAX];
    size_t depth;
};

/* One character outside of a text. false: a bracket that does not match, or too many. */
static bool follow_bracket(struct brackets *brackets, char byte)
{
    if (byte == '{' || byte == '[') {
        if (brackets->depth == FLAT_DEPTH_MAX)
            return false;
        brackets->open[brackets->depth++] = byte;
    } else if (byte == '}' || byte == ']') {
        return brackets->depth > 0 &&
               brackets->open[--brackets->depth] == (byte == '}' ? '{' : '[');
    }
    return true;
}

/* A nested value is handed on as it is: brackets that match and strings that end are enough here,
 * and the batch checked it when it read its input. */
static bool skip_nested(struct cursor *cursor)
{
    struct brackets brackets = { .depth = 0 };

    do {
        if (cursor->at >= cursor->end)
            return false;
        const char byte = *cursor->at++;
        if (byte == '"' ? !skip_text(cursor) : !follow_bracket(&brackets, byte))
            return false;
    } while (brackets.depth > 0);
    return true;
}

static bool take_value(struct cursor *cursor, struct flat_member *member, char **ret_end)
{
    const char first = cursor->at < cursor->end ? *cursor->at : '\0';
    bool is_good = false;

    member->text = cursor->at;
    if (first == '"') {
        member->kind = FLAT_TEXT;
        member->text = take_text(cursor, ret_end);
        return member->text != NULL;
    }
    if (first == '{' || first == '[') {
        member->kind = FLAT_NESTED;
        is_good = skip_nested(cursor);
    } else if (first == '-' || (first >= '0' && first <= '9')) {
        member->kind = FLAT_NUMBER;
        is_good = skip_number(cursor);
    } else {
        member->kind = FLAT_WORD;
        is_good = skip_word(cursor);
    }
    *ret_end = cursor->at;
    return is_good;
}

/* ---- the object ---- */

static bool take_member(struct cursor *cursor, struct flat *flat, char **ends)
{
    struct flat_member *member = &flat->members[flat->count];

    if (flat->count == FLAT_MEMBER_MAX)
        return false;
    skip_blanks(cursor);
    member->key = take_text(cursor, &ends[0]);
    if (!member->key)
        return false;
    skip_blanks(cursor);
    if (!take(cursor, ':'))
        return false;
    skip_blanks(cursor);
    if (!take_value(cursor, member, &ends[1]))
        return false;
    *ends[0] = '\0'; /* the key's own quote: read already */
    for (size_t i = 0; i < flat->count; i++) {
        if (strcmp(flat->members[i].key, member->key) == 0)
            return false;
    }
    flat->count++;
    skip_blanks(cursor);
    return true;
}

int flat_parse(char *line, size_t line_bytes, struct flat *ret_flat)
{
    struct cursor cursor = { .at = line, .end = line + line_bytes };
    struct flat flat = { 0 };
    char *ends[FLAT_MEMBER_MAX + 1][2];
    bool is_more = false;

    if (memchr(line, '\0', line_bytes))
        return -EPROTO;
    skip_blanks(&cursor);
    if (!take(&cursor, '{'))
        return -EPROTO;
    skip_blanks(&cursor);
    is_more = !take(&cursor, '}');
    while (is_more) {
        if (!take_member(&cursor, &flat, ends[flat.count]))
            return -EPROTO;
        is_more = take(&cursor, ',');
        if (!is_more && !take(&cursor, '}'))
            return -EPROTO;
    }
    skip_blanks(&cursor);
    if (cursor.at != cursor.end)
        return -EPROTO;
    /* Only now: behind a number or a nested value stands what had to be read first. */
    for (size_t i = 0; i < flat.count; i++)
        *ends[i][1] = '\0';
    *ret_flat = flat;
    return 0;
}

const char *flat_find(const struct flat *flat, const char *key, enum flat_kind kind)
{
    for (size_t i = 0; i < flat->count; i++) {
        if (flat->members[i].kind == kind && strcmp(flat->members[i].key, key) == 0)
            return flat->members[i].text;
    }
    return NULL;
}

/* ---- writing ---- */

/* The length of the UTF-8 character at text, 0 where there is none. */
static size_t utf8_length(const unsigned char *text)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const size_t length = text[0] < 0x80                     ? 1
                          : text[0] < 0xc2 || text[0] > 0xf4 ? 0
                          : text[0] < 0xe0                   ? 2
                          : text[0] < 0xf0                   ? 3
                                                             : 4;
    uint32_t code = length > 1 ? text[0] & (0xffU >> (length + 1)) : text[0];

    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) /* the NUL at the end as well */
            return 0;
        code = code << 6 | (text[i] & 0x3fU);
    }
    return length == 0 || code < least[length] || code > 0x10ffff ||
                   (code >= 0xd800 && code < 0xe000)
               ? 0
               : length;
}

size_t flat_quote(char *to, size_t to_bytes, size_t used, const char *text)
{
    static const char hex[] = "0123456789abcdef";

    if (used + 2 >= to_bytes)
        return 0;
    to[used++] = '"';
    while (*text) {
        const size_t length = utf8_length((const unsigned char *)text);
        const unsigned char byte = (unsigned char)*text;
        if (used + 6 + 2 > to_bytes) /* the longest escape, the quote, the NUL */
            return 0;
        if (length > 1 || (length == 1 && byte >= 0x20 && byte != '"' && byte != '\\')) {
            memcpy(to + used, text, length);
            used += length;
        } else if (length == 0) {
            to[used++] = '?';
        } else if (byte == '"' || byte == '\\') {
            to[used++] = '\\';
            to[used++] = (char)byte;
        } else {
            memcpy(to + used, "\\u00", 4);
            to[used + 4] = hex[byte >> 4];
            to[used + 5] = hex[byte & 15];
            used += 6;
        }
        text += length ? length : 1;
    }
    to[used++] = '"';
    to[used] = '\0';
    return used;
}
