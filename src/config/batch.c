/* SPDX-License-Identifier: Apache-2.0 */

/* The keys of `batches:` and what each may hold; man brim.yaml(5) tells the same to people. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/schema.h"

#define KEYS(array) (array), sizeof(array) / sizeof((array)[0])

static int read_command(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_list(yaml, key, value, &batch->command);
}

static int read_input(struct yaml *yaml, const char *key, struct fy_node *value,
                      struct stack_batch *batch, enum stack_input input)
{
    if (batch->input != STACK_INPUT_NONE)
        return yaml_error(yaml, NULL, "input has one of lines, jsonl and files, not two");
    batch->input = input;
    return yaml_path(yaml, key, value, &batch->input_path);
}

static int read_lines(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    return read_input(yaml, key, value, target, STACK_INPUT_LINES);
}

static int read_jsonl(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    return read_input(yaml, key, value, target, STACK_INPUT_JSONL);
}

static int read_files(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    return read_input(yaml, key, value, target, STACK_INPUT_FILES);
}

static int read_inputs(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    static const struct yaml_key keys[] = {
        { "lines", read_lines },
        { "jsonl", read_jsonl },
        { "files", read_files },
    };

    return yaml_walk(yaml, value, key, KEYS(keys), target);
}

static int read_output(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_path(yaml, key, value, &batch->output);
}

static int read_resident(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_size(yaml, key, value, &batch->resident_bytes);
}

static int read_burst(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_size(yaml, key, value, &batch->burst_bytes);
}

static int read_load_peak(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_size(yaml, key, value, &batch->load_peak_bytes);
}

/* `vram: 5.5GB` alone is the resident size. */
static int read_vram(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    static const struct yaml_key keys[] = {
        { "resident", read_resident },
        { "burst", read_burst },
        { "load_peak", read_load_peak },
    };

    if (value && fy_node_is_scalar(value))
        return read_resident(yaml, key, value, target);
    return yaml_walk(yaml, value, key, KEYS(keys), target);
}

/* A word through one of stack's parsers: `text` is the caller's to free. */
static int read_word(struct yaml *yaml, const char *key, struct fy_node *value, char **text)
{
    return yaml_text(yaml, key, value, text);
}

static int read_workers(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;
    OWNED(freep) char *text = NULL;
    struct error err = { 0 };

    if (read_word(yaml, key, value, &text) < 0)
        return -EINVAL;
    if (stack_workers_parse(text, &batch->workers_min, &batch->workers_max, &err) < 0)
        return yaml_error(yaml, value, "%s", err.message);
    return 0;
}

static int read_flush_every(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_count(yaml, key, value, UINT32_MAX, &batch->flush_every);
}

static int read_flush_by(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;
    OWNED(freep) char *text = NULL;
    struct error err = { 0 };

    if (read_word(yaml, key, value, &text) < 0)
        return -EINVAL;
    if (stack_flush_parse(text, &batch->flush_by, &err) < 0)
        return yaml_error(yaml, value, "%s", err.message);
    return 0;
}

static int read_flush_growth(struct yaml *yaml, const char *key, struct fy_node *value,
                             void *target)
{
    struct stack_batch *batch = target;
    OWNED(freep) char *text = NULL;

    if (read_word(yaml, key, value, &text) < 0)
        return -EINVAL;
    const size_t length = strlen(text);
    if (text[length - 1] != '%')
        return yaml_error(yaml, value, "%s: '%s' is not a share; write it like 10%%", key, text);
    text[length - 1] = '\0';
    if (stack_count_parse(text, STACK_GROWTH_MAX_PCT, &batch->flush_growth_pct, NULL) < 0)
        return yaml_error(yaml, value, "%s: '%s%%' is not a whole share up to %d%%", key, text,
                          STACK_GROWTH_MAX_PCT);
    return 0;
}

static int read_flush(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    static const struct yaml_key keys[] = {
        { "every", read_flush_every },
        { "by", read_flush_by },
        { "on_growth", read_flush_growth },
    };

    return yaml_walk(yaml, value, key, KEYS(keys), target);
}

static int read_retries(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_count(yaml, key, value, STACK_RETRY_MAX, &batch->retries);
}

static int read_protocol(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;
    OWNED(freep) char *text = NULL;
    struct error err = { 0 };

    if (read_word(yaml, key, value, &text) < 0)
        return -EINVAL;
    if (stack_protocol_parse(text, &batch->protocol, &err) < 0)
        return yaml_error(yaml, value, "%s", err.message);
    return 0;
}

static int read_priority(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;
    OWNED(freep) char *text = NULL;
    struct error err = { 0 };

    if (read_word(yaml, key, value, &text) < 0)
        return -EINVAL;
    if (stack_priority_parse(text, &batch->priority, &err) < 0)
        return yaml_error(yaml, value, "%s", err.message);
    return 0;
}

static int read_timeout(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_duration(yaml, key, value, &batch->timeout_ms);
}

static int read_heartbeat(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_duration(yaml, key, value, &batch->heartbeat_ms);
}

static int read_env(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_environment(yaml, key, value, &batch->env);
}

static int read_gpu(struct yaml *yaml, const char *key, struct fy_node *value, void *target)
{
    struct stack_batch *batch = target;

    return yaml_text(yaml, key, value, &batch->gpu);
}

static const struct yaml_key batch_keys[] = {
    { "command", read_command }, { "input", read_inputs },
    { "output", read_output },   { "vram", read_vram },
    { "workers", read_workers }, { "flush", read_flush },
    { "retries", read_retries }, { "protocol", read_protocol },
    { "timeout", read_timeout }, { "heartbeat", read_heartbeat },
    { "env", read_env },         { "priority", read_priority },
    { "gpu", read_gpu },
};

int schema_read_batch(struct yaml *yaml, struct fy_node *name, struct fy_node *value,
                      struct stack_batch *batch)
{
    struct error err = { 0 };
    int r = 0;

    r = yaml_text(yaml, "a batch's name", name, &batch->name);
    if (r < 0)
        return r;
    batch->dir = strdup(yaml->dir);
    if (!batch->dir)
        return error_set(yaml->err, -ENOMEM, "%s: out of memory", yaml->name);
    yaml->key = name;
    r = yaml_walk(yaml, value, "a batch", KEYS(batch_keys), batch);
    if (r == 0 && stack_batch_check(batch, &err) < 0)
        r = yaml_error(yaml, name, "%s", err.message);
    yaml->key = NULL;
    return r;
}
