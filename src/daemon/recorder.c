/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/recorder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/paths.h"
#include "daemon/daemon.h"
#include "daemon/holder.h"
#include "daemon/restore.h"
#include "store/journal.h"

#define JOURNAL_NAME   "brimd.sqlite"
#define RETRY_MS       1000 /* after a write that failed */
#define NUMBERS_AHEAD  1000 /* a crash skips numbers rather than giving them twice */
#define COMPLAIN_EVERY 60

struct recorder {
    struct daemon *daemon;   /* borrowed */
    struct journal *journal; /* owned; the pool's while is_writing; NULL: no room to make it yet */
    char path[PATHS_BYTES];
    uv_timer_t timer;
    uv_work_t work;
    bool is_writing;
    bool is_urgent; /* something came meanwhile that cannot wait */
    bool is_stopped;
    bool must_write_all; /* a write failed: what is in the file is unknown */
    unsigned failures;
    struct holder_list dirty;
    struct journal_batch next;    /* gathered */
    struct journal_batch written; /* the pool's while is_writing */
    int result;
    struct error problem;
    uint64_t reserved_lease;       /* below it the file knows that ids may have been given out */
    struct restorable *restorable; /* owned; until recorder_restore() */
};

static void on_timer(uv_timer_t *timer);

static void plan(struct recorder *recorder, uint64_t delay_ms)
{
    if (recorder->is_writing && delay_ms == 0)
        recorder->is_urgent = true;
    if (recorder->is_stopped || recorder->is_writing)
        return;
    if (!uv_is_active((const uv_handle_t *)&recorder->timer) || delay_ms == 0)
        (void)uv_timer_start(&recorder->timer, on_timer, delay_ms, 0);
}

static void *grow(void *array, size_t count, size_t item_bytes)
{
    if (count == 0 || (count >= 16 && (count & (count - 1)) == 0))
        return reallocarray(array, count == 0 ? 16 : count * 2, item_bytes);
    return array;
}

static void undirty(struct holder *holder)
{
    if (holder->is_dirty)
        LIST_REMOVE(holder, dirty_entry);
    holder->is_dirty = false;
}

void recorder_lease(struct recorder *recorder, struct holder *holder, bool is_urgent)
{
    if (!recorder || holder->is_released || !holder->is_granted)
        return;
    if (holder->id >= recorder->reserved_lease) {
        recorder->reserved_lease = holder->id + NUMBERS_AHEAD;
        recorder->next.next_lease = recorder->reserved_lease;
    }
    if (!holder->is_dirty)
        LIST_INSERT_HEAD(&recorder->dirty, holder, dirty_entry);
    holder->is_dirty = true;
    plan(recorder, is_urgent ? 0 : RECORDER_DELAY_MS);
}

bool recorder_is_sound(const struct recorder *recorder)
{
    return recorder && !recorder->is_stopped && recorder->failures == 0;
}

void recorder_lease_gone(struct recorder *recorder, struct holder *holder)
{
    struct journal_batch *next = NULL;
    uint64_t *gone = NULL;

    if (!recorder)
        return;
    undirty(holder);
    if (!holder->is_journaled)
        return;
    holder->is_journaled = false;
    next = &recorder->next;
    gone = grow(next->gone, next->gone_count, sizeof(*gone));
    if (!gone) {
        recorder->must_write_all = true;
        return;
    }
    next->gone = gone;
    next->gone[next->gone_count++] = holder->id;
    plan(recorder, RECORDER_DELAY_MS);
}

void recorder_refusal(struct recorder *recorder, const struct refusal_record *record)
{
    struct journal_batch *next = NULL;
    struct journal_refusal *refusals = NULL;
    char *text = NULL;

    if (!recorder || recorder->next.refusal_count >= JOURNAL_REFUSALS_KEPT)
        return;
    next = &recorder->next;
    refusals = grow(next->refusals, next->refusal_count, sizeof(*refusals));
    if (!refusals)
        return;
    next->refusals = refusals;
    text = strdup(record->text);
    if (!text)
        return;
    struct journal_refusal *refusal = &next->refusals[next->refusal_count++];
    *refusal = (struct journal_refusal){
        .id = record->id,
        .at_unix_ms = record->at_unix_ms,
        .pid = record->pid,
        .uid = record->uid,
        .kind = record->kind,
        .asked_bytes = record->asked_bytes,
        .free_bytes = record->free_bytes,
        .short_bytes = record->short_bytes,
        .capacity_bytes = record->capacity_bytes,
        .reserve_bytes = record->reserve_bytes,
        .foreign_bytes = record->foreign_bytes,
        .charged_bytes = record->charged_bytes,
        .draining_bytes = record->draining_bytes,
        .text = text,
    };
    memcpy(refusal->name, record->name, sizeof(refusal->name));
    memcpy(refusal->gpu, record->gpu_uuid, sizeof(refusal->gpu));
    plan(recorder, RECORDER_DELAY_MS);
}

static bool fill_row(const struct daemon *daemon, const struct holder *holder,
                     struct journal_lease *row)
{
    struct budget_lease_view view;

