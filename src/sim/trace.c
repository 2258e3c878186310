/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "base/suggest.h"
#include "sim/workload.h"

#define TRACE_LINE_BYTES 1024

enum field {
    FIELD_RESIDENT,
    FIELD_BURST,
    FIELD_LOAD_PEAK,
    FIELD_GPU,
    FIELD_PRIORITY,
    FIELD_WAIT,
    FIELD_LOAD,
    FIELD_RUN,
    FIELD_BUSY,
    FIELD_IDLE,
    FIELD_PIN,
    FIELD_ALONE,
    FIELD_ALWAYS_BUSY,
};
#define FIELD_COUNT 13

static const char *const field_names[FIELD_COUNT] = {
    "resident", "burst", "load_peak", "gpu", "priority", "wait",        "load",
    "run",      "busy",  "idle",      "pin", "alone",    "always-busy",
};

static int parse_gpu(const char *text, uint32_t *ret_gpu, struct error *err)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);

    if (strcmp(text, "any") == 0) {
        *ret_gpu = CLAIM_GPU_ANY;
        return 0;
    }
    if (end == text || *end != '\0' || text[0] == '-' || number >= SIM_GPU_MAX)
        return error_set(err, -EINVAL, "gpu=%s is no gpu (a number below %d, or any)", text,
                         SIM_GPU_MAX);
    *ret_gpu = (uint32_t)number;
    return 0;
}

static int parse_priority(const char *text, enum claim_priority *ret_priority, struct error *err)
{
    static const char *const names[] = { "background", "normal", "interactive" };

    for (unsigned i = 0; i < CLAIM_PRIORITY_COUNT; i++)
        if (strcmp(text, names[i]) == 0) {
            *ret_priority = (enum claim_priority)i;
            return 0;
        }
    return error_set(err, -EINVAL, "priority=%s: write background, normal or interactive", text);
}

static int parse_value(struct sim_job *job, enum field field, const char *value, struct error *err)
{
    struct claim_part *part = &job->claim.parts[0];

    switch (field) {
    case FIELD_RESIDENT:
        return size_parse(value, &part->resident_bytes, err);
    case FIELD_BURST:
        return size_parse(value, &part->burst_bytes, err);
    case FIELD_LOAD_PEAK:
        return size_parse(value, &part->load_peak_bytes, err);
    case FIELD_GPU:
        return parse_gpu(value, &part->gpu, err);
    case FIELD_PRIORITY:
        return parse_priority(value, &job->claim.priority, err);
    case FIELD_WAIT:
        return duration_parse(value, &job->wait_ms, err);
    case FIELD_LOAD:
        return duration_parse(value, &job->load_ms, err);
    case FIELD_RUN:
        return duration_parse(value, &job->run_ms, err);
    case FIELD_BUSY:
        return duration_parse(value, &job->busy_ms, err);
    case FIELD_IDLE:
        return duration_parse(value, &job->idle_ms, err);
    case FIELD_PIN:
    case FIELD_ALONE:
    case FIELD_ALWAYS_BUSY:
        break;
    }
    return error_set(err, -EINVAL, "%s takes no value", field_names[field]);
}

static int set_flag(struct sim_job *job, enum field field, struct error *err)
{
    if (field == FIELD_PIN)
        job->claim.is_pinned = true;
    else if (field == FIELD_ALONE)
        job->claim.is_load_alone = true;
    else if (field == FIELD_ALWAYS_BUSY)
        job->claim.is_always_busy = true;
    else
        return error_set(err, -EINVAL, "%s needs a value: %s=…", field_names[field],
                         field_names[field]);
    return 0;
}

static int parse_field(struct sim_job *job, char *word, struct error *err)
{
    char *value = strchr(word, '=');
    const char *meant;

    if (value)
        *value++ = '\0';
    for (unsigned i = 0; i < FIELD_COUNT; i++)
        if (strcmp(word, field_names[i]) == 0)
            return value ? parse_value(job, (enum field)i, value, err)
                         : set_flag(job, (enum field)i, err);
    meant = suggest_nearest(word, field_names, FIELD_COUNT);
    if (meant)
        return error_set(err, -EINVAL, "nobody knows %s; did you mean %s?", word, meant);
    return error_set(err, -EINVAL, "nobody knows %s", word);
}

static int parse_job(char **rest, struct sim_job *job, struct error *err)
{
    const char *name = strtok_r(NULL, " \t\r\n", rest);
    char *word;

    *job = (struct sim_job){ .claim = { .priority = CLAIM_PRIORITY_NORMAL, .part_count = 1 },
                             .wait_ms = UINT64_C(600000),
                             .load_ms = 1000,
                             .run_ms = 60000,
                             .idle_ms = 1000 };
    job->claim.parts[0].gpu = CLAIM_GPU_ANY;
    if (!name || strlen(name) >= CLAIM_NAME_BYTES || strchr(name, '='))
        return error_set(err, -EINVAL, "a job needs a name of at most %d letters",
                         CLAIM_NAME_BYTES - 1);
    (void)snprintf(job->claim.name, sizeof(job->claim.name), "%s", name);
    while ((word = strtok_r(NULL, " \t\r\n", rest))) {
        int r = parse_field(job, word, err);

        if (r < 0)
            return r;
    }
    if (job->claim.parts[0].resident_bytes == 0)
        return error_set(err, -EINVAL, "job %s needs resident=…", name);
    return 0;
}

static int parse_foreign(char **rest, struct sim_item *item, struct error *err)
{
    const char *gpu = strtok_r(NULL, " \t\r\n", rest);
    const char *bytes = strtok_r(NULL, " \t\r\n", rest);

    if (!gpu || !bytes || strncmp(gpu, "gpu=", 4) != 0)
        return error_set(err, -EINVAL, "write: TIME foreign gpu=0 2GiB");
    if (strcmp(bytes, "0") == 0)
        item->foreign_bytes = 0;
    else if (size_parse(bytes, &item->foreign_bytes, err) < 0)
        return -EINVAL;
    return parse_gpu(gpu + 4, &item->gpu, err);
}

int sim_trace_parse(const char *line, struct sim_item *ret_item, struct error *err)
{
    char copy[TRACE_LINE_BYTES], *rest = NULL;
    const char *time, *kind;
    struct sim_item item = { 0 };
    int r;

    if ((size_t)snprintf(copy, sizeof(copy), "%s", line) >= sizeof(copy))
        return error_set(err, -E2BIG, "the line is longer than %d bytes", TRACE_LINE_BYTES - 1);
    copy[strcspn(copy, "#")] = '\0';
    time = strtok_r(copy, " \t\r\n", &rest);
    if (!time)
        return 0;
    r = duration_parse(time, &item.at_ms, err);
    if (r < 0)
        return r;
    kind = strtok_r(NULL, " \t\r\n", &rest);
    if (kind && strcmp(kind, "job") == 0) {
        item.kind = SIM_ITEM_JOB;
        r = parse_job(&rest, &item.job, err);
    } else if (kind && strcmp(kind, "foreign") == 0) {
        item.kind = SIM_ITEM_FOREIGN;
        r = parse_foreign(&rest, &item, err);
    } else {
        r = error_set(err, -EINVAL, "after the time write job or foreign");
    }
    if (r < 0)
        return r;
    *ret_item = item;
    return 1;
}
