/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "client/lease.h"

static int failure_of_code(uint32_t code)
{
    switch ((enum message_code)code) {
    case MESSAGE_CODE_NEVER_FITS:
        return BRIM_ERR_NEVER_FITS;
    case MESSAGE_CODE_NO_ROOM:
        return BRIM_ERR_NO_ROOM;
    case MESSAGE_CODE_VERSION:
        return BRIM_ERR_VERSION;
    case MESSAGE_CODE_STATE:
        return BRIM_ERR_STATE;
    case MESSAGE_CODE_DENIED:
        return BRIM_ERR_DENIED;
    case MESSAGE_CODE_LIMIT:
        return BRIM_ERR_LIMIT;
    case MESSAGE_CODE_INVALID:
        return BRIM_ERR_INVALID;
    case MESSAGE_CODE_NO_GPU:
        return BRIM_ERR_NO_GPU;
    case MESSAGE_CODE_CANCELLED:
        return BRIM_ERR_CANCELLED;
    case MESSAGE_CODE_LOST:
        return BRIM_ERR_LOST;
    }
    return BRIM_ERR_PROTOCOL;
}

void lease_set_reason(brim_lease *lease, int code, const char *text)
{
    struct lease_refusal *refusal = &lease->refusal;

    memset(&refusal->data, 0, sizeof(refusal->data));
    refusal->data.code = code;
    (void)snprintf(refusal->text, sizeof(refusal->text), "%s", text);
    lease->has_refusal = true;
}

static void copy_refusal(brim_lease *lease, const struct message_refusal *from, int code)
{
    struct brim_refusal *data = &lease->refusal.data;

    lease_set_reason(lease, code, from->text);
    data->id = from->refusal_id;
    data->asked_bytes = from->asked_bytes;
    data->free_bytes = from->free_bytes;
    data->capacity_bytes = from->capacity_bytes;
    data->reserve_bytes = from->reserve_bytes;
    data->foreign_bytes = from->foreign_bytes;
    data->charged_bytes = from->charged_bytes;
}

void lease_refuse(brim_lease *lease, int failure, const char *text)
{
    if (text)
        lease_set_reason(lease, failure, text);
    lease->state = BRIM_LEASE_REFUSED;
    lease->failure = failure;
    link_close(lease);
}

static void lose_lease(brim_lease *lease, const char *text)
{
    if (text)
        lease_set_reason(lease, BRIM_ERR_LOST, text);
    lease->state = BRIM_LEASE_LOST;
    lease->failure = BRIM_ERR_LOST;
    lease->burst = BURST_NONE;
    lease->burst_failure = BRIM_ERR_LOST;
    if (lease->call_seq != 0) {
        lease->call_seq = 0;
        lease->call_result = BRIM_ERR_LOST;
    }
    link_close(lease);
}

static int on_granted(brim_lease *lease, const struct message *message)
{
    const struct message_granted *granted = &message->granted;

    if (lease->claim_seq == 0 || message->seq != lease->claim_seq || granted->lease_id == 0)
        return BRIM_ERR_PROTOCOL;
    if (lease->state == BRIM_LEASE_QUEUED) {
        if (granted->state < BRIM_LEASE_LOADING || granted->state > BRIM_LEASE_BUSY)
            return BRIM_ERR_PROTOCOL;
        lease->state = (enum brim_lease_state)granted->state;
        memcpy(lease->gpus, granted->gpus, sizeof(lease->gpus));
        lease->has_refusal = false;
    }
    lease->claim_seq = 0;
    lease->id = granted->lease_id;
    if (lease->burst == BURST_WAITING && lease->burst_seq == 0)
        link_send_burst(lease);
    return 0;
}