    if (!budget_view_lease(daemon->budget, holder->id, &view))
        return false;
    *row = (struct journal_lease){
        .id = holder->id,
        .state = view.state,
        .flags = holder->flags,
        .uid = holder->uid,
        .holder_pid = holder->pid,
        .holder_ticks = holder->start_ticks,
        .root_pid = holder->root_pid,
        .root_ticks = holder->root_ticks,
        .since_unix_ms = holder->since_unix_ms,
        .claim = *view.claim,
    };
    for (uint32_t i = 0; i < view.claim->part_count; i++)
        (void)snprintf(row->gpus[i], sizeof(row->gpus[i]), "%s",
                       daemon->gpus.table[view.claim->parts[i].gpu].uuid);
    return true;
}

static void mark_all(struct recorder *recorder)
{
    struct holder *holder = NULL;

    recorder->next.is_whole = true;
    recorder->must_write_all = false;
    recorder->next.next_lease = recorder->reserved_lease;
    LIST_FOREACH(holder, &recorder->daemon->holders.all, entry) {
        if (holder->is_released || !holder->is_granted || holder->is_dirty)
            continue;
        holder->is_dirty = true;
        LIST_INSERT_HEAD(&recorder->dirty, holder, dirty_entry);
    }
}

/* Copy what is dirty into the batch. */
static int gather(struct recorder *recorder)
{
    struct journal_batch *next = &recorder->next;
    struct holder *holder = NULL;

    /* Until they are put back, the file knows of leases that nothing else does. */
    if (recorder->must_write_all && !recorder->restorable)
        mark_all(recorder);
    while ((holder = LIST_FIRST(&recorder->dirty))) {
        struct journal_lease *rows = grow(next->leases, next->lease_count, sizeof(*rows));
        if (!rows)
            return -ENOMEM;
        next->leases = rows;
        if (fill_row(recorder->daemon, holder, &rows[next->lease_count])) {
            next->lease_count++;
            holder->is_journaled = true;
        }
        undirty(holder);
    }
    return 0;
}

static void write_batch(struct recorder *recorder)
{
    bool was_broken = false;

    recorder->result = recorder->journal ? 0
                                         : journal_open(recorder->path, &recorder->journal,
                                                        &was_broken, &recorder->problem);
    if (recorder->result == 0)
        recorder->result = journal_write(recorder->journal, &recorder->written, &recorder->problem);
}

/* Leases and numbers are written anew from what there is; refusals would be forgotten. */
static void keep_for_next(struct recorder *recorder)
{
    struct journal_batch *written = &recorder->written, *next = &recorder->next;

    if (next->refusal_count > 0)
        return;
    free(next->refusals);
    next->refusals = written->refusals;
    next->refusal_count = written->refusal_count;
    written->refusals = NULL;
    written->refusal_count = 0;
}

/* Those whose answer has waited for their row; also where it could not be written: a full disk
 * keeps nobody from working. */
static void tell_holders(struct recorder *recorder)
{
    const struct daemon *daemon = recorder->daemon;

    for (size_t i = 0; i < recorder->written.lease_count && !daemon->is_ending; i++) {
        struct holder *holder = holder_find(&daemon->holders, recorder->written.leases[i].id);
        if (holder && holder->is_answer_owed)
            holder_tell_granted(holder);
    }
}

static void finish(struct recorder *recorder)
{
    char safe[LOG_ESCAPED_BYTES];

    tell_holders(recorder);
    if (recorder->result < 0)
        keep_for_next(recorder);
    journal_batch_deinit(&recorder->written);
    if (recorder->result == 0) {
        if (recorder->failures > 0)
            log_info("journal", "event=written_again failures=%u", recorder->failures);
        recorder->failures = 0;
        return;
    }
    recorder->must_write_all = true;
    if (recorder->failures++ % COMPLAIN_EVERY == 0)
        log_error("journal", "event=write_failed reason=\"%s\" effect=\"brimd goes on without it\"",
                  log_escape(recorder->problem.message, safe));
}

static void on_work(uv_work_t *work)
{
    write_batch(work->data);
}

static void on_work_done(uv_work_t *work, int status)
{
    struct recorder *recorder = work->data;

    (void)status;
    recorder->is_writing = false;
    finish(recorder);
    if (recorder->must_write_all)
        plan(recorder, RETRY_MS);
    else if (!LIST_EMPTY(&recorder->dirty) || recorder->next.gone_count > 0 ||
             recorder->next.refusal_count > 0 || recorder->next.next_lease != 0)
        plan(recorder, recorder->is_urgent ? 0 : RECORDER_DELAY_MS);
}

static void on_timer(uv_timer_t *timer)
{
    struct recorder *recorder = timer->data;

    if (recorder->is_writing)
        return; /* its end plans anew */
    if (gather(recorder) < 0) {
        recorder->must_write_all = true;
        plan(recorder, RETRY_MS);
        return;
    }
    recorder->is_urgent = false;
    recorder->written = recorder->next;
    recorder->next = (struct journal_batch){ 0 };
    recorder->work.data = recorder;
    recorder->is_writing =
        uv_queue_work(recorder->daemon->loop, &recorder->work, on_work, on_work_done) == 0;
    if (!recorder->is_writing) {
        recorder->result = -EAGAIN;
        (void)error_set(&recorder->problem, recorder->result, "no thread to write it");
        finish(recorder);
        plan(recorder, RETRY_MS);
    }
}

