/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/acquire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <brim/brim.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/process.h"
#include "daemon/answer.h"
#include "daemon/daemon.h"
#include "daemon/decide.h"
#include "daemon/holder.h"
#include "daemon/note.h"
#include "daemon/origin.h"
#include "daemon/recorder.h"
#include "daemon/steps.h"
#include "daemon/terms.h"

#define WHY_BYTES 512

/* In the system scope a stranger's word for what it held counts only when holders are expected. */
#define TRUST_AFTER_START_MS 60000

/* The kernel lets a program call itself anything. */
static void clean_name(char *name)
{
    for (char *at = name; *at; at++) {
        const unsigned char byte = (unsigned char)*at;
        if (byte < 0x20 || byte >= 0x7f)
            *at = '?';
    }
}

static void name_after_process(pid_t pid, char name[CLAIM_NAME_BYTES])
{
    struct process_info info = { 0 };

    if (pid == 0 || process_read(pid, &info) < 0 || info.name[0] == '\0')
        (void)snprintf(info.name, sizeof(info.name), "unnamed");
    clean_name(info.name);
    (void)snprintf(name, CLAIM_NAME_BYTES, "%s", info.name);
}

/* Leases outlive connections, so counting those is not enough. */
static bool has_enough(const struct session *session)
{
    const struct daemon *daemon = session->daemon;

    return daemon->options.scope == SCOPE_SYSTEM &&
           holders_of_user(&daemon->holders, session->uid) >= HOLDER_USER_MAX;
}

/* Check what a client says of itself, and put it in the budget's terms. Answers when it is wrong.
 */
static int read_claim(struct session *session, uint32_t seq, const struct message_claim *message,
                      struct claim *ret_claim)
{
    const pid_t pid = (pid_t)message->pid;
    char why[WHY_BYTES] = "";
    enum message_code code = MESSAGE_CODE_INVALID;
    int r = terms_to_claim(&session->daemon->gpus, message, ret_claim, why, sizeof(why));

    if (r == 0 && has_enough(session)) {
        code = MESSAGE_CODE_LIMIT;
        (void)snprintf(why, sizeof(why),
                       "you have as many leases and waiters as one user may have");
        r = -EDQUOT;
    } else if (r == -ENOENT) {
        const size_t used = strlen(why);
        code = MESSAGE_CODE_NO_GPU;
        if (session->daemon->sampler.problem[0] != '\0')
            (void)snprintf(why + used, sizeof(why) - used, "\n%s",
                           session->daemon->sampler.problem);
    } else if (r == 0 && pid != 0 && !origin_may_claim(session->uid, pid)) {
        code = MESSAGE_CODE_DENIED;
        (void)snprintf(why, sizeof(why), "process %d is not there, or not yours", (int)pid);
        r = -EPERM;
    } else if (r == 0 && pid == 0 && session->pid == 0 &&
               (message->flags & (BRIM_CLAIM_HELD_BY_PROCESS | BRIM_CLAIM_ADOPT))) {
        (void)snprintf(why, sizeof(why),
                       "your process is in another pid namespace: brimd cannot watch it");
        r = -EINVAL;
    }
    if (r < 0) {
        answer_refused(session, seq, code, why);
        return r;
    }
    if (ret_claim->name[0] == '\0')
        name_after_process(pid != 0 ? pid : session->pid, ret_claim->name);
    return 0;
}

/* The entry of a lease that the budget has made. Answers, and lets go of it, on failure. */
static struct holder *hold(struct session *session, uint32_t seq, uint64_t lease_id,
                           const struct message_claim *message)
{
    const bool is_other = message->pid != 0 &&
                          (message->flags & (BRIM_CLAIM_HELD_BY_PROCESS | BRIM_CLAIM_ADOPT)) != 0;
    const struct holder_terms terms = {
        .lease_id = lease_id,
        .flags = message->flags,
        .uid = session->uid,
        .pid = is_other ? (pid_t)message->pid : session->pid,
    };
    struct daemon *daemon = session->daemon;
    struct process_info root = { 0 };
    struct holder *holder = NULL;
    const int r = holder_begin(daemon, &terms, session, &holder);

    if (r < 0) {
        (void)budget_release(daemon->budget, lease_id, clock_now_ms());
        answer_refused(session, seq, r == -ESRCH ? MESSAGE_CODE_INVALID : MESSAGE_CODE_LIMIT,
                       r == -ESRCH ? "the process that should hold the lease has ended"
                                   : "brimd cannot watch another process: it has no file "
                                     "descriptors or memory left");
        return NULL;
    }
    holder->acquire_seq = seq;
    if (message->pid != 0 && process_read((pid_t)message->pid, &root) == 0)
        holder_set_root(&daemon->holders, holder, root.pid, root.start_ticks);
    return holder;
}

