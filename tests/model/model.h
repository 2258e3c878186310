/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "budget/budget.h"

/*
 * The model: a few holders, one or two gpus, foreign programs and one restart of the daemon, small
 * enough that every order in which things can happen is tried (explore.c). Sizes are in whole GiB.
 *
 * A world is what is true and the budget that has been told of it. It is made by playing steps from
 * the start, so it needs no copies.
 */

#define MODEL_GPUS     2
#define MODEL_MEMBERS  3
#define MODEL_CAPACITY (10 * UINT64_C(0x40000000))
#define MODEL_RESERVE  (1 * UINT64_C(0x40000000))

struct scenario {
    const char *name;
    unsigned depth; /* steps of the longest path */
    uint32_t gpu_count;
    uint32_t member_count;
    struct claim claims[MODEL_MEMBERS];
    bool has_foreign;       /* foreign programs come and go */
    bool has_restart;       /* the daemon restarts, once */
    bool has_slow_samples;  /* things happen between a sample's question and its answer */
    bool has_deadlines;     /* holders wait for a second only, too */
    bool has_process_bytes; /* the driver tells them */
};

enum step_kind {
    STEP_ACQUIRE = 1,   /* and wait for ever */
    STEP_ACQUIRE_SHORT, /* for a second */
    STEP_READY,
    STEP_BURST,
    STEP_BURST_SHORT,
    STEP_BURST_END, /* or give up waiting for it */
    STEP_END,       /* release or death: its bytes stay for a while */
    STEP_GONE,      /* the ended one's bytes are back */
    STEP_REATTACH,
    STEP_SAMPLE,       /* of all gpus, asked and answered */
    STEP_SAMPLE_BEGIN, /* asked */
    STEP_SAMPLE_EARLY, /* answered, with what was true at the question */
    STEP_SAMPLE_LATE,  /* answered, with what is true now */
    STEP_FOREIGN_COMES,
    STEP_FOREIGN_GOES,
    STEP_TIME_SHORT,    /* facts become too old */
    STEP_TIME_LONG,     /* deadlines pass, the time of overtaking */
    STEP_RESTART,       /* the journal knows all */
    STEP_RESTART_BLANK, /* it is lost */
};

struct step {
    uint8_t kind;
    uint8_t who; /* the member, or the gpu */
};

/* A holder as itself sees it. */
struct member {
    uint64_t id;
    enum lease_state state; /* 0: it has not asked */
    bool is_burst_waiting;
    uint64_t deadline_ms; /* of its wait */
    bool is_stop_asked;   /* to leave at its next boundary */
    bool is_attached;     /* the daemon of now has heard of it from itself */
    uint32_t gpus[MODEL_GPUS];
    uint64_t bytes[MODEL_GPUS];      /* what it uses */
    uint64_t left_bytes[MODEL_GPUS]; /* what its last lease has not given back yet */
    uint64_t left_id;
};

struct truth {
    uint64_t used_bytes[MODEL_GPUS];
    uint64_t bytes[MODEL_MEMBERS][MODEL_GPUS], left_bytes[MODEL_MEMBERS][MODEL_GPUS];
    uint64_t begun_ms;
};

struct world {
    const struct scenario *scenario; /* borrowed */
    struct budget *budget;           /* owned */
    uint64_t now_ms;
    uint64_t next_id; /* as a journal has it */
    struct member members[MODEL_MEMBERS];
    uint64_t foreign_bytes[MODEL_GPUS];
    bool has_sample, has_restarted;
    struct truth sample; /* asked, not answered yet */
};

void world_open(struct world *world, const struct scenario *scenario);
void world_close(struct world *world);
/* Whether that can happen now. */
bool world_can(const struct world *world, struct step step);
void world_take(struct world *world, struct step step);
struct truth world_look(const struct world *world);
/* Whether the budget has a lease of that id. */
bool world_knows(const struct world *world, uint64_t id);

/* laws.c. The laws, and: as long as no foreign program came, no gpu is ever too full. Dies
 * otherwise. */
void world_check(const struct world *world);
/* From here on, with no foreign program any more and holders that do what they announced, everybody
 * is served, and at last nothing is held. Ends the world. */
void world_finish(struct world *world);
/* What the further course depends on, as far as it can be seen. */
uint64_t world_fingerprint(const struct world *world);

/* The path that is being played, for the message. */
_Noreturn void model_fail(const char *what);
#define MODEL_MUST(condition)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            model_fail(#condition);                                                                \
    } while (0)

#endif
