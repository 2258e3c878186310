/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/request.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "daemon/answer.h"
#include "daemon/daemon.h"
#include "daemon/decide.h"
#include "daemon/held.h"
#include "daemon/holder.h"
#include "daemon/note.h"
#include "daemon/origin.h"
#include "daemon/recorder.h"
#include "daemon/steps.h"

static void handle_hello(struct session *session, const struct message *message)
{
    struct daemon *daemon = session->daemon;
    struct message welcome = { .type = MESSAGE_WELCOME, .seq = message->seq };
    int r = 0;

    if (session->phase != SESSION_NEW) {
        answer_refused(session, message->seq, MESSAGE_CODE_STATE, "HELLO comes once, first");
        return;
    }
    if (session->pid != 0)
        r = watch_begin(daemon->watches, session->pid, 0, &session->peer);
    /* A child that has its parent's connection may speak when the pid is somebody else's. */
    if (r == 0 && session->pid != 0 && !process_peer_lives(session->fd))
        r = -ESRCH;
    if (r == -ESRCH) {
        session_end(session);
        return;
    }
    if (r < 0) {
        answer_refused(session, message->seq, MESSAGE_CODE_LIMIT,
                       "brimd cannot watch another process: it has no file descriptors left");
        session_end(session);
        return;
    }
    session_greeted(session);
    welcome.welcome.daemon_start_ns = daemon->start_ns;
    welcome.welcome.daemon_pid = (uint32_t)getpid();
    welcome.welcome.flags = daemon->is_emulated ? MESSAGE_WELCOME_EMULATED : 0;
    session_send(session, &welcome);
}

static void refuse_by(struct session *session, uint32_t seq, const struct holder *holder,
                      const struct refusal *refusal)
{
    answer_refusal(session, seq, refusal,
                   refusal_keep(session->daemon, refusal, holder->name, holder->pid, holder->uid));
}

static void handle_ready(struct session *session, uint32_t seq)
{
    struct holder *holder = session->holder;

    if (budget_ready(session->daemon->budget, holder->id, clock_now_ms()) != 0) {
        answer_refused(session, seq, MESSAGE_CODE_STATE, "READY: the lease is not loading");
        return;
    }
    answer_done(session, seq);
    recorder_lease(session->daemon->recorder, holder, 0);
    habits_ready(&holder->habits, clock_now_ms());
    step_lease(session->daemon, "ready", holder->id, 0);
}

static void handle_bind(struct session *session, const struct message *message)
{
    struct holder *holder = session->holder;
    struct process_info info = { 0 };
    const pid_t pid = (pid_t)message->bind.pid;

    if (process_read(pid, &info) < 0 ||
        (message->bind.start_ticks != 0 && message->bind.start_ticks != info.start_ticks)) {
        answer_refused(session, message->seq, MESSAGE_CODE_INVALID,
                       "BIND: there is no such process (any more)");
        return;
    }
    if (!origin_may_claim(session->uid, pid)) {
        answer_refused(session, message->seq, MESSAGE_CODE_DENIED,
                       "BIND: the process belongs to another user");
        return;
    }
    holder_set_root(&session->daemon->holders, holder, pid, info.start_ticks);
    answer_done(session, message->seq);
    recorder_lease(session->daemon->recorder, holder, 0);
    sampler_want(session->daemon);
}

void request_burst(struct session *session, const struct message *message, uint64_t arrived_ms)
{
    struct holder *holder = session->holder;
    struct refusal refusal = { 0 };
    struct budget_lease_view view;
    const uint64_t now_ms = clock_now_ms();
    const uint64_t deadline_ms = clock_after_ms(arrived_ms, message->burst.max_wait_ms);
    int r = 0;

    if (!holder || holder->is_burst_waiting) {
        answer_refused(session, message->seq, MESSAGE_CODE_STATE,
                       "BURST_BEGIN: a burst is already asked for");
        return;
    }
    r = budget_burst_begin(session->daemon->budget, holder->id, message->burst.bytes, now_ms,
                           deadline_ms, &refusal);
    holder->burst_seq = message->seq;
    if (r == BUDGET_GRANTED) {
        const bool is_known = budget_view_lease(session->daemon->budget, holder->id, &view);
        const uint64_t bytes = is_known ? view.burst_taken_bytes : message->burst.bytes;
        answer_burst_granted(holder, bytes);
        holder->burst_seq = 0;
        recorder_lease(session->daemon->recorder, holder, 0);
        habits_burst(&holder->habits, now_ms);
        step_lease(session->daemon, "burst", holder->id, bytes);
    } else if (r == BUDGET_QUEUED) {
        holder->is_burst_waiting = true;
        holder->told_kind = refusal.kind;
        holder->told_at_ms = now_ms;
        answer_queued(session, message->seq, &refusal, refusal.waiting_before);
        note_holder(holder, "burst_waiting", refusal.asked_bytes, NULL);
        step_lease(session->daemon, "burst_asked", holder->id, message->burst.bytes);
        daemon_want_chores(session->daemon);
    } else if (r == BUDGET_REFUSED) {
        holder->burst_seq = 0;
        refuse_by(session, message->seq, holder, &refusal);
        step_lease(session->daemon, "burst_asked", holder->id, message->burst.bytes);
        step_lease(session->daemon, "burst_refused", holder->id, 0);
    } else {
        holder->burst_seq = 0;
        answer_refused(session, message->seq, MESSAGE_CODE_LIMIT, "brimd is out of memory");
    }
}