static int on_burst_granted(brim_lease *lease, const struct message *message)
{
    /* An answer that crossed our BURST_END: it gives back what this one granted. */
    if (lease->burst != BURST_WAITING || message->seq != lease->burst_seq)
        return 0;
    lease->burst_seq = 0;
    lease->burst = BURST_TAKEN;
    lease->burst_bytes = message->amount.bytes;
    lease->state = BRIM_LEASE_BUSY;
    lease->has_refusal = false;
    return 0;
}

static int on_refused(brim_lease *lease, const struct message *message)
{
    const struct message_refusal *refusal = &message->refusal;
    const int failure = failure_of_code(refusal->code);
    const uint32_t seq = message->seq;

    if (seq == 0)
        return BRIM_ERR_PROTOCOL;
    if (seq == lease->hello_seq && lease->state != BRIM_LEASE_QUEUED)
        return failure; /* what was granted stays; a daemon that we understand may come */
    if (seq == lease->hello_seq) {
        copy_refusal(lease, refusal, failure);
        lease_refuse(lease, failure, NULL);
    } else if (seq == lease->claim_seq) {
        copy_refusal(lease, refusal, failure);
        if (lease->state == BRIM_LEASE_QUEUED)
            lease_refuse(lease, failure, NULL);
        else
            lose_lease(lease, NULL);
    } else if (seq == lease->burst_seq) {
        copy_refusal(lease, refusal, failure);
        lease->burst_seq = 0;
        lease->burst = BURST_NONE;
        lease->burst_failure = failure;
    } else if (seq == lease->call_seq) {
        copy_refusal(lease, refusal, failure);
        lease->call_seq = 0;
        lease->call_result = failure;
    }
    return 0;
}

static int on_queued(brim_lease *lease, const struct message *message)
{
    if (message->seq != 0 && (message->seq == lease->claim_seq || message->seq == lease->burst_seq))
        copy_refusal(lease, &message->refusal, 0);
    return 0;
}

static int on_stop_asked(brim_lease *lease, const struct message *message)
{
    lease->has_stop = true;
    (void)snprintf(lease->stop_text, sizeof(lease->stop_text), "%s", message->reason.text);
    return 0;
}

static int handle(brim_lease *lease, const struct message *message)
{
    switch ((int)message->type) { /* the client's own types are garbage here */
    case MESSAGE_WELCOME:
        return 0;
    case MESSAGE_GRANTED:
        return on_granted(lease, message);
    case MESSAGE_QUEUED:
        return on_queued(lease, message);
    case MESSAGE_REFUSED:
        return on_refused(lease, message);
    case MESSAGE_BURST_GRANTED:
        return on_burst_granted(lease, message);
    case MESSAGE_DONE:
        if (message->seq != 0 && message->seq == lease->call_seq) {
            lease->call_seq = 0;
            lease->call_result = 0;
        }
        return 0;
    case MESSAGE_TRIM:
        lease->has_trim = true;
        lease->trim_bytes = message->amount.bytes;
        return 0;
    case MESSAGE_STOP:
        return on_stop_asked(lease, message);
    case MESSAGE_LOST:
        lose_lease(lease, message->reason.text);
        return 0;
    default:
        return BRIM_ERR_PROTOCOL;
    }
}

int lease_receive(brim_lease *lease)
{
    unsigned char packet[MESSAGE_MAX_BYTES + 1]; /* one more: a longer packet is seen as such */
    struct message message;
    ssize_t got = 0;
    int r = 0;

    do
        got = recv(lease->socket_fd, packet, sizeof(packet), MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0) {
        link_lose(lease, BRIM_ERR_NO_DAEMON);
        return 1;
    }
    r = message_decode(packet, (size_t)got, &message, NULL);
    if (r == -EPROTONOSUPPORT)
        r = BRIM_ERR_VERSION;
    else
        r = r < 0 ? BRIM_ERR_PROTOCOL : handle(lease, &message);
    if (r < 0) {
        link_lose(lease, r);
        return r;
    }
    lease->has_answered = true;
    lease->failure_count = 0;
    return 1;
}
