/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/doors.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/arbiter.h"
#include "daemon/daemon.h"

#define SETTLE_MS       100 /* a directory is not removed at one stroke */
#define TRY_EVERY_MS    1000
#define OTHER_LEAVES_MS 3000 /* one that waits for our state directory gives up before */

static void on_time(uv_timer_t *timer);
static void watch(struct daemon *daemon);

static bool is_needed(const struct daemon *daemon)
{
    return daemon->sessions.count > 0 || daemon->holders.count > 0;
}

/* Another daemon holds the new directory's lock. Perhaps only until it finds that our state
 * directory is taken; where the gpus' locks went with the old directory there is no time to find
 * out. */
static bool must_give_way(const struct daemon *daemon, int r)
{
    return r == -EEXIST && (arbiter_locks_in(daemon->place.runtime_dir) ||
                            clock_now_ms() - daemon->doors.lost_ms >= OTHER_LEAVES_MS);
}

static void fail(struct daemon *daemon, int r, const struct error *err)
{
    struct doors *doors = &daemon->doors;
    char safe[LOG_ESCAPED_BYTES];

    if (must_give_way(daemon, r)) {
        daemon_end(daemon, "its sockets were removed, and another brimd is there");
        return;
    }
    if (!doors->has_complained)
        log_warn("daemon",
                 "event=doors_lost reason=\"%s\" effect=\"those who are connected are served, "
                 "nobody else comes in; tried again every second\"",
                 log_escape(err->message, safe));
    doors->has_complained = true;
    (void)uv_timer_start(&doors->timer, on_time, TRY_EVERY_MS, 0);
}

static void on_time(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    struct doors *doors = &daemon->doors;
    struct error err = { 0 };

    if (daemon->is_ending || place_is_there(&daemon->place))
        return;
    if (!is_needed(daemon)) { /* and whoever removed them wants them gone */
        daemon_end(daemon, "its sockets were removed, and nobody needs it");
        return;
    }
    if (doors->lost_ms == 0)
        doors->lost_ms = clock_now_ms();
    int r = place_reopen(&daemon->place, daemon->options.scope, &err);
    if (r == 0)
        r = daemon_change_doors(daemon, &err);
    if (r < 0) {
        fail(daemon, r, &err);
        return;
    }
    log_warn("daemon", "event=doors_made_again reason=\"the sockets were removed\" runtime_dir=%s",
             daemon->place.runtime_dir);
    doors->lost_ms = 0;
    doors->has_complained = false;
    watch(daemon);
}

static void on_change(uv_fs_event_t *event, const char *name, int events, int status)
{
    struct daemon *daemon = event->data;

    (void)name;
    (void)events;
    (void)status;
    doors_check(daemon);
}

/* The watch is one of the directory that was there when it began. */
static void watch(struct daemon *daemon)
{
    struct doors *doors = &daemon->doors;

    (void)uv_fs_event_stop(&doors->watch);
    const int r = uv_fs_event_start(&doors->watch, on_change, daemon->place.runtime_dir, 0);
    doors->is_watched = r == 0;
    if (r < 0)
        log_warn("daemon", "event=doors_not_watched reason=\"%s\"", uv_strerror(r));
    uv_unref((uv_handle_t *)&doors->watch);
    doors_check(daemon); /* what happened before */
}

void doors_check(struct daemon *daemon)
{
    if (!daemon->is_ending && !uv_is_active((const uv_handle_t *)&daemon->doors.timer) &&
        !place_is_there(&daemon->place))
        (void)uv_timer_start(&daemon->doors.timer, on_time, SETTLE_MS, 0);
}

void doors_open(struct daemon *daemon)
{
    struct doors *doors = &daemon->doors;

    (void)uv_fs_event_init(daemon->loop, &doors->watch);
    (void)uv_timer_init(daemon->loop, &doors->timer);
    doors->watch.data = daemon;
    doors->timer.data = daemon;
    watch(daemon);
}

void doors_close(struct daemon *daemon)
{
    uv_close((uv_handle_t *)&daemon->doors.watch, NULL);
    uv_close((uv_handle_t *)&daemon->doors.timer, NULL);
}
