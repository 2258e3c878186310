/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/control.h"
#include "daemon/decide.h"
#include "daemon/held.h"
#include "daemon/holder.h"
#include "daemon/note.h"
#include "daemon/recorder.h"

#define CHORES_EVERY_MS 1000
#define END_SOON_MS     50
#define LOCKS_EVERY     5 /* chores: how often a gpu of another arbiter is tried again */

static void on_wakeup(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;

    daemon->wakeup_ms = CLOCK_NEVER_MS;
    daemon_pump(daemon);
}

static void plan_wakeup(struct daemon *daemon)
{
    const uint64_t next_ms = budget_next_wakeup_ms(daemon->budget);
    const uint64_t now_ms = clock_now_ms();

    if (next_ms == daemon->wakeup_ms)
        return;
    daemon->wakeup_ms = next_ms;
    if (next_ms == CLOCK_NEVER_MS)
        (void)uv_timer_stop(&daemon->wakeup);
    else
        (void)uv_timer_start(&daemon->wakeup, on_wakeup, next_ms > now_ms ? next_ms - now_ms : 0,
                             0);
}

void daemon_pump(struct daemon *daemon)
{
    if (daemon->is_ending)
        return;
    do {
        budget_advance(daemon->budget, clock_now_ms());
        decide_all(daemon);
    } while (sessions_reap(daemon));
    plan_wakeup(daemon);
    sampler_plan(daemon);
}

static void on_chores(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    bool is_more = holders_look_after(daemon);

    is_more |= requests_expire(daemon);
    daemon->chores_count++;
    if (!daemon->doors.is_watched)
        doors_check(daemon);
    if (daemon->chores_count % LOCKS_EVERY == 0)
        is_more |= !gpus_retry_locks(daemon);
    else
        is_more |= !gpus_are_ours(daemon);
    if (!is_more)
        (void)uv_timer_stop(timer);
    daemon_pump(daemon);
}

void daemon_want_chores(struct daemon *daemon)
{
    if (!daemon->is_ending && !uv_is_active((const uv_handle_t *)&daemon->chores))
        (void)uv_timer_start(&daemon->chores, on_chores, CHORES_EVERY_MS, CHORES_EVERY_MS);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *daemon = handle->data;

    if (number == SIGHUP)
        log_info("daemon", "event=ignored signal=SIGHUP");
    else
        daemon_end(daemon, number == SIGTERM ? "SIGTERM" : "SIGINT");
}

static int open_signals(struct daemon *daemon)
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        int r = uv_signal_init(daemon->loop, &daemon->signals[i]);
        if (r == 0)
            r = uv_signal_start(&daemon->signals[i], on_signal, numbers[i]);
        if (r < 0)
            return r;
        daemon->signals[i].data = daemon;
        uv_unref((uv_handle_t *)&daemon->signals[i]);
    }
    return 0;
}

static void open_timers(struct daemon *daemon)
{
    (void)uv_timer_init(daemon->loop, &daemon->wakeup);
    (void)uv_timer_init(daemon->loop, &daemon->chores);
    (void)uv_timer_init(daemon->loop, &daemon->ending);
    daemon->wakeup.data = daemon;
    daemon->ending.data = daemon;
    daemon->chores.data = daemon;
    daemon->wakeup_ms = CLOCK_NEVER_MS;
}

static void on_history_failed(void *user, const struct error *err)
{
    char safe[LOG_ESCAPED_BYTES];

    (void)user;
    log_error("history", "event=write_failed reason=\"%s\"", log_escape(err->message, safe));
}

static void on_history_recovered(void *user)
{
    (void)user;
    log_info("history", "event=written_again");
}

/* Without it events are in memory only, and their numbers begin anew: worse, but no reason not to
 * work. */
static void open_history(struct daemon *daemon)
{
    const struct history_listener listener = { .on_failed = on_history_failed,
                                               .on_recovered = on_history_recovered };
    struct error err = { 0 };
    char path[PATHS_BYTES];
    int r = paths_join(path, sizeof(path), daemon->place.state_dir, "events.sqlite", &err);

    if (r == 0)
        r = history_open(daemon->loop, path, daemon->events, &listener, &daemon->history, &err);
    if (r < 0)
        on_history_failed(NULL, &err);
}

static int open_state(struct daemon *daemon, struct error *err)
{
    const struct budget_limits limits = BUDGET_LIMITS_DEFAULT;
    int r = budget_new(&limits, &daemon->budget);

    if (r == 0)
        r = holders_init(&daemon->holders);
    if (r == 0)
        r = refusals_init(&daemon->refusals);
    if (r == 0)
        r = watches_new(daemon->loop, &daemon->watches);
    if (r < 0)
        return error_set(err, r, "out of memory");
    r = recorder_open(daemon, &daemon->recorder);
    if (r == 0)
        r = events_new(1, &daemon->events);
    if (r == 0)
        r = events_new(1, &daemon->steps);
    if (r < 0)
        return error_set(err, r, "out of memory");
    open_history(daemon);
    return 0;
}

