/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/answer.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/daemon.h"

void answer_done(struct session *session, uint32_t seq)
{
    const struct message message = { .type = MESSAGE_DONE, .seq = seq };

    session_send(session, &message);
}

static void make_refused(struct message *message, uint32_t seq, enum message_code code,
                         const char *text)
{
    *message = (struct message){ .type = MESSAGE_REFUSED, .seq = seq };
    message->refusal.code = (uint32_t)code;
    (void)snprintf(message->refusal.text, sizeof(message->refusal.text), "%s", text);
}

void answer_refused(struct session *session, uint32_t seq, enum message_code code, const char *text)
{
    struct message message;

    make_refused(&message, seq, code, text);
    session_send(session, &message);
}

void answer_version(struct session *session, uint32_t seq)
{
    char text[256];

    (void)snprintf(text, sizeof(text),
                   "brimd %s (pid %d) speaks version %u of the protocol, and this program another; "
                   "`brim daemon stop` ends it, and the next brim command starts the brimd that "
                   "was installed with it",
                   BRIM_VERSION, (int)getpid(), (unsigned)MESSAGE_VERSION);
    answer_refused(session, seq, MESSAGE_CODE_VERSION, text);
}

void answer_and_close(int take_fd, enum message_code code, const char *text)
{
    unsigned char packet[MESSAGE_MAX_BYTES];
    struct message message;
    size_t packet_bytes = 0;

    make_refused(&message, 0, code, text);
    packet_bytes = message_encode(&message, packet);
    /* A fresh connection has room for one packet; if not, its end must do. */
    (void)!send(take_fd, packet, packet_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    /* What the peer has said is left unread nowhere: the kernel would tell it "connection reset"
     * before the reason. */
    (void)shutdown(take_fd, SHUT_RD);
    while (recv(take_fd, packet, sizeof(packet), MSG_DONTWAIT) > 0)
        continue;
    (void)close(take_fd);
}

static enum message_code code_of(enum refusal_kind kind)
{
    switch (kind) {
    case REFUSAL_NEVER_FITS:
        return MESSAGE_CODE_NEVER_FITS;
    case REFUSAL_NO_GPU:
        return MESSAGE_CODE_NO_GPU;
    case REFUSAL_BAD_CLAIM:
        return MESSAGE_CODE_INVALID;
    case REFUSAL_BAD_STATE:
        return MESSAGE_CODE_STATE;
    case REFUSAL_QUEUE_FULL:
        return MESSAGE_CODE_LIMIT;
    case REFUSAL_CANCELLED:
        return MESSAGE_CODE_CANCELLED;
    case REFUSAL_NONE:
    case REFUSAL_NO_ROOM:
    case REFUSAL_NO_PROGRESS:
    case REFUSAL_BEHIND:
    case REFUSAL_LOAD_WINDOW:
    case REFUSAL_STALE_FACTS:
    case REFUSAL_OVERCOMMITTED:
        break;
    }
    return MESSAGE_CODE_NO_ROOM;
}

/* Whoever asks for a gpu that another arbiter holds must hear which one, and how to join it. */
static size_t add_managers(const struct daemon *daemon, char *text, size_t text_bytes)
{
    size_t used = strlen(text);

    for (uint32_t i = 0; i < daemon->gpus.count && used + 1 < text_bytes; i++) {
        const struct gpu *gpu = &daemon->gpus.table[i];
        if (gpu->managed_by[0] != '\0')
            used += (size_t)snprintf(text + used, text_bytes - used, "\ngpu %u is managed by %s",
                                     gpu->index, gpu->managed_by);
    }
    return used;
}

const char *reason_text(const struct daemon *daemon, const struct refusal *refusal, char *text,
                        size_t text_bytes)
{
    const struct gpu *gpu =
        refusal->gpu < daemon->gpus.count ? &daemon->gpus.table[refusal->gpu] : NULL;
    struct refusal shown = *refusal;

    /* People know a gpu by the driver's number, the budget by its own. */
    if (gpu)
        shown.gpu = gpu->index;
    (void)refusal_text(&shown, gpu ? gpu->name : NULL, text, text_bytes);
    if (refusal->kind == REFUSAL_NO_GPU || refusal->kind == REFUSAL_STALE_FACTS) {
        const size_t used = add_managers(daemon, text, text_bytes);
        if (daemon->sampler.problem[0] != '\0' && used + 1 < text_bytes)
            (void)snprintf(text + used, text_bytes - used, "\n%s", daemon->sampler.problem);
    }
    return text;
}

static void fill_refusal(const struct daemon *daemon, const struct refusal *refusal,
                         struct message_refusal *out)
{
    out->asked_bytes = refusal->asked_bytes;
    out->free_bytes = refusal->free_bytes;
    out->capacity_bytes = refusal->capacity_bytes;
    out->reserve_bytes = refusal->reserve_bytes;
    out->foreign_bytes = refusal->foreign_bytes;
    out->charged_bytes = refusal->charged_bytes;
    (void)reason_text(daemon, refusal, out->text, sizeof(out->text));
}

void answer_refusal(struct session *session, uint32_t seq, const struct refusal *refusal,
                    uint64_t refusal_id)
{
    struct message message = { .type = MESSAGE_REFUSED, .seq = seq };

    if (!session)
        return;
    fill_refusal(session->daemon, refusal, &message.refusal);
    message.refusal.refusal_id = refusal_id;
    message.refusal.code = (uint32_t)code_of(refusal->kind);
    session_send(session, &message);
}

void answer_queued(struct session *session, uint32_t seq, const struct refusal *refusal,
                   uint32_t position)
{
    struct message message = { .type = MESSAGE_QUEUED, .seq = seq };

    if (!session)
        return;
    fill_refusal(session->daemon, refusal, &message.refusal);
    message.refusal.position = position;
    session_send(session, &message);
}

void answer_granted(struct holder *holder, uint32_t seq)
{
    struct message message = { .type = MESSAGE_GRANTED, .seq = seq };
    struct message_granted *granted = &message.granted;
    const struct gpus *gpus = &holder->daemon->gpus;
    struct budget_lease_view view;
    size_t used = 0;

    if (!holder->session || !budget_view_lease(holder->daemon->budget, holder->id, &view))
        return;
    granted->lease_id = holder->id;
    granted->state = (uint32_t)view.state;
    granted->gpu_count = view.claim->part_count;
    for (uint32_t i = 0; i < view.claim->part_count; i++) {
        granted->charge_bytes += view.charge_bytes[i];
        used += (size_t)snprintf(granted->gpus + used, sizeof(granted->gpus) - used, "%s%s",
                                 i > 0 ? "," : "", gpus->table[view.claim->parts[i].gpu].uuid);
    }
    session_send(holder->session, &message);
}

void answer_burst_granted(struct holder *holder, uint64_t bytes)
{
    const struct message message = { .type = MESSAGE_BURST_GRANTED,
                                     .seq = holder->burst_seq,
                                     .amount.bytes = bytes };

    session_send(holder->session, &message);
}

void answer_amount(struct session *session, enum message_type type, uint64_t bytes)
{
    const struct message message = { .type = type, .amount.bytes = bytes };

    session_send(session, &message);
}

void answer_reason(struct session *session, enum message_type type, const char *text)
{
    struct message message = { .type = type };

    (void)snprintf(message.reason.text, sizeof(message.reason.text), "%s", text);
    session_send(session, &message);
}
