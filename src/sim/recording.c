/* SPDX-License-Identifier: Apache-2.0 */

#include "sim/recording.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "sim/trace_write.h"

#define WORDS_BYTES  512
#define BUCKET_COUNT 4096

enum entry_state {
    ENTRY_LINE = 0, /* a gpu, or foreign bytes */
    ENTRY_WAITING,
    ENTRY_LOADING,
    ENTRY_IDLE,
    ENTRY_BURST_WAITING,
    ENTRY_BUSY,
    ENTRY_ENDED,
};

/* A line, or a job with those below it. */
struct entry {
    struct entry *next, *in_bucket;
    struct sim_item item; /* its job's bursts are owned */
    enum entry_state state;
    uint64_t lease_id;
    bool has_run, is_cut; /* it was granted; it was there until the recording's end */
    uint64_t granted_ms, ready_ms;
    uint64_t since_ms; /* of the state */
};

struct sim_recording {
    int (*put)(void *user, const char *line, struct error *err);
    void *user; /* borrowed */
    uint64_t start_ms, now_ms;
    bool has_begun;
    bool is_past_gpus;
    uint32_t gpu_count;
    struct entry *first, *last;          /* owned: in the order of arrival */
    struct entry *buckets[BUCKET_COUNT]; /* borrowed: the jobs that have not ended */
    struct sim_recording_counts counts;
};

int sim_recording_new(int (*put)(void *user, const char *line, struct error *err), void *user,
                      struct sim_recording **ret_recording)
{
    struct sim_recording *recording = calloc(1, sizeof(*recording));

    if (!recording)
        return -ENOMEM;
    recording->put = put;
    recording->user = user;
    *ret_recording = recording;
    return 0;
}

static void entry_free(struct entry *entry)
{
    free(entry->item.job.bursts);
    free(entry);
}

void sim_recording_free(struct sim_recording *recording)
{
    if (!recording)
        return;
    while (recording->first) {
        struct entry *entry = recording->first;

        recording->first = entry->next;
        entry_free(entry);
    }
    free(recording);
}

struct sim_recording_counts sim_recording_counts(const struct sim_recording *recording)
{
    return recording->counts;
}

/* ---- what comes out ---- */

static int put_job(const struct sim_recording *recording, const struct entry *entry,
                   struct error *err)
{
    const struct sim_job *job = &entry->item.job;
    char line[SIM_TRACE_LINE_BYTES];
    const char *remark = "";
    int r;

    if (!entry->has_run)
        remark = entry->is_cut ? "it still waited at the end" : "it did not run";
    else if (entry->is_cut)
        remark = "it was still there at the end";
    r = recording->put(recording->user,
                       sim_trace_write_job(&entry->item, entry->has_run, remark, line), err);
    for (uint32_t i = 0; i < job->burst_count && r == 0; i++)
        r = recording->put(recording->user, sim_trace_write_burst(&job->bursts[i], line), err);
    if (r == 0 && job->burst_count > 0)
        r = recording->put(recording->user, sim_trace_write_end(job->rest_ms, line), err);
    return r;
}

/* All that is complete, up to the first that is not. */
static int put_ended(struct sim_recording *recording, struct error *err)
{
    char line[SIM_TRACE_LINE_BYTES];
    int r = 0;

    while (r == 0 && recording->first &&
           (recording->first->state == ENTRY_LINE || recording->first->state == ENTRY_ENDED)) {
        struct entry *entry = recording->first;

        r = entry->state == ENTRY_LINE
                ? recording->put(recording->user, sim_trace_write_line(&entry->item, line), err)
                : put_job(recording, entry, err);
        recording->first = entry->next;
        if (!recording->first)
            recording->last = NULL;
        entry_free(entry);
    }
    return r;
}

/* ---- what comes in ---- */

static struct entry **entry_slot(struct sim_recording *recording, uint64_t lease_id)
{
    struct entry **slot = &recording->buckets[lease_id % BUCKET_COUNT];

    while (*slot && (*slot)->lease_id != lease_id)
        slot = &(*slot)->in_bucket;
    return slot;
}

static int entry_add(struct sim_recording *recording, const struct sim_item *item,
                     struct entry **ret_entry)
{
    struct entry *entry = calloc(1, sizeof(*entry));

    if (!entry)
        return -ENOMEM;
    entry->item = *item;
    entry->item.at_ms = recording->now_ms;
    *(recording->last ? &recording->last->next : &recording->first) = entry;
    recording->last = entry;
    *ret_entry = entry;
    return 0;
}

