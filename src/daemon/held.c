/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/held.h"

#include <stdlib.h>

#include "base/clock.h"
#include "daemon/acquire.h"
#include "daemon/answer.h"
#include "daemon/daemon.h"
#include "daemon/request.h"

static void put(struct session *session, const struct message *message, uint64_t arrived_ms)
{
    if (message->type == MESSAGE_ACQUIRE)
        acquire_new(session, message, arrived_ms);
    else if (message->type == MESSAGE_REATTACH)
        acquire_again(session, message);
    else
        request_burst(session, message, arrived_ms);
}

/* After a restart: who has not come back yet may be in a burst that the journal missed, and memory
 * that is granted but not taken shows in no fact. */
static bool is_early(const struct daemon *daemon, const struct message *message)
{
    return daemon->holders.awaited_count > 0 && message->type != MESSAGE_REATTACH;
}

/* A no-wait claim would be refused for bytes that are on their way back: it deserves facts from
 * after the last release. */
static bool can_go_on(const struct daemon *daemon, const struct message *message)
{
    const bool is_once = message->type == MESSAGE_ACQUIRE && message->acquire.max_wait_ms == 0;

    if (is_early(daemon, message))
        return false;
    /* A helper that is down is not waited for: the budget says that the facts are too old. */
    if (helper_is_down(daemon->helper) && daemon->sampler.is_restored)
        return true;
    if (sampler_facts_age_ms(daemon) >
        (message->type == MESSAGE_BURST_BEGIN ? SAMPLER_BURST_MS : SAMPLER_ACQUIRE_MS))
        return false;
    return !(is_once && daemon->holders.draining_count > 0);
}

void request_hold(struct session *session, const struct message *message)
{
    struct daemon *daemon = session->daemon;
    struct held_request *held = NULL;

    if (TAILQ_EMPTY(&daemon->sessions.held) && can_go_on(daemon, message)) {
        put(session, message, clock_now_ms());
        return;
    }
    held = malloc(sizeof(*held));
    if (!held) {
        answer_refused(session, message->seq, MESSAGE_CODE_LIMIT, "brimd is out of memory");
        return;
    }
    held->session = session;
    held->arrived_ms = clock_now_ms();
    held->message = *message;
    session->held_count++;
    TAILQ_INSERT_TAIL(&daemon->sessions.held, held, entry);
    daemon_want_chores(daemon);
    sampler_want(daemon);
}

static void held_free(struct held_request_list *list, struct held_request *held)
{
    TAILQ_REMOVE(list, held, entry);
    held->session->held_count--;
    free(held);
}

/* Nobody must hear that there is no such gpu only because the driver has not answered this daemon
 * yet, while they are ready to wait; and none must be early. */
static bool must_stay(const struct daemon *daemon, const struct held_request *held)
{
    if (is_early(daemon, &held->message))
        return true;
    if (daemon->gpus.count > 0)
        return false;
    if (held->message.type == MESSAGE_REATTACH)
        return true;
    return daemon->sampler.is_helper_failing && held->message.type == MESSAGE_ACQUIRE &&
           clock_now_ms() < clock_after_ms(held->arrived_ms, held->message.acquire.max_wait_ms);
}

static struct held_request *next_to_put(const struct daemon *daemon)
{
    struct held_request *held = TAILQ_FIRST(&daemon->sessions.held);

    while (held && must_stay(daemon, held))
        held = TAILQ_NEXT(held, entry);
    return held;
}

void requests_resume(struct daemon *daemon)
{
    struct held_request *held = NULL;

    while ((held = next_to_put(daemon))) {
        struct session *session = held->session;
        const struct message message = held->message;
        const uint64_t arrived_ms = held->arrived_ms;
        held_free(&daemon->sessions.held, held);
        put(session, &message, arrived_ms);
    }
}

bool requests_expire(struct daemon *daemon)
{
    if (daemon->sampler.is_helper_failing && daemon->gpus.count == 0)
        requests_resume(daemon);
    return !TAILQ_EMPTY(&daemon->sessions.held);
}

void requests_forget(struct session *session)
{
    struct held_request_list *list = &session->daemon->sessions.held;
    struct held_request *held = TAILQ_FIRST(list);

    while (held && session->held_count > 0) {
        struct held_request *next = TAILQ_NEXT(held, entry);
        if (held->session == session)
            held_free(list, held);
        held = next;
    }
}

void requests_cancel_bursts(struct session *session)
{
    struct held_request_list *list = &session->daemon->sessions.held;
    struct held_request *held = TAILQ_FIRST(list);

    while (held && session->held_count > 0) {
        struct held_request *next = TAILQ_NEXT(held, entry);
        if (held->session == session && held->message.type == MESSAGE_BURST_BEGIN) {
            const uint32_t seq = held->message.seq;
            held_free(list, held);
            answer_refused(session, seq, MESSAGE_CODE_CANCELLED, "the burst was cancelled");
        }
        held = next;
    }
}
