/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_FACTS_H
#define CLI_FACTS_H

#include <jansson.h>

#include "base/error.h"

/*
 * The gpus as the driver shows them, without a daemon: `brim-helper facts --once` in a child
 * process with a deadline (a driver's call may hang). The result has the shape of the API's status:
 * every program is foreign, nobody holds a lease. -ENODEV: there is no driver or no gpu.
 */

int facts_read(json_t **ret_status, struct error *err) __attribute__((warn_unused_result));

/* The helper's own answer (an array or object of gpus with their processes) made such a status. */
int facts_to_status(const json_t *facts, json_t **ret_status, struct error *err)
    __attribute__((warn_unused_result));

#endif