static int on_line(struct sim_recording *recording, const struct sim_step *step)
{
    struct sim_item item = { .kind = SIM_ITEM_FOREIGN,
                             .gpu = step->gpu,
                             .foreign_bytes = step->bytes };
    struct entry *entry;

    if (item.kind == SIM_ITEM_FOREIGN && step->gpu >= SIM_GPU_MAX)
        return 0;
    if (strcmp(step->kind, "gpu") == 0) {
        if (step->gpu != recording->gpu_count || recording->is_past_gpus)
            return 0; /* said again, or one that came later */
        recording->gpu_count++;
        item.kind = SIM_ITEM_GPU;
        item.capacity_bytes = step->bytes;
        if (!step->words || strncmp(step->words, "reserve=", 8) != 0)
            return -EPROTO;
        item.reserve_bytes = strtoull(step->words + 8, NULL, 10);
    }
    recording->is_past_gpus = item.kind == SIM_ITEM_FOREIGN;
    return entry_add(recording, &item, &entry);
}

/* A name is one word, without what means something in a trace. */
static void clean_name(char name[CLAIM_NAME_BYTES], const char *from)
{
    (void)snprintf(name, CLAIM_NAME_BYTES, "%s", from && *from ? from : "unnamed");
    for (char *at = name; *at; at++)
        if ((unsigned char)*at <= ' ' || *at == '=' || *at == '#' || *at == 0x7f)
            *at = '_';
}

static int on_asked(struct sim_recording *recording, const struct sim_step *step)
{
    char name[CLAIM_NAME_BYTES], words[WORDS_BYTES];
    struct entry **slot = entry_slot(recording, step->lease_id);
    struct sim_item item = { 0 };
    struct entry *entry;
    struct error unused = { 0 };

    if (*slot)
        return 0; /* said again for somebody else who follows */
    clean_name(name, step->name);
    (void)snprintf(words, sizeof(words), "%s", step->words ? step->words : "");
    sim_trace_job_init(&item, name);
    if (sim_trace_parse_fields(words, &item, &unused) < 0) {
        recording->counts.left_out++;
        return 0;
    }
    recording->is_past_gpus = true;
    if (entry_add(recording, &item, &entry) < 0)
        return -ENOMEM;
    entry->lease_id = step->lease_id;
    entry->state = ENTRY_WAITING;
    entry->since_ms = recording->now_ms;
    *slot = entry;
    recording->counts.jobs++;
    return 0;
}

static void entry_set(const struct sim_recording *recording, struct entry *entry,
                      enum entry_state state)
{
    entry->state = state;
    entry->since_ms = recording->now_ms;
}

static void on_ready(const struct sim_recording *recording, struct entry *entry)
{
    if (entry->state != ENTRY_LOADING)
        return;
    entry->ready_ms = recording->now_ms;
    entry->item.job.load_ms = recording->now_ms - entry->granted_ms;
    entry_set(recording, entry, ENTRY_IDLE);
}

