/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PS_BATCHES_H
#define CLI_PS_BATCHES_H

#include <jansson.h>

/* The batches that run now, from their own files: a fresh array of {"name", "pid", "segments_done",
 * "segments_total", "segments_failed"}. What cannot be read is left out; NULL when memory is out.
 */
json_t *ps_batches_read(void);

#endif
