/* SPDX-License-Identifier: Apache-2.0 */

#include "config/config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "config/schema.h"

#define CONFIG_LIMIT_BYTES ((size_t)4 << 20)
#define CONFIG_BATCH_MAX   1000

static int read_batches(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack *stack = target;
    struct fy_node_pair *pair = NULL;
    void *iterator = NULL;

    if (!value || !fy_node_is_mapping(value))
        return yaml_error(yaml, value, "'%s' must be names, each with a batch below it", key);
    const int count = fy_node_mapping_item_count(value);
    if (count < 1 || count > CONFIG_BATCH_MAX)
        return yaml_error(yaml, value, "'%s' must hold 1 to %d batches", key, CONFIG_BATCH_MAX);
    stack->batches = calloc((size_t)count, sizeof(*stack->batches));
    if (!stack->batches)
        return error_set(yaml->err, -ENOMEM, "%s: out of memory", yaml->name);
    while ((pair = fy_node_mapping_iterate(value, &iterator))) {
        struct fy_node *name = fy_node_pair_key(pair);
        struct stack_batch *batch = &stack->batches[stack->batch_count];
        const char *word = name && fy_node_is_scalar(name) ? fy_node_get_scalar0(name) : NULL;
        if (word && stack_find_batch(stack, word))
            return yaml_error(yaml, name, "'%.60s' stands here a second time; keep one of them",
                              word);
        stack_batch_init(batch);
        const int r = schema_read_batch(yaml, name, fy_node_pair_value(pair), batch);
        if (r < 0) {
            stack_batch_deinit(batch);
            return r;
        }
        stack->batch_count++;
    }
    return 0;
}

/* A message repeats words of the file, which may hold anything. */
static void make_one_line(struct error *err)
{
    for (char *at = err ? err->message : NULL; at && *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
}

int config_parse(const char *text, size_t text_bytes, const char *name, const char *dir,
                 struct stack *ret_stack, struct error *err)
{
    static const struct yaml_key keys[] = { { "batches", read_batches } };
    OWNED(yaml_close) struct yaml yaml = { .name = name, .dir = dir, .err = err };
    struct stack stack = { 0 };
    int r = 0;

    r = yaml_open(&yaml, text, text_bytes);
    if (r == 0)
        r = yaml_walk(&yaml, fy_document_root(yaml.document), name, keys, 1, &stack);
    if (r < 0) {
        make_one_line(err);
        stack_deinit(&stack);
        return r;
    }
    *ret_stack = stack;
    return 0;
}

int config_load(const char *path, struct stack *ret_stack, struct error *err)
{
    OWNED(freep) char *text = NULL;
    OWNED(freep) char *real = NULL;
    size_t text_bytes = 0;

    real = realpath(path, NULL);
    if (!real)
        return error_set(err, -errno, "cannot read %s: %s%s", path, strerror(errno),
                         errno == ENOENT ? "; name another file with -f, or give the batch by flags"
                                         : "");
    const int r = fd_read_file(real, CONFIG_LIMIT_BYTES, &text, &text_bytes);
    if (r < 0)
        return error_set(err, r, "cannot read %s: %s", path, strerror(-r));
    char *slash = strrchr(real, '/');
    slash[slash == real ? 1 : 0] = '\0';
    const char *name = strrchr(path, '/');
    return config_parse(text, text_bytes, name ? name + 1 : path, real, ret_stack, err);
}