/* Who bursts is ready, said or not. */
static int burst_add(const struct sim_recording *recording, struct entry *entry, uint64_t bytes)
{
    struct sim_job *job = &entry->item.job;
    const uint32_t count = job->burst_count;

    on_ready(recording, entry);
    if (count == 0 || (count >= 8 && (count & (count - 1)) == 0)) {
        struct sim_burst *grown =
            reallocarray(job->bursts, count ? 2 * (size_t)count : 8, sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        job->bursts = grown;
    }
    job->bursts[job->burst_count++] =
        (struct sim_burst){ .after_ms = recording->now_ms - entry->since_ms,
                            .bytes = bytes < job->claim.parts[0].burst_bytes ? bytes : 0,
                            .wait_ms = CLOCK_NEVER_MS };
    return 0;
}

static int on_burst(struct sim_recording *recording, struct entry *entry, uint64_t bytes,
                    bool is_waiting)
{
    if (entry->state == ENTRY_IDLE || entry->state == ENTRY_LOADING) {
        if (burst_add(recording, entry, bytes) < 0)
            return -ENOMEM;
    } else if (entry->state != ENTRY_BURST_WAITING || is_waiting) {
        return 0;
    }
    recording->counts.bursts += !is_waiting;
    entry_set(recording, entry, is_waiting ? ENTRY_BURST_WAITING : ENTRY_BUSY);
    return 0;
}

/* How long one would have been that did not come is not known: as the one before it. */
static void on_burst_over(struct sim_recording *recording, struct entry *entry)
{
    struct sim_job *job = &entry->item.job;
    struct sim_burst *burst = job->burst_count > 0 ? &job->bursts[job->burst_count - 1] : NULL;

    if (entry->state == ENTRY_BUSY) {
        burst->for_ms = recording->now_ms - entry->since_ms;
    } else if (entry->state == ENTRY_BURST_WAITING) {
        burst->wait_ms = recording->now_ms - entry->since_ms;
        burst->for_ms = job->burst_count > 1 ? burst[-1].for_ms : 0;
        recording->counts.bursts_refused++;
    } else {
        return;
    }
    entry_set(recording, entry, ENTRY_IDLE);
}

/* What was not told as it happened: load=… busy=… idle=…, on average. */
static void take_habits(struct sim_recording *recording, struct entry *entry, const char *words)
{
    struct sim_item item = entry->item;
    char copy[WORDS_BYTES];
    struct error unused = { 0 };

    (void)snprintf(copy, sizeof(copy), "%s", words);
    item.job.load_ms = 0;
    if (entry->state != ENTRY_LOADING || sim_trace_parse_fields(copy, &item, &unused) < 0)
        return;
    entry->item = item;
    entry->ready_ms = clock_after_ms(entry->granted_ms, item.job.load_ms);
    if (entry->ready_ms > recording->now_ms)
        entry->ready_ms = recording->now_ms;
    entry->since_ms = entry->ready_ms;
    entry->state = ENTRY_IDLE;
}

/* Who gives up waited as long as it would; who was refused had said how long that is, and may be
 * let in elsewhere. */
static void on_gone(struct sim_recording *recording, struct entry *entry, bool is_given_up)
{
    struct sim_job *job = &entry->item.job;

    if (entry->state == ENTRY_WAITING) {
        if (is_given_up)
            job->wait_ms = recording->now_ms - entry->item.at_ms;
    } else {
        on_burst_over(recording, entry);
        if (entry->state == ENTRY_LOADING && job->claim.is_always_busy) {
            /* It need not say that it is ready. */
            job->load_ms = 0;
            entry->ready_ms = entry->granted_ms;
            entry->since_ms = entry->granted_ms;
        } else {
            on_ready(recording, entry);
        }
        job->run_ms = recording->now_ms - entry->ready_ms;
        job->rest_ms = recording->now_ms - entry->since_ms;
    }
    *entry_slot(recording, entry->lease_id) = entry->in_bucket;
    entry->state = ENTRY_ENDED;
}

static int on_lease_step(struct sim_recording *recording, struct entry *entry,
                         const struct sim_step *step)
{
    if (strcmp(step->kind, "granted") == 0) {
        if (entry->state != ENTRY_WAITING)
            return 0;
        recording->counts.granted++;
        entry->has_run = true;
        entry->granted_ms = recording->now_ms;
        entry_set(recording, entry, ENTRY_LOADING);
    } else if (strcmp(step->kind, "ready") == 0) {
        on_ready(recording, entry);
    } else if (strcmp(step->kind, "burst_asked") == 0) {
        return on_burst(recording, entry, step->bytes, true);
    } else if (strcmp(step->kind, "burst") == 0) {
        return on_burst(recording, entry, step->bytes, false);
    } else if (strcmp(step->kind, "burst_end") == 0 || strcmp(step->kind, "burst_refused") == 0) {
        on_burst_over(recording, entry);
    } else if (strcmp(step->kind, "refused") == 0) {
        recording->counts.refused++;
        on_gone(recording, entry, step->words && *step->words);
    } else if (strcmp(step->kind, "released") == 0) {
        if (step->words && *step->words)
            take_habits(recording, entry, step->words);
        on_gone(recording, entry, true);
    } else if (strcmp(step->kind, "resized") == 0) {
        recording->counts.resized++;
    }
    return 0;
}

static void pass_time(struct sim_recording *recording, uint64_t at_ms)
{
    if (!recording->has_begun)
        recording->start_ms = at_ms;
    recording->has_begun = true;
    if (at_ms > recording->start_ms && at_ms - recording->start_ms > recording->now_ms)
        recording->now_ms = at_ms - recording->start_ms;
}

int sim_recording_step(struct sim_recording *recording, const struct sim_step *step,
                       struct error *err)
{
    struct entry *entry;
    int r = 0;

    pass_time(recording, step->at_ms);
    if (strcmp(step->kind, "gpu") == 0 || strcmp(step->kind, "foreign") == 0) {
        r = on_line(recording, step);
    } else if (strcmp(step->kind, "asked") == 0) {
        r = on_asked(recording, step);
    } else {
        entry = *entry_slot(recording, step->lease_id);
        r = entry ? on_lease_step(recording, entry, step) : 0;
    }
    if (r < 0)
        return error_set(err, r, "no memory for the recording, or a step that makes no sense");
    return put_ended(recording, err);
}

int sim_recording_end(struct sim_recording *recording, uint64_t at_ms, struct error *err)
{
    pass_time(recording, at_ms);
    for (struct entry *entry = recording->first; entry; entry = entry->next) {
        if (entry->state == ENTRY_LINE || entry->state == ENTRY_ENDED)
            continue;
        entry->is_cut = true;
        on_gone(recording, entry, false);
    }
    return put_ended(recording, err);
}