static void wait_in_queue(struct holder *holder, const struct refusal *refusal)
{
    char line[256];

    holder->told_kind = refusal->kind;
    holder->told_at_ms = clock_now_ms();
    answer_queued(holder->session, holder->acquire_seq, refusal, refusal->waiting_before);
    note_holder(holder, "queued", refusal->asked_bytes, refusal_line(refusal, line, sizeof(line)));
    daemon_want_chores(holder->daemon);
}

static void refuse(struct session *session, uint32_t seq, const struct claim *claim,
                   uint64_t wait_ms, const struct refusal *refusal)
{
    struct daemon *daemon = session->daemon;
    const uint64_t id = refusal_keep(daemon, refusal, claim->name, session->pid, session->uid);
    char line[256];
    struct event event = { .kind = "refused",
                           .name = claim->name,
                           .gpu = refusal->gpu < daemon->gpus.count
                                      ? (int)daemon->gpus.table[refusal->gpu].index
                                      : -1,
                           .bytes = refusal->asked_bytes,
                           .text = refusal_line(refusal, line, sizeof(line)) };

    answer_refusal(session, seq, refusal, id);
    note_plain(daemon, &event);
    step_asked(daemon, 0, claim, wait_ms);
    step_lease(daemon, "refused", 0, 0);
}

/* Bytes that a running program has on each gpu by the last facts; the gpu where it has most. */
static void find_adopted(const struct gpus *gpus, pid_t pid, struct claim *claim)
{
    uint64_t most_bytes = 0;

    if (claim->parts[0].gpu == CLAIM_GPU_ANY)
        claim->parts[0].gpu = 0;
    for (uint32_t i = 0; i < gpus->count; i++) {
        for (size_t j = 0; j < gpus->table[i].foreign_count; j++) {
            const struct foreign_process *process = &gpus->table[i].foreign[j];
            if (process->pid != pid || process->bytes <= most_bytes)
                continue;
            most_bytes = process->bytes;
            if (claim->part_count == 1)
                claim->parts[0].gpu = i;
        }
    }
    if (claim->parts[0].resident_bytes == 0)
        claim->parts[0].resident_bytes = most_bytes;
}

/* The lease that counts the process's bytes already; NULL: none. */
static const struct holder *find_lease_of(const struct holders *holders, pid_t pid)
{
    struct holder *holder = NULL;
    struct origin origin;

    if (!origin_find(holders, pid, &origin))
        return NULL;
    while ((holder = holder_next_of_root(holders, origin.root_pid, origin.root_ticks, holder))) {
        if (holder->is_granted && !holder->is_released)
            return holder;
    }
    return NULL;
}

/* What a program uses may be more than would be granted, but not more than the card has, and it is
 * counted once. Answers when it may not be adopted. */
static bool may_adopt(struct session *session, uint32_t seq, pid_t pid, const struct claim *claim)
{
    struct daemon *daemon = session->daemon;
    const struct holder *other = find_lease_of(&daemon->holders, pid);
    struct refusal refusal = { 0 };
    char why[WHY_BYTES];

    if (daemon->gpus.count == 0) {
        answer_refused(session, seq, MESSAGE_CODE_NO_GPU, "there is no gpu to adopt on");
        return false;
    }
    if (other) {
        (void)snprintf(why, sizeof(why), "process %d is under lease l%" PRIu64 " (%s) already",
                       (int)pid, other->id, other->name);
        answer_refused(session, seq, MESSAGE_CODE_STATE, why);
        return false;
    }
    budget_probe(daemon->budget, claim, clock_now_ms(), &refusal);
    if (refusal.kind == REFUSAL_NEVER_FITS && refusal.asked_bytes > refusal.capacity_bytes) {
        refuse(session, seq, claim, 0, &refusal);
        return false;
    }
    return true;
}

