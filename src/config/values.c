/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "config/yaml.h"
#include "stack/stack.h"

static const char *kind_name(struct fy_node *node)
{
    if (!node)
        return "nothing";
    if (fy_node_is_sequence(node))
        return "a list";
    return fy_node_is_mapping(node) ? "keys and values" : "empty";
}

/* A scalar's text, borrowed from the document; NULL after yaml_error(). */
static const char *scalar(struct yaml *yaml, const char *key, struct fy_node *node,
                          const char *wanted)
{
    size_t length = 0;
    const char *text = node && fy_node_is_scalar(node) ? fy_node_get_scalar(node, &length) : NULL;

    if (!text || length == 0 || fy_node_is_alias(node)) {
        (void)yaml_error(yaml, node, "'%s' must be %s, not %s", key, wanted, kind_name(node));
        return NULL;
    }
    text = fy_node_get_scalar0(node);
    if (!text || strlen(text) != length) {
        (void)yaml_error(yaml, node, "'%s' holds a NUL byte", key);
        return NULL;
    }
    return text;
}

static int out_of_memory(struct yaml *yaml)
{
    return error_set(yaml->err, -ENOMEM, "%s: out of memory", yaml->name);
}

int yaml_text(struct yaml *yaml, const char *key, struct fy_node *node, char **ret_text)
{
    const char *text = scalar(yaml, key, node, "a text");
    char *copy = NULL;

    if (!text)
        return -EINVAL;
    copy = strdup(text);
    if (!copy)
        return out_of_memory(yaml);
    free(*ret_text);
    *ret_text = copy;
    return 0;
}

int yaml_path(struct yaml *yaml, const char *key, struct fy_node *node, char **ret_path)
{
    const char *text = scalar(yaml, key, node, "a path");
    char *path = NULL;

    if (!text)
        return -EINVAL;
    if (asprintf(&path, "%s%s%s", text[0] == '/' ? "" : yaml->dir, text[0] == '/' ? "" : "/",
                 text) < 0)
        return out_of_memory(yaml);
    free(*ret_path);
    *ret_path = path;
    return 0;
}

static void free_list(char ***list)
{
    for (size_t i = 0; *list && (*list)[i]; i++)
        free((*list)[i]);
    free(*list);
    *list = NULL;
}

int yaml_list(struct yaml *yaml, const char *key, struct fy_node *node, char ***ret_list)
{
    OWNED(free_list) char **list = NULL;
    struct fy_node *item = NULL;
    void *iterator = NULL;
    size_t used = 0;

    if (!node || !fy_node_is_sequence(node))
        return yaml_error(yaml, node, "'%s' must be a list like [program, argument], not %s", key,
                          node && fy_node_is_scalar(node) ? "a text" : kind_name(node));
    const int count = fy_node_sequence_item_count(node);
    if (count < 1 || count > STACK_ARGUMENT_MAX)
        return yaml_error(yaml, node, "'%s' must have 1 to %d members", key, STACK_ARGUMENT_MAX);
    list = calloc((size_t)count + 1, sizeof(*list));
    if (!list)
        return out_of_memory(yaml);
    while ((item = fy_node_sequence_iterate(node, &iterator)) && used < (size_t)count) {
        size_t length = 0;
        const char *text = fy_node_is_scalar(item) && !fy_node_is_alias(item)
                               ? fy_node_get_scalar(item, &length)
                               : NULL;
        if (!text || memchr(text, '\0', length))
            return yaml_error(yaml, item, "a member of '%s' is not a text", key);
        list[used] = strndup(text, length);
        if (!list[used++])
            return out_of_memory(yaml);
    }
    free_list(ret_list);
    *ret_list = TAKE(list);
    return 0;
}

static bool has_variable(char *const *list, const char *name)
{
    const size_t length = strlen(name);

    for (size_t i = 0; list[i]; i++) {
        if (strncmp(list[i], name, length) == 0 && list[i][length] == '=')
            return true;
    }
    return false;
}

/* One "NAME=value" of the pair, at the list's end. */
static int read_variable(struct yaml *yaml, struct fy_node_pair *pair, char *const *list,
                         char **ret_variable)
{
    struct fy_node *name_node = fy_node_pair_key(pair), *value_node = fy_node_pair_value(pair);
    const char *name =
        name_node && fy_node_is_scalar(name_node) ? fy_node_get_scalar0(name_node) : NULL;
    const char *value =
        value_node && fy_node_is_scalar(value_node) ? fy_node_get_scalar0(value_node) : NULL;

    if (!name || !*name || strchr(name, '='))
        return yaml_error(yaml, name_node, "a variable's name must be a word without '='");
    if (has_variable(list, name))
        return yaml_error(yaml, name_node, "'%.60s' stands here a second time; keep one of them",
                          name);
    if (!value || fy_node_is_alias(value_node))
        return yaml_error(yaml, value_node ? value_node : name_node,
                          "the variable '%.60s' must be a text, not %s", name,
                          kind_name(value_node));
    return asprintf(ret_variable, "%s=%s", name, value) < 0 ? out_of_memory(yaml) : 0;
}

int yaml_environment(struct yaml *yaml, const char *key, struct fy_node *node, char ***ret_list)
{
    OWNED(free_list) char **list = NULL;
    struct fy_node_pair *pair = NULL;
    void *iterator = NULL;
    size_t used = 0;
    int r = 0;

    if (!node || !fy_node_is_mapping(node))
        return yaml_error(yaml, node, "'%s' must be names and values like { HF_HOME: /models }",
                          key);
    const int count = fy_node_mapping_item_count(node);
    list = calloc((size_t)(count > 0 ? count : 0) + 1, sizeof(*list));
    if (!list)
        return out_of_memory(yaml);
    while ((pair = fy_node_mapping_iterate(node, &iterator)) && used < (size_t)count) {
        r = read_variable(yaml, pair, list, &list[used]);
        if (r < 0)
            return r;
        used++;
    }
    free_list(ret_list);
    *ret_list = TAKE(list);
    return 0;
}

int yaml_size(struct yaml *yaml, const char *key, struct fy_node *node, uint64_t *ret_bytes)
{
    const char *text = scalar(yaml, key, node, "a size like 5.5GB");
    struct error err = { 0 };

    if (!text)
        return -EINVAL;
    if (size_parse(text, ret_bytes, &err) < 0)
        return yaml_error(yaml, node, "%s: %s", key, err.message);
    return 0;
}

int yaml_duration(struct yaml *yaml, const char *key, struct fy_node *node, uint64_t *ret_ms)
{
    const char *text = scalar(yaml, key, node, "a duration like 5m");
    struct error err = { 0 };

    if (!text)
        return -EINVAL;
    if (duration_parse(text, ret_ms, &err) < 0)
        return yaml_error(yaml, node, "%s: %s", key, err.message);
    return 0;
}

int yaml_count(struct yaml *yaml, const char *key, struct fy_node *node, uint32_t limit,
               uint32_t *ret_count)
{
    const char *text = scalar(yaml, key, node, "a whole number");
    struct error err = { 0 };

    if (!text)
        return -EINVAL;
    if (stack_count_parse(text, limit, ret_count, &err) < 0)
        return yaml_error(yaml, node, "%s: %s", key, err.message);
    return 0;
}
