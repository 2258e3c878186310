/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_TERMS_H
#define DAEMON_TERMS_H

#include <stddef.h>

#include "budget/claim.h"
#include "daemon/gpu.h"
#include "wire/message.h"

/*
 * Terms: between a claim as it travels (gpus by index or UUID, in text) and as the budget knows it
 * (gpus by number).
 */

/* 0, or -ENOENT: no such gpu; -EINVAL: it makes no sense. Both leave a sentence in why. */
int terms_to_claim(const struct gpus *gpus, const struct message_claim *message,
                   struct claim *ret_claim, char *why, size_t why_bytes);

#endif
