/* SPDX-License-Identifier: Apache-2.0 */

#include "api/history.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "store/event_log.h"

/*
 *   idle --on_append--> timer --a second later--> writing (in the pool) --> idle, or timer again
 *                                                     `--(history_close)--> last write, closed
 *
 * The pool works on copies of the events; the ring goes on changing meanwhile.
 */

#define WRITE_AFTER_MS 1000
#define NUMBERS_LOST   1000 /* at most so many were appended in the second that a crash may lose */

struct batch {
    struct event_row *rows; /* owned, with their texts */
    size_t count;
};

struct history {
    struct events *events; /* borrowed */
    struct event_log *log; /* owned; while writing: the pool's */
    struct history_listener listener;
    uv_loop_t *loop; /* borrowed */
    uv_timer_t timer;
    uv_work_t work;
    struct batch batch;
    struct error error;
    int result;
    uint64_t written; /* number of the last event that was */
    bool is_writing, has_failed, is_closing;
    void (*on_closed)(void *user);
    void *on_closed_user;
};

/* ---- copies ---- */

static void batch_deinit(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        free((void *)(uintptr_t)batch->rows[i].name);
        free((void *)(uintptr_t)batch->rows[i].text);
    }
    free(batch->rows);
    *batch = (struct batch){ 0 };
}

static int copy_record(const struct event_record *record, struct event_row *row)
{
    const struct event *const event = &record->event;

    *row = (struct event_row){
        .number = record->number,
        .at_unix_ms = record->at_unix_ms,
        .kind = event->kind,
        .lease_id = event->lease_id,
        .gpu = event->gpu,
        .bytes = event->bytes,
        .name = event->name ? strdup(event->name) : NULL,
        .text = event->text ? strdup(event->text) : NULL,
    };
    return (event->name && !row->name) || (event->text && !row->text) ? -ENOMEM : 0;
}

/* What was appended since the last write. */
static int batch_init(struct batch *batch, const struct events *events, uint64_t since)
{
    const uint64_t first = events_first(events), last = events_last(events);
    const uint64_t from = since + 1 < first ? first : since + 1;
    struct event_record record;

    *batch = (struct batch){ 0 };
    if (last < from)
        return 0;
    batch->rows = calloc(last - from + 1, sizeof(*batch->rows));
    if (!batch->rows)
        return -ENOMEM;
    while (events_find(events, since, &record) == 0) {
        batch->count++;
        if (copy_record(&record, &batch->rows[batch->count - 1]) < 0) {
            batch_deinit(batch);
            return -ENOMEM;
        }
        since = record.number;
    }
    return 0;
}

/* ---- writing ---- */

static void finish_close(struct history *history);
static void on_time(uv_timer_t *timer);

static void report(struct history *history)
{
    if (history->result < 0 && !history->has_failed && history->listener.on_failed)
        history->listener.on_failed(history->listener.user, &history->error);
    if (history->result == 0 && history->has_failed && history->listener.on_recovered)
        history->listener.on_recovered(history->listener.user);
    history->has_failed = history->result < 0;
}

static void write_batch(uv_work_t *work)
{
    struct history *const history = work->data;

    history->result =
        event_log_append(history->log, history->batch.rows, history->batch.count, &history->error);
}

static void on_written(uv_work_t *work, int status)
{
    struct history *const history = work->data;

    (void)status;
    history->is_writing = false;
    /* What could not be written is tried again with what has come meanwhile, for as long as the
     * ring has it. */
    if (history->result == 0 && history->batch.count > 0)
        history->written = history->batch.rows[history->batch.count - 1].number;
    batch_deinit(&history->batch);
    report(history);
    if (history->is_closing)
        finish_close(history);
    else if (events_last(history->events) > history->written)
        (void)uv_timer_start(&history->timer, on_time, WRITE_AFTER_MS, 0);
}

static void on_time(uv_timer_t *timer)
{
    struct history *const history = timer->data;

    if (history->is_writing || batch_init(&history->batch, history->events, history->written) < 0)
        return;
    if (history->batch.count == 0) {
        batch_deinit(&history->batch);
        return;
    }
    history->is_writing =
        uv_queue_work(history->loop, &history->work, write_batch, on_written) == 0;
    if (!history->is_writing)
        batch_deinit(&history->batch);
}

static void on_append(void *user)
{
    struct history *const history = user;

    if (!history->is_writing && !uv_is_active((uv_handle_t *)&history->timer))
        (void)uv_timer_start(&history->timer, on_time, WRITE_AFTER_MS, 0);
}

/* ---- open and close ---- */

static int put_back(void *user, const struct event_row *row)
{
    const struct event event = {
        .kind = events_kind(row->kind),
        .lease_id = row->lease_id,
        .name = row->name,
        .gpu = row->gpu,
        .bytes = row->bytes,
        .text = row->text,
    };

    const int r = events_restore(user, row->number, row->at_unix_ms, &event);
    return r == -EINVAL ? 0 : r; /* a row that somebody made: left out */
}

int history_open(uv_loop_t *loop, const char *path, struct events *events,
                 const struct history_listener *listener, struct history **ret_history,
                 struct error *err)
{
    bool was_closed = true;
    struct history *history = calloc(1, sizeof(*history));

    if (!history)
        return error_set(err, -ENOMEM, "out of memory");
    int r = event_log_open(path, &history->log, &was_closed, err);
    if (r == 0)
        r = event_log_walk(history->log, EVENTS_RING_COUNT, put_back, events, err);
    if (r < 0) {
        event_log_close(history->log);
        free(history);
        return r;
    }
    if (!was_closed)
        events_skip(events, NUMBERS_LOST);
    history->events = events;
    history->listener = listener ? *listener : (struct history_listener){ 0 };
    history->loop = loop;
    history->work.data = history;
    history->written = events_last(events);
    (void)uv_timer_init(loop, &history->timer);
    history->timer.data = history;
    events_listen(events, on_append, history);
    *ret_history = history;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    OWNED(freep) struct history *history = handle->data;

    if (history->on_closed)
        history->on_closed(history->on_closed_user);
}

static void finish_close(struct history *history)
{
    if (batch_init(&history->batch, history->events, history->written) == 0 &&
        history->batch.count > 0) {
        write_batch(&history->work);
        report(history);
    }
    batch_deinit(&history->batch);
    event_log_close(history->log);
    uv_close((uv_handle_t *)&history->timer, on_timer_closed);
}

void history_close(struct history *history, void (*on_closed)(void *user), void *user)
{
    if (!history)
        return;
    history->is_closing = true;
    history->on_closed = on_closed;
    history->on_closed_user = user;
    events_listen(history->events, NULL, history);
    (void)uv_timer_stop(&history->timer);
    if (!history->is_writing)
        finish_close(history);
}