static int on_loaded_refusal(void *user, const struct journal_refusal *refusal)
{
    struct recorder *recorder = user;
    struct refusal_record record = {
        .id = refusal->id,
        .at_unix_ms = refusal->at_unix_ms,
        .pid = refusal->pid,
        .uid = refusal->uid,
        .kind = refusal->kind,
        .asked_bytes = refusal->asked_bytes,
        .free_bytes = refusal->free_bytes,
        .short_bytes = refusal->short_bytes,
        .capacity_bytes = refusal->capacity_bytes,
        .reserve_bytes = refusal->reserve_bytes,
        .foreign_bytes = refusal->foreign_bytes,
        .charged_bytes = refusal->charged_bytes,
        .draining_bytes = refusal->draining_bytes,
        .text = refusal->text,
    };

    memcpy(record.name, refusal->name, sizeof(record.name));
    memcpy(record.gpu_uuid, refusal->gpu, sizeof(record.gpu_uuid));
    return refusals_restore(&recorder->daemon->refusals, &record) == -ENOMEM ? -ENOMEM : 0;
}

static int on_loaded_lease(void *user, const struct journal_lease *lease)
{
    struct recorder *recorder = user;

    return restorable_add(&recorder->restorable, lease);
}

/* Ids are reserved before any is given out. */
static int load(struct recorder *recorder, struct error *err)
{
    const struct journal_reader reader = { recorder, on_loaded_lease, on_loaded_refusal };
    struct journal_batch batch = { 0 };
    uint64_t next_lease = 1;
    int r = journal_load(recorder->journal, &reader, &next_lease, err);

    if (r < 0)
        return r;
    recorder->reserved_lease = next_lease + NUMBERS_AHEAD;
    batch.next_lease = recorder->reserved_lease;
    budget_reserve_ids(recorder->daemon->budget, next_lease);
    recorder->result = journal_write(recorder->journal, &batch, &recorder->problem);
    recorder->written = batch;
    finish(recorder);
    return 0;
}

int recorder_open(struct daemon *daemon, struct recorder **ret_recorder)
{
    struct recorder *recorder = calloc(1, sizeof(*recorder));
    struct error err = { 0 };
    char safe[LOG_ESCAPED_BYTES];
    bool was_broken = false;
    int r = 0;

    if (!recorder)
        return -ENOMEM;
    recorder->daemon = daemon;
    r = paths_join(recorder->path, sizeof(recorder->path), daemon->place.state_dir, JOURNAL_NAME,
                   &err);
    if (r == 0)
        r = journal_open(recorder->path, &recorder->journal, &was_broken, &err);
    if (was_broken)
        log_error("journal",
                  "event=broken path=%s effect=\"moved to %s.broken; beginning a fresh one; leases "
                  "are found again from their holders\"",
                  recorder->path, recorder->path);
    if (r == 0)
        r = load(recorder, &err);
    if (r < 0)
        log_error("journal", "event=unusable reason=\"%s\" effect=\"brimd works without it%s\"",
                  log_escape(err.message, safe), r == -ENOSPC ? " until there is room" : "");
    if (r < 0 && r != -ENOSPC) {
        restorable_free(recorder->restorable);
        journal_close(recorder->journal);
        free(recorder);
        return 0;
    }
    (void)uv_timer_init(daemon->loop, &recorder->timer);
    recorder->timer.data = recorder;
    if (r < 0) {
        recorder->must_write_all = true;
        recorder->failures = 1;
    }
    if (recorder->must_write_all)
        plan(recorder, RETRY_MS);
    *ret_recorder = recorder;
    return 0;
}

void recorder_restore(struct daemon *daemon)
{
    struct recorder *recorder = daemon->recorder;

    if (!recorder || !recorder->restorable)
        return;
    CRASH_POINT(daemon_restoring);
    restorable_put_back(daemon, recorder->restorable);
    CRASH_POINT(daemon_restored);
    restorable_free(recorder->restorable);
    recorder->restorable = NULL;
    /* The rows of those who did not live go with the first write. */
    recorder->must_write_all = true;
    plan(recorder, RECORDER_DELAY_MS);
}

void recorder_stop(struct recorder *recorder)
{
    if (!recorder || recorder->is_stopped)
        return;
    recorder->is_stopped = true;
    uv_close((uv_handle_t *)&recorder->timer, NULL);
}

void recorder_close(struct recorder *recorder)
{
    if (!recorder)
        return;
    /* What was never put back stays in the file for the next daemon. */
    if (!recorder->restorable && gather(recorder) == 0) {
        recorder->written = recorder->next;
        recorder->next = (struct journal_batch){ 0 };
        write_batch(recorder);
        finish(recorder);
    }
    journal_batch_deinit(&recorder->next);
    restorable_free(recorder->restorable);
    journal_close(recorder->journal);
    free(recorder);
}
