/* SPDX-License-Identifier: Apache-2.0 */

#include "sim/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "base/suggest.h"

#define TRACE_LINE_BYTES 1024
#define BYTES_MAX        (UINT64_C(1) << 46)
#define BLANKS           " \t\r\n"

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

/* No larger than what the budget counts, so that no sum wraps around. */
static int parse_bytes(const char *text, uint64_t *ret_bytes, struct error *err)
{
    if (size_parse(text, ret_bytes, err) < 0)
        return -EINVAL;
    return *ret_bytes > BYTES_MAX ? error_set(err, -ERANGE, "%s is more than 64 TiB", text) : 0;
}

static int parse_wait(const char *text, uint64_t *ret_ms, struct error *err)
{
    if (strcmp(text, "never") != 0)
        return duration_parse(text, ret_ms, err);
    *ret_ms = CLOCK_NEVER_MS; /* to give up */
    return 0;
}

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
        return parse_bytes(value, &part->resident_bytes, err);
    case FIELD_BURST:
        return parse_bytes(value, &part->burst_bytes, err);
    case FIELD_LOAD_PEAK:
        return parse_bytes(value, &part->load_peak_bytes, err);
    case FIELD_GPU:
        return parse_gpu(value, &part->gpu, err);
    case FIELD_PRIORITY:
        return parse_priority(value, &job->claim.priority, err);
    case FIELD_WAIT:
        return parse_wait(value, &job->wait_ms, err);
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

/* Which one it was. */
static int parse_field(struct sim_job *job, char *word, struct error *err)
{
    char *value = strchr(word, '=');
    const char *meant;

    if (value)
        *value++ = '\0';
    for (unsigned i = 0; i < FIELD_COUNT; i++) {
        int r;

        if (strcmp(word, field_names[i]) != 0)
            continue;
        r = value ? parse_value(job, (enum field)i, value, err) : set_flag(job, (enum field)i, err);
        return r < 0 ? r : (int)i;
    }
    meant = suggest_nearest(word, field_names, FIELD_COUNT);
    if (meant)
        return error_set(err, -EINVAL, "nobody knows %s; did you mean %s?", word, meant);
    return error_set(err, -EINVAL, "nobody knows %s", word);
}

void sim_trace_job_init(struct sim_item *item, const char *name)
{
    struct sim_job *job = &item->job;

    item->kind = SIM_ITEM_JOB;
    *job = (struct sim_job){ .claim = { .priority = CLAIM_PRIORITY_NORMAL, .part_count = 1 },
                             .wait_ms = UINT64_C(600000),
                             .load_ms = 1000,
                             .run_ms = 60000,
                             .idle_ms = 1000 };
    job->claim.parts[0].gpu = CLAIM_GPU_ANY;
    (void)snprintf(job->claim.name, sizeof(job->claim.name), "%s", name);
}

int sim_trace_parse_fields(char *words, struct sim_item *item, struct error *err)
{
    const uint32_t habits =
        UINT32_C(1) << FIELD_RUN | UINT32_C(1) << FIELD_BUSY | UINT32_C(1) << FIELD_IDLE;
    struct sim_job *job = &item->job;
    char *rest = words, *word;
    uint32_t seen = 0;

    while ((word = strtok_r(NULL, BLANKS, &rest))) {
        int field = parse_field(job, word, err);

        if (field < 0)
            return field;
        if ((seen >> field) & 1)
            return error_set(err, -EINVAL, "%s is there twice", field_names[field]);
        seen |= UINT32_C(1) << field;
    }
    item->has_habits = (seen & habits) != 0;
    if (job->claim.parts[0].resident_bytes == 0)
        return error_set(err, -EINVAL, "job %s needs resident=…", job->claim.name);
    return 0;
}

static int parse_job(char **rest, struct sim_item *item, struct error *err)
{
    const char *name = strtok_r(NULL, BLANKS, rest);

    if (!name || strlen(name) >= CLAIM_NAME_BYTES || strchr(name, '='))
        return error_set(err, -EINVAL, "a job needs a name of at most %d letters",
                         CLAIM_NAME_BYTES - 1);
    sim_trace_job_init(item, name);
    return sim_trace_parse_fields(*rest, item, err);
}

static int parse_foreign(char **rest, struct sim_item *item, struct error *err)
{
    const char *gpu = strtok_r(NULL, BLANKS, rest);
    const char *bytes = strtok_r(NULL, BLANKS, rest);

    item->kind = SIM_ITEM_FOREIGN;
    if (!gpu || !bytes || strncmp(gpu, "gpu=", 4) != 0 || strtok_r(NULL, BLANKS, rest))
        return error_set(err, -EINVAL, "write: TIME foreign gpu=0 2GiB");
    if (strcmp(bytes, "0") == 0)
        item->foreign_bytes = 0;
    else if (parse_bytes(bytes, &item->foreign_bytes, err) < 0)
        return -EINVAL;
    if (parse_gpu(gpu + 4, &item->gpu, err) < 0)
        return -EINVAL;
    return item->gpu == CLAIM_GPU_ANY
               ? error_set(err, -EINVAL, "gpu=any: a foreign program is on one of them")
               : 0;
}

