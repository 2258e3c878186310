/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_POLICY_H
#define SIM_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "budget/heap.h"
#include "budget/waitlist.h"
#include "sim/workload.h"

/*
 * Policy: what decides in a simulation who is let in, when, and where. It is told what happens, and
 * answers at once or later; what it says only sets timers, so that no call comes back into itself.
 */

enum sim_answer {
    SIM_GRANTED = 0,
    SIM_QUEUED = 1,
    SIM_NEVER_FITS = 2,
    SIM_REFUSED = 3, /* it does not wait, and there is no room */
};

enum sim_state {
    SIM_WAITING = 1,
    SIM_LOADING,
    SIM_IDLE,
    SIM_BURST_WAITING,
    SIM_BUSY,
};

/* A job that is there. */
struct sim_live {
    struct sim_job job;
    enum sim_state state;
    uint32_t gpu;
    bool is_stopping;
    struct sim_burst burst; /* the one that it asks for, or has */
    uint32_t burst_number;  /* of job.bursts */
    uint64_t asked_ms;      /* for its grant, or for its burst */
    uint64_t end_ms;        /* once it is ready */
    uint64_t used_bytes;
    uint64_t lease_id;            /* the policy's */
    struct sim_live *next, *prev; /* the policy's lists; next: of the unused */
    struct sim_live *all_next;    /* all that were ever made */
    struct heap_node timer;       /* what it does next */
    struct waiter place;          /* in the line of arrivals */
};

/* What a policy may read. */
struct sim {
    uint64_t now_ms;
    const struct sim_gpu *gpus; /* borrowed */
    uint32_t gpu_count;
    uint64_t foreign_bytes[SIM_GPU_MAX];
};

struct sim_policy {
    const char *name, *title;
    int (*open)(struct sim *sim, void **ret_state);
    void (*close)(void *state);
    /* enum sim_answer, or -ENOMEM. GRANTED: live->gpu is set. */
    int (*arrive)(void *state, struct sim_live *live);
    void (*ready)(void *state, struct sim_live *live);
    int (*burst_begin)(void *state, struct sim_live *live);
    void (*burst_end)(void *state, struct sim_live *live);
    void (*leave)(void *state, struct sim_live *live);
    void (*foreign)(void *state, uint32_t gpu);
    uint64_t (*next_ms)(const void *state);
    void (*advance)(void *state);
};

/* What a policy says outside of its answers. */
void sim_grant(struct sim *sim, struct sim_live *live); /* one that waited; live->gpu is set */
void sim_give_up(struct sim *sim, struct sim_live *live);
void sim_burst_grant(struct sim *sim, struct sim_live *live);
void sim_burst_refuse(struct sim *sim, struct sim_live *live);
void sim_stop(struct sim *sim, struct sim_live *live); /* ends when its burst does */
void sim_trim(struct sim *sim); /* it was asked to, and has nothing to trim */

#endif
