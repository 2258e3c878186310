/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_ANSWER_H
#define DAEMON_ANSWER_H

#include <stdint.h>

#include "budget/refusal.h"
#include "daemon/session.h"
#include "wire/message.h"

/*
 * Answers: what is said to a client, made of what the budget decided. A session that is NULL or
 * closing is nobody, and saying something to nobody is fine.
 */

struct daemon;
struct holder;

void answer_done(struct session *session, uint32_t seq);
/* A refusal of brimd's own, without figures. */
void answer_refused(struct session *session, uint32_t seq, enum message_code code,
                    const char *text);
void answer_version(struct session *session, uint32_t seq);
/* On a connection that never became a session. */
void answer_and_close(int take_fd, enum message_code code, const char *text);

/* A refusal of the budget's; refusal_id: under which `brim why` finds it, 0 for none. */
void answer_refusal(struct session *session, uint32_t seq, const struct refusal *refusal,
                    uint64_t refusal_id);
void answer_queued(struct session *session, uint32_t seq, const struct refusal *refusal,
                   uint32_t position);

/* Of this lease, to its session. */
void answer_granted(struct holder *holder, uint32_t seq);
void answer_burst_granted(struct holder *holder, uint64_t bytes);
void answer_amount(struct session *session, enum message_type type, uint64_t bytes);
void answer_reason(struct session *session, enum message_type type, const char *text);

/* The whole reason for a person: refusal_text(), and what only the daemon knows (no driver, another
 * arbiter). Returns text. */
const char *reason_text(const struct daemon *daemon, const struct refusal *refusal, char *text,
                        size_t text_bytes);

#endif