static int open_api(struct daemon *daemon, struct error *err)
{
    const struct api_source source = control_source(daemon);
    const int r =
        api_open(daemon->loop, daemon->place.api_fd, &source, daemon->events, &daemon->api, err);

    if (r == 0)
        daemon->place.api_fd = -1;
    return r;
}

static int open_doors(struct daemon *daemon, struct error *err)
{
    const int r = sessions_open(daemon, daemon->place.lease_fd);

    if (r < 0)
        return error_set(err, r, "cannot serve the lease socket: %s", uv_strerror(r));
    daemon->place.lease_fd = -1;
    return open_api(daemon, err);
}

static void on_old_api_closed(void *user)
{
    struct daemon *daemon = user;
    struct error err = { 0 };

    if (!daemon->is_ending && open_api(daemon, &err) < 0)
        daemon_end(daemon, err.message);
}

int daemon_change_doors(struct daemon *daemon, struct error *err)
{
    const int r = sessions_listen(daemon, daemon->place.lease_fd);

    if (r < 0)
        return error_set(err, r, "cannot serve the lease socket: %s", uv_strerror(r));
    daemon->place.lease_fd = -1;
    if (daemon->api) /* else its successor is on its way, and finds the newest socket */
        api_close(daemon->api, on_old_api_closed, daemon);
    daemon->api = NULL;
    return 0;
}

int daemon_open(uv_loop_t *loop, const struct options *options, struct place *take_place,
                struct daemon **ret_daemon, struct error *err)
{
    struct daemon *daemon = calloc(1, sizeof(*daemon));
    const char *emulated = getenv("BRIM_EMULATED");
    int r = 0;

    if (!daemon)
        return error_set(err, -ENOMEM, "out of memory");
    daemon->loop = loop;
    daemon->options = *options;
    daemon->place = *take_place;
    daemon->started_unix_ms = clock_wall_ms();
    daemon->started_ms = clock_now_ms();
    daemon->start_ns = daemon->started_unix_ms * 1000000;
    daemon->is_emulated = emulated && *emulated;
    open_timers(daemon);
    r = open_state(daemon, err);
    if (r == 0)
        r = sampler_open(daemon, err);
    if (r == 0)
        r = open_doors(daemon, err);
    if (r == 0 && open_signals(daemon) < 0)
        r = error_set(err, -EIO, "cannot watch signals");
    if (r < 0)
        return r; /* the process ends now: its memory and descriptors go with it */
    *take_place =
        (struct place){ .runtime_lock_fd = -1, .state_lock_fd = -1, .lease_fd = -1, .api_fd = -1 };
    doors_open(daemon);
    note_gpu(daemon, "daemon_started", -1, 0, BRIM_VERSION);
    *ret_daemon = daemon;
    return 0;
}

static void on_api_closed(void *user)
{
    struct daemon *daemon = user;

    daemon->api = NULL;
}

void daemon_end(struct daemon *daemon, const char *reason)
{
    if (daemon->is_ending)
        return;
    log_info("daemon", "event=ending reason=\"%s\" leases=%zu", reason, daemon->holders.count);
    daemon->is_ending = true;
    /* First of all, so that the next daemon can have the place at once; the locks go last. */
    place_unlink(&daemon->place);
    sampler_close(daemon);
    sessions_close(daemon);
    watches_free(daemon->watches);
    daemon->watches = NULL;
    if (daemon->api) /* else its successor is on its way, and does not come */
        api_close(daemon->api, on_api_closed, daemon);
    recorder_stop(daemon->recorder);
    history_close(daemon->history, NULL, NULL);
    daemon->history = NULL;
    uv_close((uv_handle_t *)&daemon->wakeup, NULL);
    uv_close((uv_handle_t *)&daemon->chores, NULL);
    uv_close((uv_handle_t *)&daemon->ending, NULL);
    doors_close(daemon);
    for (size_t i = 0; i < sizeof(daemon->signals) / sizeof(daemon->signals[0]); i++)
        uv_close((uv_handle_t *)&daemon->signals[i], NULL);
}

static void on_ending(uv_timer_t *timer)
{
    daemon_end(timer->data, "it was asked to");
}

void daemon_end_soon(struct daemon *daemon)
{
    if (!daemon->is_ending)
        (void)uv_timer_start(&daemon->ending, on_ending, END_SOON_MS, 0);
}

void daemon_free(struct daemon *daemon)
{
    recorder_close(daemon->recorder);
    holders_deinit(&daemon->holders);
    sessions_deinit(&daemon->sessions);
    refusals_deinit(&daemon->refusals);
    gpus_deinit(&daemon->gpus);
    events_free(daemon->events);
    events_free(daemon->steps);
    budget_free(daemon->budget);
    place_close(&daemon->place);
    free(daemon);
}