static int parse_gpu_line(char **rest, struct sim_item *item, struct error *err)
{
    const char *gpu = strtok_r(NULL, BLANKS, rest);
    const char *capacity = strtok_r(NULL, BLANKS, rest);
    const char *reserve = strtok_r(NULL, BLANKS, rest);

    item->kind = SIM_ITEM_GPU;
    if (!gpu || !capacity || !reserve || strncmp(reserve, "reserve=", 8) != 0 ||
        strtok_r(NULL, BLANKS, rest))
        return error_set(err, -EINVAL, "write: TIME gpu 0 11.99GiB reserve=800MiB");
    if (parse_gpu(gpu, &item->gpu, err) < 0 ||
        parse_bytes(capacity, &item->capacity_bytes, err) < 0)
        return -EINVAL;
    if (item->gpu == CLAIM_GPU_ANY)
        return error_set(err, -EINVAL, "gpu any is no gpu: write its number");
    reserve += 8;
    if (strcmp(reserve, "0") != 0 && parse_bytes(reserve, &item->reserve_bytes, err) < 0)
        return -EINVAL;
    if (item->reserve_bytes >= item->capacity_bytes)
        return error_set(err, -EINVAL, "the reserve leaves nothing of gpu %u", item->gpu);
    return 0;
}

/* A word of a burst's line, or of the end's, which has only its time. */
static int parse_burst_word(char *word, struct sim_burst *burst, bool is_end, struct error *err)
{
    char *value = strchr(word, '=');

    if (!value)
        return error_set(err, -EINVAL, "'%s': write NAME=VALUE", word);
    *value++ = '\0';
    if (strcmp(word, "after") == 0)
        return duration_parse(value, &burst->after_ms, err);
    if (!is_end && strcmp(word, "for") == 0)
        return duration_parse(value, &burst->for_ms, err);
    if (!is_end && strcmp(word, "wait") == 0)
        return parse_wait(value, &burst->wait_ms, err);
    if (!is_end && strcmp(word, "bytes") == 0)
        return parse_bytes(value, &burst->bytes, err);
    return error_set(err, -EINVAL,
                     is_end ? "%s=…: write end after=4s"
                            : "%s=…: a burst knows after, for, bytes and wait",
                     word);
}

static int parse_burst(char **rest, struct sim_item *item, bool is_end, struct error *err)
{
    char *word;

    item->kind = is_end ? SIM_ITEM_END : SIM_ITEM_BURST;
    item->burst = (struct sim_burst){ .after_ms = CLOCK_NEVER_MS,
                                      .for_ms = CLOCK_NEVER_MS,
                                      .wait_ms = CLOCK_NEVER_MS };
    while ((word = strtok_r(NULL, BLANKS, rest)))
        if (parse_burst_word(word, &item->burst, is_end, err) < 0)
            return -EINVAL;
    if (item->burst.after_ms == CLOCK_NEVER_MS)
        return error_set(err, -EINVAL, "%s needs after=…", is_end ? "end" : "burst");
    if (!is_end && item->burst.for_ms == CLOCK_NEVER_MS)
        return error_set(err, -EINVAL, "burst needs for=…");
    return 0;
}

static int parse_timed(const char *time, char **rest, struct sim_item *item, struct error *err)
{
    const char *kind;

    if (duration_parse(time, &item->at_ms, err) < 0)
        return -EINVAL;
    kind = strtok_r(NULL, BLANKS, rest);
    if (kind && strcmp(kind, "job") == 0)
        return parse_job(rest, item, err);
    if (kind && strcmp(kind, "foreign") == 0)
        return parse_foreign(rest, item, err);
    if (kind && strcmp(kind, "gpu") == 0)
        return parse_gpu_line(rest, item, err);
    return error_set(err, -EINVAL, "after the time write job, foreign or gpu");
}

int sim_trace_parse(const char *line, struct sim_item *ret_item, struct error *err)
{
    char copy[TRACE_LINE_BYTES], *rest = NULL;
    const char *first;
    struct sim_item item = { 0 };
    int r;

    if ((size_t)snprintf(copy, sizeof(copy), "%s", line) >= sizeof(copy))
        return error_set(err, -E2BIG, "the line is longer than %d bytes", TRACE_LINE_BYTES - 1);
    copy[strcspn(copy, "#")] = '\0';
    first = strtok_r(copy, BLANKS, &rest);
    if (!first)
        return 0;
    if (strcmp(first, "burst") == 0 || strcmp(first, "end") == 0)
        r = parse_burst(&rest, &item, first[0] == 'e', err);
    else
        r = parse_timed(first, &rest, &item, err);
    if (r < 0)
        return r;
    *ret_item = item;
    return 1;
}
