/* SPDX-License-Identifier: Apache-2.0 */

#include "config/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"

#define YAML_KEY_MAX 64 /* of one table: what is seen fits one word of bits */

static const struct fy_mark *node_mark(struct fy_node *node)
{
    struct fy_token *token =
        node && fy_node_is_scalar(node) ? fy_node_get_scalar_token(node) : NULL;

    return token ? fy_token_start_mark(token) : NULL;
}

int yaml_error(struct yaml *yaml, struct fy_node *node, const char *format, ...)
{
    const struct fy_mark *mark = node_mark(node);
    char text[400];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    /* Lists and mappings have no place of their own: their key's is the one that helps. */
    if (!mark)
        mark = node_mark(yaml->key);
    if (!mark)
        return error_set(yaml->err, -EINVAL, "%s: %s", yaml->name, text);
    return error_set(yaml->err, -EINVAL, "%s:%d:%d: %s", yaml->name, mark->line + 1,
                     mark->column + 1, text);
}

static int unknown_key(struct yaml *yaml, struct fy_node *key, const char *word, const char *what,
                       const struct yaml_key *keys, size_t key_count)
{
    const char *names[YAML_KEY_MAX] = { NULL };

    for (size_t i = 0; i < key_count; i++)
        names[i] = keys[i].name;
    const char *nearest = suggest_nearest(word, names, key_count);
    if (nearest)
        return yaml_error(yaml, key, "unknown key '%.60s'; did you mean '%s'?", word, nearest);
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < key_count && used < sizeof(known) - 1; i++)
        used +=
            (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", names[i]);
    return yaml_error(yaml, key, "unknown key '%.60s'; %s has: %s", word, what, known);
}

/* A mapping on its way into a struct. */
struct walk {
    const char *what; /* for people */
    const struct yaml_key *keys;
    size_t key_count;
    uint64_t seen; /* a bit for each key */
    void *target;
};

static int walk_pair(struct yaml *yaml, struct fy_node_pair *pair, struct walk *walk)
{
    struct fy_node *key = fy_node_pair_key(pair);
    const char *word = key && fy_node_is_scalar(key) ? fy_node_get_scalar0(key) : NULL;
    struct fy_node *value = fy_node_pair_value(pair);

    if (!word)
        return yaml_error(yaml, key, "a key of %s is not a plain word", walk->what);
    for (size_t i = 0; i < walk->key_count; i++) {
        if (strcmp(walk->keys[i].name, word) != 0)
            continue;
        if (walk->seen & UINT64_C(1) << i)
            return yaml_error(yaml, key, "'%s' stands here a second time; keep one of them", word);
        walk->seen |= UINT64_C(1) << i;
        if (value && fy_node_is_alias(value))
            return yaml_error(yaml, value,
                              "'%s': anchors and aliases are not read here; write it out", word);
        struct fy_node *outer = yaml->key;
        yaml->key = key;
        const int r = walk->keys[i].read(yaml, walk->keys[i].name, value, walk->target);
        yaml->key = outer;
        return r;
    }
    return unknown_key(yaml, key, word, walk->what, walk->keys, walk->key_count);
}

int yaml_walk(struct yaml *yaml, struct fy_node *mapping, const char *what,
              const struct yaml_key *keys, size_t key_count, void *target)
{
    struct walk walk = { .what = what, .keys = keys, .key_count = key_count, .target = target };
    struct fy_node_pair *pair = NULL;
    void *iterator = NULL;
    int r = 0;

    if (!mapping || !fy_node_is_mapping(mapping))
        return yaml_error(yaml, mapping, "%s must be keys and values", what);
    while (r == 0 && (pair = fy_node_mapping_iterate(mapping, &iterator)))
        r = walk_pair(yaml, pair, &walk);
    return r;
}

static void keep_diagnostic(struct fy_diag *diag, void *user, const char *text, size_t text_bytes)
{
    struct yaml *yaml = user;
    const char *place = memchr(text, '>', text_bytes);

    (void)diag;
    /* "<memory-...>:4:1: error: what\n", then the source with a caret: the first line says it all.
     */
    if (yaml->problem[0] != '\0' || !place)
        return;
    place++;
    const size_t left = text_bytes - (size_t)(place - text);
    const char *end = memchr(place, '\n', left);
    (void)snprintf(yaml->problem, sizeof(yaml->problem), "%.*s",
                   (int)(end ? (size_t)(end - place) : left), place);
}

static int load_documents(struct yaml *yaml, struct fy_parser *parser)
{
    struct fy_document *more = NULL;

    yaml->document = fy_parse_load_document(parser);
    if (!yaml->document && yaml->problem[0] != '\0')
        return error_set(yaml->err, -EINVAL, "%s%s", yaml->name, yaml->problem);
    if (!yaml->document || !fy_document_root(yaml->document))
        return error_set(yaml->err, -EINVAL,
                         "%s is empty; it needs at least batches: with one batch in it",
                         yaml->name);
    more = fy_parse_load_document(parser);
    if (more) {
        fy_parse_document_destroy(parser, more);
        return error_set(yaml->err, -EINVAL, "%s holds a second document behind '---'; keep one",
                         yaml->name);
    }
    if (yaml->problem[0] != '\0')
        return error_set(yaml->err, -EINVAL, "%s%s", yaml->name, yaml->problem);
    return 0;
}

/* A line with '%' at its begin is a directive. Nobody needs one here, and libfyaml 0.7.12 reads for
 * ever in one that holds a byte that is no character. */
static int refuse_directives(struct yaml *yaml, const char *text, size_t text_bytes)
{
    static const char mark[] = "\xef\xbb\xbf";
    size_t line = 1, i = text_bytes >= 3 && memcmp(text, mark, 3) == 0 ? 3 : 0;
    bool is_begin = true;

    for (; i < text_bytes; i++) {
        if (is_begin && text[i] == '%')
            return error_set(yaml->err, -EINVAL,
                             "%s:%zu:1: a line that begins with '%%' is a YAML directive; take it "
                             "out",
                             yaml->name, line);
        is_begin = text[i] == '\n' || text[i] == '\r';
        if (text[i] == '\n')
            line++;
    }
    return 0;
}

int yaml_open(struct yaml *yaml, const char *text, size_t text_bytes)
{
    struct fy_diag_cfg diag_cfg;
    struct fy_parse_cfg parse_cfg = { .flags = FYPCF_ALLOW_DUPLICATE_KEYS };
    const int r = refuse_directives(yaml, text, text_bytes);

    if (r < 0)
        return r;
    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL;
    diag_cfg.output_fn = keep_diagnostic;
    diag_cfg.user = yaml;
    diag_cfg.colorize = false;
    diag_cfg.show_position = true;
    yaml->diag = fy_diag_create(&diag_cfg);
    if (!yaml->diag)
        return error_set(yaml->err, -ENOMEM, "%s: out of memory", yaml->name);
    parse_cfg.diag = yaml->diag;
    yaml->parser = fy_parser_create(&parse_cfg);
    if (!yaml->parser || fy_parser_set_string(yaml->parser, text, text_bytes) != 0)
        return error_set(yaml->err, -ENOMEM, "%s: out of memory", yaml->name);
    return load_documents(yaml, yaml->parser);
}

void yaml_close(struct yaml *yaml)
{
    if (yaml->document)
        fy_parse_document_destroy(yaml->parser, yaml->document);
    if (yaml->parser)
        fy_parser_destroy(yaml->parser);
    if (yaml->diag)
        fy_diag_destroy(yaml->diag);
    yaml->document = NULL;
    yaml->parser = NULL;
    yaml->diag = NULL;
}
