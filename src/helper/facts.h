/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HELPER_FACTS_H
#define HELPER_FACTS_H

#include <stdio.h>

/*
 * brim-helper facts: asks NVML so that the daemon need not. A call that hangs hangs this process
 * only; whoever started it has a deadline, kills it and starts another.
 */

/* Answer requests (wire/facts.h) on a SOCK_SEQPACKET descriptor until its peer closes. 0 or -errno.
 */
int facts_serve(int fd);

/* brim-helper facts --once: one JSON object {"gpus": […], "problem": null or text,
 * "driver_version": …}, for a reader without a daemon. 0, or -errno when writing fails; a missing
 * driver is an answer. */
int facts_print(FILE *out);

#endif
