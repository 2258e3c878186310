/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/holder.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <brim/brim.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "daemon/answer.h"
#include "daemon/daemon.h"
#include "daemon/note.h"
#include "daemon/recorder.h"
#include "daemon/steps.h"

#define TELL_EVERY_MS 1000 /* a waiter hears at most so often of another reason */
#define LOOK_MAX      500  /* waiters that are looked at in one turn: a grant waits for the turn */

static bool is_adopted(const struct holder *holder)
{
    return (holder->flags & BRIM_CLAIM_ADOPT) != 0;
}

static void on_holder_exit(struct watch_listener *listener)
{
    struct holder *holder =
        (struct holder *)(void *)((char *)listener - offsetof(struct holder, process));
    struct daemon *daemon = holder->daemon;

    holder->is_holder_gone = true;
    holder->kill_at_ms = 0;
    if (holder->is_held_by_pid && holder->session && !is_adopted(holder) && holder->is_granted)
        return; /* a child holds the connection */
    holder_release(holder, "its process has ended");
    daemon_pump(daemon);
}

static int watch_holder(struct daemon *daemon, const struct holder_terms *terms,
                        const struct session *session, struct holder *holder)
{
    holder->process.on_exit = on_holder_exit;
    if (session && session->peer.watch && watch_pid(&session->peer) == terms->pid) {
        watch_share(&session->peer, &holder->process);
        return 0;
    }
    return watch_begin(daemon->watches, terms->pid, terms->start_ticks, &holder->process);
}

int holder_begin(struct daemon *daemon, const struct holder_terms *terms, struct session *session,
                 struct holder **ret_lease)
{
    struct holder *holder = NULL;
    struct budget_lease_view view;
    int r = holder_new(&daemon->holders, terms->lease_id, terms->uid, &holder);

    if (r < 0)
        return r;
    holder->daemon = daemon;
    holder->flags = terms->flags;
    holder->is_held_by_pid = (terms->flags & (BRIM_CLAIM_HELD_BY_PROCESS | BRIM_CLAIM_ADOPT)) != 0;
    holder->since_unix_ms = clock_wall_ms();
    holder->habits.wait_ms = CLOCK_NEVER_MS; /* until it is known better */
    /* A peer in another pid namespace has no pid here: its connection alone is its lease. */
    if (terms->pid != 0) {
        r = watch_holder(daemon, terms, session, holder);
        if (r < 0) {
            holder_free(&daemon->holders, holder);
            return r;
        }
        holder->pid = watch_pid(&holder->process);
        holder->start_ticks = watch_start_ticks(&holder->process);
        holder_set_root(&daemon->holders, holder, holder->pid, holder->start_ticks);
    }
    if (budget_view_lease(daemon->budget, terms->lease_id, &view))
        (void)snprintf(holder->name, sizeof(holder->name), "%s", view.claim->name);
    holder->session = session;
    if (session)
        session->holder = holder;
    *ret_lease = holder;
    return 0;
}

static uint64_t charge_of(const struct holder *holder)
{
    struct budget_lease_view view;
    uint64_t sum_bytes = 0;

    if (!budget_view_lease(holder->daemon->budget, holder->id, &view))
        return 0;
    for (uint32_t i = 0; i < view.claim->part_count; i++)
        sum_bytes += view.charge_bytes[i];
    return sum_bytes;
}

void holder_tell_granted(struct holder *holder)
{
    holder->is_answer_owed = false;
    answer_granted(holder, holder->acquire_seq);
    CRASH_POINT(daemon_answered);
}

void holder_granted(struct holder *holder)
{
    char words[STEP_WORDS_BYTES];

    holder->is_granted = true;
    holder->told_kind = REFUSAL_NONE;
    CRASH_POINT(daemon_decided);
    holder->is_answer_owed = holder->is_held_by_pid && recorder_is_sound(holder->daemon->recorder);
    if (!holder->is_answer_owed)
        holder_tell_granted(holder);
    habits_granted(&holder->habits, clock_now_ms());
    note_holder(holder, "granted", charge_of(holder), step_words(holder, words));
    step_lease(holder->daemon, "granted", holder->id, 0);
    /* Until it is written nobody would know of it after a kill: it holds nothing yet. */
    recorder_lease(holder->daemon->recorder, holder, true);
}

void holder_forget(struct holder *holder)
{
    struct daemon *daemon = holder->daemon;

    recorder_lease_gone(daemon->recorder, holder);
    if (holder->session)
        holder->session->holder = NULL;
    holder_free(&daemon->holders, holder);
}

/* In the unit and from the zero of a process's start time. */
static uint64_t ticks_now(void)
{
    const uint64_t per_second = (uint64_t)sysconf(_SC_CLK_TCK);
    struct timespec now = { 0 };

    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * per_second +
           (uint64_t)now.tv_nsec * per_second / UINT64_C(1000000000);
}

void holder_await(struct holder *holder)
{
    if (holder->awaited_until_ms == 0)
        holder->daemon->holders.awaited_count++;
    holder->awaited_until_ms = clock_after_ms(clock_now_ms(), AWAIT_MS);
}

void holder_await_no_more(struct holder *holder)
{
    if (holder->awaited_until_ms == 0)
        return;
    holder->awaited_until_ms = 0;
    holder->daemon->holders.awaited_count--;
    sampler_want(holder->daemon); /* its answer lets the held requests go on */
}

