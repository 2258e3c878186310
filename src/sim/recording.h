/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RECORDING_H
#define SIM_RECORDING_H

#include <stdint.h>

#include "base/error.h"

/*
 * Recording: what a daemon says of its leases, step by step, put together into a trace
 * (sim/trace.h). A job's lines can be written when it has ended, and lines are in the order of
 * arrival: so they come out when all before them have ended, the rest at the end of the recording.
 *
 *      asked -> granted -> ready -> (burst_asked ->) burst -> burst_end -> ... released
 *           \-> refused                          \-> burst_refused
 *
 * A lease that is there already when the recording begins is said to ask, and so on, at its first
 * moment.
 */

struct sim_step {
    const char *kind;  /* as above, or released, resized, gpu, foreign; others are passed over */
    uint64_t at_ms;    /* of any clock; one that goes back is taken as standing still */
    uint64_t lease_id; /* 0: it never had one (asked, then at once refused) */
    const char *name;  /* asked */
    const char *words; /* asked: resident=… and so on as in a trace; gpu: reserve=…;
                          released: load=… busy=… idle=…, where its steps were not told;
                          refused: any, where it is not known how long it would have waited,
                          and the time that it did is taken for it */
    uint32_t gpu;      /* gpu, foreign */
    uint64_t bytes;    /* gpu: its capacity; foreign; burst_asked, burst */
};

struct sim_recording_counts {
    uint64_t jobs, granted, refused, bursts, bursts_refused;
    uint64_t left_out; /* leases that a trace has no words for: over several gpus */
    uint64_t resized;  /* changes of a claim, which are not in it either */
};

struct sim_recording;

/* put: takes a line without its end; a negative value is handed up. */
int sim_recording_new(int (*put)(void *user, const char *line, struct error *err), void *user,
                      struct sim_recording **ret_recording);
void sim_recording_free(struct sim_recording *recording); /* NULL is fine */

int sim_recording_step(struct sim_recording *recording, const struct sim_step *step,
                       struct error *err);
/* Nothing comes any more: who is still there is taken as ending now. */
int sim_recording_end(struct sim_recording *recording, uint64_t at_ms, struct error *err);
struct sim_recording_counts sim_recording_counts(const struct sim_recording *recording);

#endif
