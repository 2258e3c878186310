/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_TRACE_WRITE_H
#define SIM_TRACE_WRITE_H

#include "sim/trace.h"

/* Items as lines of a trace, without their ends, which are read back as what they were. */

#define SIM_TRACE_LINE_BYTES 1024

/* has_run: how long it loaded and ran is known. remark: a comment, or "". */
const char *sim_trace_write_job(const struct sim_item *item, bool has_run, const char *remark,
                                char line[SIM_TRACE_LINE_BYTES]);
const char *sim_trace_write_burst(const struct sim_burst *burst, char line[SIM_TRACE_LINE_BYTES]);
const char *sim_trace_write_end(uint64_t after_ms, char line[SIM_TRACE_LINE_BYTES]);
/* A gpu, or foreign bytes. */
const char *sim_trace_write_line(const struct sim_item *item, char line[SIM_TRACE_LINE_BYTES]);

#endif