static void note_released(struct holder *holder, const char *reason)
{
    char habits[HABITS_TEXT_BYTES], text[256];

    habits_burst_end(&holder->habits, clock_now_ms());
    (void)snprintf(text, sizeof(text), "%s; %s", reason, habits_text(&holder->habits, habits));
    note_holder(holder, "released", 0, holder->habits.granted_ms > 0 ? text : reason);
}

void holder_release(struct holder *holder, const char *reason)
{
    struct daemon *daemon = holder->daemon;
    const uint64_t id = holder->id;

    if (holder->is_released)
        return;
    holder_await_no_more(holder);
    if (budget_release(daemon->budget, id, clock_now_ms()) < 0)
        log_error("lease", "event=release_failed lease=l%" PRIu64, id);
    note_released(holder, reason);
    step_lease(daemon, "released", id, 0);
    watch_end(&holder->process);
    if (holder->session)
        holder->session->holder = NULL;
    holder->session = NULL;
    holder->reattach_until_ms = 0;
    holder->kill_at_ms = 0;
    if (!holder->is_granted) {
        holder_forget(holder); /* a waiter has nothing to drain */
        return;
    }
    holder->is_released = true;
    holder->released_ticks = ticks_now();
    daemon->holders.draining_count++;
    CRASH_POINT(daemon_released);
    recorder_lease_gone(daemon->recorder, holder);
    sampler_want_drain(daemon);
}

void holder_disconnected(struct holder *holder)
{
    holder->session = NULL;
    if (holder->is_released)
        return;
    if (holder->daemon->is_ending)
        return; /* we went, not they */
    if (holder->is_held_by_pid && holder->is_granted && !holder->is_holder_gone)
        return;
    holder_release(holder, holder->is_holder_gone ? "its process has ended"
                                                  : "its connection has "
                                                    "ended");
}

void holder_stop(struct holder *holder, const char *reason)
{
    int r = 0;

    note_holder(holder, "asked_stop", 0, reason);
    if (!holder->is_held_by_pid) {
        answer_reason(holder->session, MESSAGE_STOP, reason);
        return;
    }
    if (holder->is_holder_gone || holder->kill_at_ms != 0)
        return;
    r = watch_signal(&holder->process, SIGTERM);
    log_info("lease", "event=signal lease=l%" PRIu64 " pid=%d signal=SIGTERM result=%d", holder->id,
             (int)holder->pid, r);
    holder->kill_at_ms = clock_after_ms(clock_now_ms(), KILL_AFTER_MS);
    daemon_want_chores(holder->daemon);
}

static void look_after_stop(struct holder *holder, uint64_t now_ms)
{
    if (holder->kill_at_ms == 0 || now_ms < holder->kill_at_ms || !holder->process.watch)
        return;
    log_warn("lease", "event=signal lease=l%" PRIu64 " pid=%d signal=SIGKILL result=%d", holder->id,
             (int)holder->pid, watch_signal(&holder->process, SIGKILL));
    holder->kill_at_ms = 0;
}

/* A waiter was told why it waits; when that changes (room came, but others go first), it is told
 * again, so that a person who looks at it is not misled. Where very many wait, each has its turn
 * more seldom. */
static void look_after_waiter(struct holder *holder, uint64_t now_ms, size_t *left)
{
    const uint64_t every_ms =
        TELL_EVERY_MS * (1 + (uint64_t)holder->daemon->holders.count / LOOK_MAX);
    struct budget_lease_view view;
    struct refusal refusal;

    if ((holder->is_granted && !holder->is_burst_waiting) || !holder->session ||
        now_ms - holder->told_at_ms < TELL_EVERY_MS || *left == 0 ||
        now_ms - holder->looked_at_ms < every_ms)
        return;
    holder->looked_at_ms = now_ms;
    (*left)--;
    budget_explain(holder->daemon->budget, holder->id, now_ms, &refusal);
    if (refusal.kind == REFUSAL_NONE || refusal.kind == holder->told_kind ||
        !budget_view_lease(holder->daemon->budget, holder->id, &view))
        return;
    holder->told_kind = refusal.kind;
    holder->told_at_ms = now_ms;
    answer_queued(holder->session, holder->is_granted ? holder->burst_seq : holder->acquire_seq,
                  &refusal, view.waiting_before);
}

bool holders_look_after(struct daemon *daemon)
{
    const uint64_t now_ms = clock_now_ms();
    struct holder *holder = LIST_FIRST(&daemon->holders.all);
    size_t left = LOOK_MAX;
    bool is_more = false;

    while (holder) {
        struct holder *next = LIST_NEXT(holder, entry);
        look_after_stop(holder, now_ms);
        look_after_waiter(holder, now_ms, &left);
        if (now_ms >= holder->awaited_until_ms)
            holder_await_no_more(holder);
        is_more |= holder->kill_at_ms != 0 || holder->reattach_until_ms != 0 ||
                   !holder->is_granted || holder->is_burst_waiting;
        if (holder->reattach_until_ms != 0 && now_ms >= holder->reattach_until_ms)
            holder_release(holder, "after brimd's restart nobody came back for it");
        holder = next;
    }
    return is_more;
}