static void cancel_waiting_burst(struct session *session)
{
    struct holder *holder = session->holder;

    if (!holder->is_burst_waiting)
        return;
    answer_refused(session, holder->burst_seq, MESSAGE_CODE_CANCELLED, "the burst was cancelled");
    holder->is_burst_waiting = false;
    holder->burst_seq = 0;
    step_lease(session->daemon, "burst_refused", holder->id, 0);
}

static void handle_burst_end(struct session *session, uint32_t seq, bool is_idle)
{
    struct daemon *daemon = session->daemon;

    requests_cancel_bursts(session);
    cancel_waiting_burst(session);
    if (budget_burst_end(daemon->budget, session->holder->id, clock_now_ms()) != 0 && !is_idle) {
        answer_refused(session, seq, MESSAGE_CODE_STATE, "BURST_END: no burst is taken");
        return;
    }
    answer_done(session, seq);
    recorder_lease(daemon->recorder, session->holder, 0);
    habits_burst_end(&session->holder->habits, clock_now_ms());
    step_lease(daemon, "burst_end", session->holder->id, 0);
}

static void handle_resize(struct session *session, const struct message *message)
{
    struct holder *holder = session->holder;
    struct refusal refusal = { 0 };
    const int r = budget_resize(session->daemon->budget, holder->id, message->resize.resident_bytes,
                                message->resize.burst_bytes, clock_now_ms(), &refusal);

    if (r == BUDGET_GRANTED) {
        answer_done(session, message->seq);
        recorder_lease(session->daemon->recorder, holder, 0);
        step_lease(session->daemon, "resized", holder->id, 0);
    } else if (r > 0) {
        refuse_by(session, message->seq, holder, &refusal);
    } else {
        answer_refused(session, message->seq, MESSAGE_CODE_LIMIT, "brimd is out of memory");
    }
}

static void handle_release(struct session *session, uint32_t seq)
{
    requests_forget(session);
    if (session->holder)
        holder_release(session->holder, "its holder gave it back");
    /* Not before: what the peer starts on hearing this is not the lease's any more. */
    answer_done(session, seq);
}

static void handle_trimmed(struct session *session, uint64_t freed_bytes)
{
    log_debug("lease", "event=trimmed pid=%d bytes=%" PRIu64, (int)session->pid, freed_bytes);
    sampler_want(session->daemon);
}

static void handle_of_holder(struct session *session, const struct message *message)
{
    if (!session->holder || !session->holder->is_granted) {
        answer_refused(session, message->seq, MESSAGE_CODE_STATE, "nothing has been granted");
        return;
    }
    if (message->type == MESSAGE_READY)
        handle_ready(session, message->seq);
    else if (message->type == MESSAGE_BIND)
        handle_bind(session, message);
    else if (message->type == MESSAGE_BURST_BEGIN)
        request_hold(session, message);
    else if (message->type == MESSAGE_RESIZE)
        handle_resize(session, message);
    else
        handle_burst_end(session, message->seq, message->type == MESSAGE_IDLE);
}

static void handle_ask(struct session *session, const struct message *message)
{
    if (session->holder || session->held_count > 0) {
        answer_refused(session, message->seq, MESSAGE_CODE_STATE,
                       "one connection carries one lease at a time: RELEASE comes before ACQUIRE");
        return;
    }
    request_hold(session, message);
}

void request_handle(struct session *session, const struct message *message)
{
    if (session->phase == SESSION_NEW && message->type != MESSAGE_HELLO) {
        answer_refused(session, message->seq, MESSAGE_CODE_STATE, "HELLO comes first");
        session_end(session);
        return;
    }
    switch (message->type) {
    case MESSAGE_HELLO:
        handle_hello(session, message);
        break;
    case MESSAGE_ACQUIRE:
    case MESSAGE_REATTACH:
        handle_ask(session, message);
        break;
    case MESSAGE_READY:
    case MESSAGE_BIND:
    case MESSAGE_IDLE:
    case MESSAGE_BURST_BEGIN:
    case MESSAGE_BURST_END:
    case MESSAGE_RESIZE:
        handle_of_holder(session, message);
        break;
    case MESSAGE_RELEASE:
        handle_release(session, message->seq);
        break;
    case MESSAGE_TRIMMED:
        handle_trimmed(session, message->amount.bytes);
        break;
    case MESSAGE_WELCOME:
    case MESSAGE_GRANTED:
    case MESSAGE_QUEUED:
    case MESSAGE_REFUSED:
    case MESSAGE_BURST_GRANTED:
    case MESSAGE_DONE:
    case MESSAGE_TRIM:
    case MESSAGE_STOP:
    case MESSAGE_LOST:
        session_end(session); /* only a daemon says these */
        break;
    }
}