static void adopt(struct session *session, const struct message *message, struct claim *claim)
{
    struct daemon *daemon = session->daemon;
    const enum lease_state state = claim->is_always_busy ? LEASE_STATE_BUSY : LEASE_STATE_IDLE;
    const pid_t pid = message->acquire.pid != 0 ? (pid_t)message->acquire.pid : session->pid;
    struct holder *holder = NULL;
    uint64_t lease_id = 0;
    int r = 0;

    find_adopted(&daemon->gpus, pid, claim);
    if (!may_adopt(session, message->seq, pid, claim))
        return;
    r = budget_restore(daemon->budget, claim, 0, state, clock_now_ms(), &lease_id);
    if (r != 0) {
        answer_refused(session, message->seq, MESSAGE_CODE_INVALID,
                       "the program cannot be adopted: its claim is empty or too large; say "
                       "--vram SIZE");
        return;
    }
    holder = hold(session, message->seq, lease_id, &message->acquire);
    if (!holder)
        return;
    holder->habits.wait_ms = CLOCK_NEVER_MS;
    step_asked(daemon, lease_id, claim, CLOCK_NEVER_MS);
    holder_granted(holder);
    step_lease(daemon, "ready", lease_id, 0);
    gpus_attribute_again(daemon);
}

static bool is_same_claim(const struct claim *asked, const struct claim *held)
{
    bool is_same = asked->part_count == held->part_count && strcmp(asked->name, held->name) == 0;

    for (uint32_t i = 0; i < asked->part_count && is_same; i++) {
        const struct claim_part *part = &asked->parts[i], *other = &held->parts[i];
        is_same = part->resident_bytes == other->resident_bytes &&
                  part->burst_bytes == other->burst_bytes &&
                  part->load_peak_bytes == other->load_peak_bytes &&
                  (part->gpu == CLAIM_GPU_ANY || part->gpu == other->gpu);
    }
    return is_same;
}

/* The journal of a daemon that was killed had this lease already, and its holder, which was not
 * told any more, asks again. NULL: no such lease. */
static struct holder *find_untold(const struct session *session,
                                  const struct message_claim *message, const struct claim *claim)
{
    const struct holders *holders = &session->daemon->holders;
    struct holder *holder = NULL;
    struct budget_lease_view view;

    if (!(message->flags & BRIM_CLAIM_HELD_BY_PROCESS) || message->pid != 0 || !session->peer.watch)
        return NULL;
    while ((holder = holder_next_of_root(holders, watch_pid(&session->peer),
                                         watch_start_ticks(&session->peer), holder))) {
        if (holder->uid == session->uid && holder->flags == message->flags && !holder->session &&
            !holder->is_released && holder->is_granted &&
            budget_view_lease(session->daemon->budget, holder->id, &view) &&
            is_same_claim(claim, view.claim))
            return holder;
    }
    return NULL;
}

void acquire_new(struct session *session, const struct message *message, uint64_t arrived_ms)
{
    struct daemon *daemon = session->daemon;
    const uint64_t deadline_ms = clock_after_ms(arrived_ms, message->acquire.max_wait_ms);
    struct refusal refusal = { 0 };
    struct holder *holder = NULL;
    struct claim claim;
    uint64_t lease_id = 0;
    int r = read_claim(session, message->seq, &message->acquire, &claim);

    if (r < 0)
        return;
    if (message->acquire.flags & BRIM_CLAIM_ADOPT) {
        adopt(session, message, &claim);
        return;
    }
    holder = find_untold(session, &message->acquire, &claim);
    if (holder) {
        holder->session = session;
        session->holder = holder;
        holder->acquire_seq = message->seq;
        holder_tell_granted(holder);
        return;
    }
    r = budget_acquire(daemon->budget, &claim, clock_now_ms(), deadline_ms, &lease_id, &refusal);
    if (r == BUDGET_REFUSED) {
        refuse(session, message->seq, &claim, message->acquire.max_wait_ms, &refusal);
        return;
    }
    if (r < 0) {
        answer_refused(session, message->seq, MESSAGE_CODE_LIMIT, "brimd is out of memory");
        return;
    }
    holder = hold(session, message->seq, lease_id, &message->acquire);
    if (!holder)
        return;
    holder->habits.wait_ms = message->acquire.max_wait_ms;
    holder->is_anywhere = claim.parts[0].gpu == CLAIM_GPU_ANY;
    step_asked(daemon, lease_id, &claim, message->acquire.max_wait_ms);
    if (r == BUDGET_QUEUED)
        wait_in_queue(holder, &refusal);
    else
        holder_granted(holder);
}

/* Whether this session is of the process that held the lease before. */
static bool is_its_holder(const struct holder *holder, const struct session *session)
{
    return holder->uid == session->uid && holder->process.watch && session->peer.watch &&
           watch_pid(&holder->process) == watch_pid(&session->peer) && !holder->session;
}

