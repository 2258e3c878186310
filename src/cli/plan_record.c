/* SPDX-License-Identifier: Apache-2.0 */

/*
 * brim plan --record: follows the steps of the daemon's leases until it is interrupted, --for is
 * over or the daemon ends, and writes them as a trace. It replaces FILE at its end, whole; until
 * then there is FILE.part.
 */

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/plan.h"
#include "cli/ps_view.h"
#include "sim/recording.h"

static volatile sig_atomic_t is_interrupted;

struct record {
    struct sim_recording *recording; /* owned */
    FILE *file;                      /* owned */
    const char *path;                /* borrowed */
    char *part_path;                 /* owned */
    uint64_t end_ms;                 /* of the monotonic clock; CLOCK_NEVER_MS */
    uint64_t last_number, lost;      /* of the daemon's steps */
    uint64_t last_ms; /* of the past: when its last step was; 0: it is followed until now */
    bool has_begun;
    struct error err;
};

static void on_signal(int signal)
{
    (void)signal;
    is_interrupted = 1;
}

static int put_line(void *user, const char *line, struct error *err)
{
    struct record *record = user;

    if (fprintf(record->file, "%s\n", line) < 0)
        return error_set(err, -EIO, "cannot write %s: %s", record->part_path, strerror(errno));
    return 0;
}

/* "l17" */
static uint64_t lease_id_of(const json_t *step)
{
    const char *text = ps_text(step, "lease");

    return text[0] == 'l' ? strtoull(text + 1, NULL, 10) : 0;
}

static int on_step(void *user, json_t *json)
{
    struct record *record = user;
    const uint64_t number = ps_number(json, "n");
    const struct sim_step step = {
        .kind = ps_text(json, "kind"),
        .at_ms = ps_number(json, "at_unix_ms"),
        .lease_id = lease_id_of(json),
        .name = ps_text(json, "name"),
        .words = ps_text(json, "text"),
        .gpu = (uint32_t)ps_number(json, "gpu"),
        .bytes = ps_number(json, "bytes"),
    };

    if (!record->has_begun)
        fprintf(stderr, "brim plan: recording to %s%s\n", record->path,
                record->end_ms == CLOCK_NEVER_MS ? " until Ctrl-C" : "");
    else if (number > record->last_number + 1)
        record->lost += number - record->last_number - 1;
    record->has_begun = true;
    record->last_number = number;
    return sim_recording_step(record->recording, &step, &record->err);
}

static int on_past_step(void *user, const struct sim_step *step)
{
    struct record *record = user;

    record->has_begun = true;
    record->last_ms = step->at_ms;
    return sim_recording_step(record->recording, step, &record->err);
}

static bool is_over(void *user)
{
    const struct record *record = user;

    return is_interrupted || clock_now_ms() >= record->end_ms;
}

static void catch_signals(void)
{
    const struct sigaction action = { .sa_handler = on_signal };

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
}

static void print_date(FILE *file)
{
    const time_t now = time(NULL);
    char text[64];
    struct tm local;

    if (localtime_r(&now, &local) && strftime(text, sizeof(text), "%F %H:%M:%S %z", &local) > 0)
        fprintf(file, "# brim %s, recorded from %s\n", BRIM_VERSION, text);
}

static int record_open(const struct plan *plan, struct record *record, struct error *err)
{
    if (asprintf(&record->part_path, "%s.part", plan->record) < 0) {
        record->part_path = NULL;
        return error_set(err, -ENOMEM, "no memory");
    }
    if (sim_recording_new(put_line, record, &record->recording) < 0)
        return error_set(err, -ENOMEM, "no memory");
    record->file = fopen(record->part_path, "we");
    if (!record->file)
        return error_set(err, -errno, "cannot write %s: %s", record->part_path, strerror(errno));
    print_date(record->file);
    return 0;
}

static int record_finish(const struct plan *plan, struct record *record, struct error *err)
{
    int r = sim_recording_end(record->recording,
                              record->last_ms ? record->last_ms : clock_wall_ms(), err);

    if (r == 0 && record->lost > 0)
        fprintf(record->file, "# incomplete: %" PRIu64 " steps came too fast\n", record->lost);
    if (fclose(record->file) != 0 && r == 0)
        r = error_set(err, -EIO, "cannot write %s: %s", record->part_path, strerror(errno));
    record->file = NULL;
    if (r == 0 && rename(record->part_path, plan->record) < 0)
        r = error_set(err, -errno, "cannot write %s: %s", plan->record, strerror(errno));
    return r;
}

static void record_deinit(struct record *record)
{
    if (record->file) {
        (void)fclose(record->file);
        (void)unlink(record->part_path);
    }
    sim_recording_free(record->recording);
    free(record->part_path);
}

static int report(const struct plan *plan, const struct record *record)
{
    const struct sim_recording_counts counts = sim_recording_counts(record->recording);

    printf("%s: %" PRIu64 " jobs (%" PRIu64 " let in, %" PRIu64 " refused), %" PRIu64 " bursts\n",
           plan->record, counts.jobs, counts.granted, counts.refused, counts.bursts);
    if (counts.left_out > 0)
        printf("left out: %" PRIu64 " leases over several gpus\n", counts.left_out);
    if (counts.resized > 0)
        printf("not in it: %" PRIu64 " changes of a lease's size\n", counts.resized);
    printf("play it: brim plan --trace %s\n", plan->record);
    if (record->lost == 0)
        return COMMAND_OK;
    fprintf(stderr, "brim plan: %s lacks %" PRIu64 " steps that came faster than they were read\n",
            plan->record, record->lost);
    return COMMAND_FAILED;
}

int plan_record(const struct plan *plan)
{
    struct record record = { .path = plan->record,
                             .end_ms = clock_after_ms(clock_now_ms(), plan->for_ms) };
    struct error err = { 0 };
    int r;

    catch_signals();
    r = record_open(plan, &record, &err);
    if (r == 0) {
        r = plan->is_past ? plan_past(on_past_step, &record, &err)
                          : api_follow_until("/v1/steps", on_step, is_over, &record, &err);
        if (record.err.code < 0)
            err = record.err;
    }
    /* A daemon that has gone has said all. */
    if (r == 0 || (r == -EIO && record.has_begun))
        r = record_finish(plan, &record, &err);
    if (r == 0)
        r = report(plan, &record);
    else
        fprintf(stderr, "brim plan: %s\n", err.message);
    record_deinit(&record);
    return r < 0 ? COMMAND_FAILED : r;
}
