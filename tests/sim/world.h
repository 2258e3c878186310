/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

/*
 * World: the budget's test bed. It holds what is true (what each program really uses, foreign
 * programs), what the budget was told (samples), and a second, slow book of what the budget must
 * have concluded: charges, sums, deadlines, who passed whom. The book is written from the laws
 * alone; every step compares the two and dies with the seed where they differ.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/size.h"
#include "budget/budget.h"

#define WORLD_GPUS     4
#define WORLD_HOLDERS  40
#define WORLD_NO_PIDS  3 /* this gpu's driver gives no bytes for processes */
#define WORLD_RESERVE  (800 * MIB)
#define WORLD_FACTS_MS 250
#define WORLD_PASS_MAX 8
#define WORLD_PASS_MS  30000
#define WORLD_DRAIN_MS 1000
#define WORLD_GRACE_MS 5000

struct book_part {
    uint32_t gpu;
    uint64_t resident_bytes, burst_bytes, load_bytes, taken_bytes; /* as law 2 counts them */
    uint64_t drain_bytes, measured_bytes, overdraft_bytes, peak_bytes;
    uint64_t actual_bytes; /* what is true */
    bool is_gone;
};

struct holder {
    bool is_here;
    uint64_t id;
    struct claim claim; /* as asked */
    enum lease_state state;
    uint64_t since_ms; /* of the state */
    bool is_burst_waiting, is_stop_asked;
    uint32_t stop_gpu;
    uint64_t queued_ms, deadline_ms, seq; /* while it waits */
    uint64_t burst_bytes;
    uint32_t passed;
    uint32_t part_count;
    struct book_part parts[2];
};

struct world_gpu {
    uint64_t capacity_bytes;
    uint64_t foreign_bytes; /* what is true */
    uint64_t seen_foreign_bytes, facts_at_ms;
    bool has_facts;
    bool is_granted_now, is_resident_granted_now; /* in this step */
};

struct world {
    struct budget *budget;
    uint64_t random;
    uint64_t now_ms;
    uint64_t seq;
    bool is_calm; /* foreign bytes stay, nobody takes more than its claim */
    struct world_gpu gpus[WORLD_GPUS];
    struct holder holders[WORLD_HOLDERS];
    uint64_t steps, grants, burst_grants, refusals, stops, overdrafts, passes, worst_passes;
};

void world_init(struct world *world, uint64_t seed);
void world_deinit(struct world *world);

/* Dies, with the seed, where the condition does not hold. */
extern uint64_t world_seed;
void world_must(bool holds, const char *what, const struct world *world, uint64_t id);

uint64_t world_pick(struct world *world, uint64_t below);
bool world_chance(struct world *world, uint32_t pct);

uint64_t book_claimed_bytes(const struct holder *holder, const struct book_part *part);
bool holder_waits(const struct holder *holder);
bool holder_is_held(const struct holder *holder);
bool world_gpu_holds(const struct world *world, uint32_t gpu);

/* What the world does to the budget. */
void world_acquire(struct world *world, const struct claim *claim, uint64_t deadline_ms);
void world_ready(struct world *world, struct holder *holder);
void world_burst_begin(struct world *world, struct holder *holder, uint64_t bytes,
                       uint64_t deadline_ms);
void world_burst_end(struct world *world, struct holder *holder);
void world_resize(struct world *world, struct holder *holder, uint64_t resident_bytes,
                  uint64_t burst_bytes);
void world_release(struct world *world, struct holder *holder);
void world_observe(struct world *world, uint32_t gpu);
void world_advance(struct world *world, uint64_t ms);

/* book.c: take the decisions, note what they mean, compare everything. Ends every step. */
void book_enter(struct world *world, struct holder *holder, enum lease_state state);
void book_wait(struct world *world, struct holder *holder, uint64_t deadline_ms);
void book_set_state(struct world *world, struct holder *holder, enum lease_state state);
void book_take_burst(struct world *world, struct holder *holder, uint64_t bytes);
void book_note_grant(struct world *world, const struct holder *granted, bool is_burst);
void book_observe(struct world *world, uint32_t gpu, uint64_t used_bytes);
void book_close(struct world *world);

/* steps.c: one random step. */
void world_step(struct world *world);

#endif