/* Holder and budget went on apart while the daemon was away; the holder knows better. */
static void align(struct holder *holder, const struct message_reattach *reattach)
{
    struct budget *budget = holder->daemon->budget;
    const uint64_t now_ms = clock_now_ms();
    struct budget_lease_view view;
    struct refusal refusal;

    if (!budget_view_lease(budget, holder->id, &view) || view.claim->is_always_busy)
        return;
    if (view.state == LEASE_STATE_LOADING && reattach->state != LEASE_STATE_LOADING)
        (void)budget_ready(budget, holder->id, now_ms);
    if (view.state == LEASE_STATE_BUSY && reattach->state != LEASE_STATE_BUSY)
        (void)budget_burst_end(budget, holder->id, now_ms);
    /* Where another's burst stands in the way, that one has ended and its holder is about to say
     * so: this one follows it. Nobody waits for an answer. */
    if (view.state != LEASE_STATE_BUSY && reattach->state == LEASE_STATE_BUSY &&
        budget_burst_begin(budget, holder->id, reattach->burst_bytes, now_ms, CLOCK_NEVER_MS,
                           &refusal) == BUDGET_REFUSED)
        log_warn("lease", "event=burst_not_restored lease=l%" PRIu64, holder->id);
}

static void rejoin(struct holder *holder, struct session *session, const struct message *message)
{
    holder->session = session;
    session->holder = holder;
    holder->reattach_until_ms = 0;
    holder->acquire_seq = message->seq;
    align(holder, &message->reattach);
    holder_await_no_more(holder);
    CRASH_POINT(daemon_reattached);
    answer_granted(holder, message->seq);
    note_holder(holder, "restored", 0, "its holder came back");
    recorder_lease(holder->daemon->recorder, holder, 0);
}

static enum lease_state state_of(const struct message_reattach *reattach, const struct claim *claim)
{
    if (claim->is_always_busy || reattach->state == BRIM_LEASE_BUSY)
        return LEASE_STATE_BUSY;
    return reattach->state == BRIM_LEASE_IDLE ? LEASE_STATE_IDLE : LEASE_STATE_LOADING;
}

static bool is_trusted(const struct daemon *daemon)
{
    return daemon->options.scope == SCOPE_USER ||
           clock_now_ms() - daemon->started_ms < TRUST_AFTER_START_MS;
}

/* A lease that the journal does not know: written too late, or lost. Its holder is real. */
static void restore_unknown(struct session *session, const struct message *message,
                            const struct claim *claim)
{
    const struct message_reattach *reattach = &message->reattach;
    struct daemon *daemon = session->daemon;
    const bool is_taken = holder_find(&daemon->holders, reattach->lease_id) != NULL;
    struct holder *holder = NULL;
    uint64_t lease_id = 0;

    if (!is_trusted(daemon)) {
        answer_refused(session, message->seq, MESSAGE_CODE_LOST,
                       "brimd does not know this lease any more; ask for a new one");
        return;
    }
    if (budget_restore(daemon->budget, claim, is_taken ? 0 : reattach->lease_id,
                       state_of(reattach, claim), clock_now_ms(), &lease_id) != 0) {
        answer_refused(session, message->seq, MESSAGE_CODE_LOST,
                       "brimd cannot take this lease up again; ask for a new one");
        return;
    }
    holder = hold(session, message->seq, lease_id, &reattach->claim);
    if (!holder)
        return;
    holder->is_granted = true;
    gpus_attribute_again(daemon);
    CRASH_POINT(daemon_reattached);
    answer_granted(holder, message->seq);
    note_holder(holder, "restored", 0, "its holder came back; the journal did not know it");
    recorder_lease(daemon->recorder, holder, holder->is_held_by_pid);
}

void acquire_again(struct session *session, const struct message *message)
{
    struct holder *holder = holder_find(&session->daemon->holders, message->reattach.lease_id);
    struct claim claim;

    if (read_claim(session, message->seq, &message->reattach.claim, &claim) < 0)
        return;
    if (claim.parts[0].gpu == CLAIM_GPU_ANY || message->reattach.state < BRIM_LEASE_LOADING ||
        message->reattach.state > BRIM_LEASE_BUSY || message->reattach.lease_id == 0) {
        answer_refused(session, message->seq, MESSAGE_CODE_INVALID,
                       "REATTACH: it does not say which lease, gpu or state");
        return;
    }
    if (holder && !holder->is_released && holder->is_granted && is_its_holder(holder, session))
        rejoin(holder, session, message);
    else
        restore_unknown(session, message, &claim);
}
