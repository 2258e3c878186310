/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/decide.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "daemon/answer.h"
#include "daemon/daemon.h"
#include "daemon/holder.h"
#include "daemon/note.h"
#include "daemon/recorder.h"
#include "daemon/steps.h"

uint64_t refusal_keep(struct daemon *daemon, const struct refusal *refusal, const char *name,
                      pid_t pid, uid_t uid)
{
    char text[MESSAGE_REASON_BYTES];
    struct refusal_record record = {
        .at_unix_ms = clock_wall_ms(),
        .pid = pid,
        .uid = uid,
        .kind = (uint32_t)refusal->kind,
        .asked_bytes = refusal->asked_bytes,
        .free_bytes = refusal->free_bytes,
        .short_bytes = refusal->short_bytes,
        .capacity_bytes = refusal->capacity_bytes,
        .reserve_bytes = refusal->reserve_bytes,
        .foreign_bytes = refusal->foreign_bytes,
        .charged_bytes = refusal->charged_bytes,
        .draining_bytes = refusal->draining_bytes,
        .text = text,
    };
    const struct refusal_record *kept = NULL;

    (void)reason_text(daemon, refusal, text, sizeof(text));
    (void)snprintf(record.name, sizeof(record.name), "%s", name);
    if (refusal->gpu < daemon->gpus.count)
        (void)snprintf(record.gpu_uuid, sizeof(record.gpu_uuid), "%s",
                       daemon->gpus.table[refusal->gpu].uuid);
    kept = refusals_add(&daemon->refusals, &record);
    if (!kept)
        return 0;
    recorder_refusal(daemon->recorder, kept);
    return kept->id;
}

static void on_refused(struct holder *holder, const struct decision *decision, bool is_burst)
{
    char line[256];

    if (is_burst && holder->burst_seq == 0)
        return; /* one that was to be restored */
    const uint64_t id =
        refusal_keep(holder->daemon, &decision->refusal, holder->name, holder->pid, holder->uid);

    answer_refusal(holder->session, is_burst ? holder->burst_seq : holder->acquire_seq,
                   &decision->refusal, id);
    note_holder(holder, "refused", decision->refusal.asked_bytes,
                refusal_line(&decision->refusal, line, sizeof(line)));
    step_lease(holder->daemon, is_burst ? "burst_refused" : "refused", holder->id, 0);
    if (is_burst) {
        holder->is_burst_waiting = false;
        holder->burst_seq = 0;
    } else {
        holder_forget(holder);
    }
}

static void on_burst_granted(struct holder *holder, const struct decision *decision)
{
    answer_burst_granted(holder, decision->bytes);
    holder->is_burst_waiting = false;
    holder->burst_seq = 0;
    holder->told_kind = REFUSAL_NONE;
    recorder_lease(holder->daemon->recorder, holder, 0);
    habits_burst(&holder->habits, clock_now_ms());
    step_lease(holder->daemon, "burst", holder->id, decision->bytes);
}

static void on_ask_trim(struct holder *holder, const struct decision *decision)
{
    note_holder(holder, "asked_trim", decision->bytes,
                holder->session ? NULL : "nobody listens: it does not use libbrim");
    answer_amount(holder->session, MESSAGE_TRIM, decision->bytes);
}

/* A program under `brim run` does not listen, and is not killed for what others do. */
static void on_ask_stop(struct holder *holder, const struct decision *decision)
{
    char text[MESSAGE_REASON_BYTES];

    (void)reason_text(holder->daemon, &decision->refusal, text, sizeof(text));
    note_holder(holder, "asked_stop", decision->bytes, text);
    if (!holder->is_held_by_pid)
        answer_reason(holder->session, MESSAGE_STOP, text);
}

static void on_overdraft(struct holder *holder, const struct decision *decision)
{
    char size[SIZE_TEXT_BYTES];
    char text[128];

    (void)snprintf(text, sizeof(text), "uses %s more than it asked for",
                   size_format(decision->bytes, size));
    note_holder(holder, "overdraft", decision->bytes, text);
}

static void on_drained(struct holder *holder)
{
    note_holder(holder, "drained", 0, NULL);
    holder_forget(holder);
}

static void on_lease_decision(struct daemon *daemon, struct holder *holder,
                              const struct decision *decision)
{
    switch (decision->kind) {
    case DECISION_GRANTED:
        holder_granted(holder);
        break;
    case DECISION_BURST_GRANTED:
        on_burst_granted(holder, decision);
        break;
    case DECISION_REFUSED:
        on_refused(holder, decision, false);
        break;
    case DECISION_BURST_REFUSED:
        on_refused(holder, decision, true);
        break;
    case DECISION_DRAINED:
        on_drained(holder);
        break;
    case DECISION_ASK_TRIM:
        on_ask_trim(holder, decision);
        break;
    case DECISION_ASK_STOP:
        on_ask_stop(holder, decision);
        break;
    case DECISION_OVERDRAFT:
        on_overdraft(holder, decision);
        break;
    case DECISION_NEED_FACTS:
        sampler_want(daemon);
        break;
    }
}

void decide_all(struct daemon *daemon)
{
    struct decision decision;

    while (budget_next_decision(daemon->budget, &decision)) {
        struct holder *holder = NULL;
        if (decision.kind == DECISION_NEED_FACTS) {
            sampler_want(daemon);
            continue;
        }
        holder = holder_find(&daemon->holders, decision.lease_id);
        if (holder)
            on_lease_decision(daemon, holder, &decision);
        else
            log_error("budget", "event=orphan_decision kind=%d lease=l%" PRIu64, (int)decision.kind,
                      decision.lease_id);
    }
}
