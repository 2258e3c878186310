/* SPDX-License-Identifier: Apache-2.0 */

/*
 * usage: test_model [SCENARIO [DEPTH]]      all: every scenario
 *
 * All orders of events, breadth first: each state that was reached is left by every step that can
 * happen there. A state that looks like one already seen is not gone on from (world_fingerprint).
 * After each step the laws are checked; of each new state, that everybody is served at last. A
 * failure prints the steps that lead to it. A sanitized build, which is ten times slower, goes two
 * steps less deep.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "check.h"
#include "model.h"

#define DEPTH_MAX 16
#define PART(gpu, resident, burst, load_peak)                                                      \
    {                                                                                              \
        (gpu), (resident)*GIB, (burst)*GIB, (load_peak)*GIB                                        \
    }
#define NORMAL CLAIM_PRIORITY_NORMAL

static const struct scenario scenarios[] = {
    { .name = "bursts",
      .depth = 10,
      .gpu_count = 1,
      .member_count = 3,
      .has_process_bytes = true,
      .claims = { { "a", NORMAL, .part_count = 1, .parts = { PART(0, 2, 3, 0) } },
                  { "b", NORMAL, .part_count = 1, .parts = { PART(0, 2, 3, 0) } },
                  { "c", CLAIM_PRIORITY_INTERACTIVE, .part_count = 1,
                    .parts = { PART(0, 2, 2, 0) } } } },
    { .name = "claims",
      .depth = 10,
      .gpu_count = 1,
      .member_count = 3,
      .has_process_bytes = true,
      .has_deadlines = true,
      .claims = { { "a", NORMAL, .part_count = 1, .parts = { PART(0, 4, 2, 6) } },
                  { "b", NORMAL, .part_count = 1, .parts = { PART(0, 3, 4, 0) } },
                  { "c", CLAIM_PRIORITY_BACKGROUND, .part_count = 1,
                    .parts = { PART(0, 5, 0, 0) } } } },
    { .name = "two-gpus",
      .depth = 9,
      .gpu_count = 2,
      .member_count = 3,
      .has_process_bytes = true,
      .claims = { { "both", NORMAL, .part_count = 2,
                    .parts = { PART(0, 3, 2, 0), PART(1, 3, 3, 0) } },
                  { "first", NORMAL, .part_count = 1, .parts = { PART(0, 4, 2, 0) } },
                  { "any", NORMAL, .part_count = 1, .parts = { PART(CLAIM_GPU_ANY, 4, 2, 0) } } } },
    { .name = "slow-samples",
      .depth = 11,
      .gpu_count = 1,
      .member_count = 2,
      .has_process_bytes = true,
      .has_slow_samples = true,
      .claims = { { "a", NORMAL, .part_count = 1, .parts = { PART(0, 3, 3, 6) } },
                  { "b", NORMAL, .part_count = 1, .parts = { PART(0, 3, 2, 0) } } } },
    { .name = "foreign",
      .depth = 11,
      .gpu_count = 1,
      .member_count = 2,
      .has_process_bytes = true,
      .has_foreign = true,
      .has_deadlines = true,
      .claims = { { "a", NORMAL, .part_count = 1, .parts = { PART(0, 3, 3, 0) } },
                  { "pinned", NORMAL, .is_pinned = true, .part_count = 1,
                    .parts = { PART(0, 2, 4, 0) } } } },
    { .name = "alone",
      .depth = 10,
      .gpu_count = 1,
      .member_count = 3,
      .has_process_bytes = true,
      .claims = { { "always", NORMAL, .is_always_busy = true, .part_count = 1,
                    .parts = { PART(0, 2, 2, 0) } },
                  { "alone", NORMAL, .is_load_alone = true, .part_count = 1,
                    .parts = { PART(0, 2, 1, 4) } },
                  { "c", NORMAL, .part_count = 1, .parts = { PART(0, 2, 2, 0) } } } },
    { .name = "no-process-bytes",
      .depth = 12,
      .gpu_count = 1,
      .member_count = 2,
      .has_process_bytes = false,
      .claims = { { "a", NORMAL, .part_count = 1, .parts = { PART(0, 3, 3, 0) } },
                  { "b", NORMAL, .part_count = 1, .parts = { PART(0, 4, 2, 5) } } } },
    { .name = "restart",
      .depth = 9,
      .gpu_count = 1,
      .member_count = 3,
      .has_process_bytes = true,
      .has_restart = true,
      .claims = { { "a", NORMAL, .part_count = 1, .parts = { PART(0, 3, 3, 0) } },
                  { "b", NORMAL, .part_count = 1, .parts = { PART(0, 2, 2, 5) } },
                  { "c", NORMAL, .part_count = 1, .parts = { PART(0, 5, 0, 0) } } } },
};

struct path {
    uint8_t length;
    struct step steps[DEPTH_MAX];
};

static const struct scenario *now_scenario;
static const struct path *now_path;

static const char *const step_names[] = {
    "?",
    "acquire",
    "acquire-short",
    "ready",
    "burst",
    "burst-short",
    "burst-end",
    "end",
    "gone",
    "reattach",
    "sample",
    "sample-begin",
    "sample-early",
    "sample-late",
    "foreign-comes",
    "foreign-goes",
    "time-short",
    "time-long",
    "restart",
    "restart-blank",
};

/* NOLINTBEGIN(bugprone-signal-handler): the signal is abort()'s own, of this one thread */

static void print_path(void)
{
    printf("# %s:", now_scenario->name);
    for (uint32_t i = 0; i < now_path->length; i++)
        printf(" %s(%u)", step_names[now_path->steps[i].kind], now_path->steps[i].who);
    printf("\n");
}

void model_fail(const char *what)
{
    print_path();
    printf("Bail out! broken law: %s\n", what);
    exit(EXIT_FAILURE);
}

/* budget_check() aborts with its own line; the path is told too. Nothing else was being printed. */
static void on_abort(int number)
{
    (void)number;
    print_path();
    (void)fflush(stdout);
}
/* NOLINTEND(bugprone-signal-handler) */

/* ---- states seen ---- */

struct seen {
    uint64_t *slots; /* owned: open addressing; 0 is free */
    size_t capacity, count;
};

/* There is room. Whether it is new. */
static bool seen_put(struct seen *seen, uint64_t key)
{
    key = key == 0 ? 1 : key;
    size_t slot = key & (seen->capacity - 1);
    while (seen->slots[slot] != 0 && seen->slots[slot] != key)
        slot = (slot + 1) & (seen->capacity - 1);
    if (seen->slots[slot] == key)
        return false;
    seen->slots[slot] = key;
    seen->count++;
    return true;
}

static void seen_grow(struct seen *seen)
{
    struct seen larger = { .capacity = seen->capacity == 0 ? 1 << 16 : seen->capacity * 2 };

    larger.slots = calloc(larger.capacity, sizeof(uint64_t));
    MODEL_MUST(larger.slots);
    for (size_t i = 0; i < seen->capacity; i++)
        if (seen->slots[i] != 0)
            (void)seen_put(&larger, seen->slots[i]);
    free(seen->slots);
    *seen = larger;
}

/* Whether it is new. */
static bool seen_add(struct seen *seen, uint64_t key)
{
    if (seen->count * 2 >= seen->capacity)
        seen_grow(seen);
    return seen_put(seen, key);
}

/* ---- the search ---- */

struct frontier {
    struct path *paths; /* owned */
    size_t count, room;
};

static void frontier_add(struct frontier *frontier, const struct path *path)
{
    if (frontier->count == frontier->room) {
        frontier->room = frontier->room == 0 ? 1024 : frontier->room * 2;
        frontier->paths = reallocarray(frontier->paths, frontier->room, sizeof(*frontier->paths));
        MODEL_MUST(frontier->paths);
    }
    frontier->paths[frontier->count++] = *path;
}

static void play(struct world *world, const struct path *path)
{
    now_path = path;
    world_open(world, now_scenario);
    for (uint32_t i = 0; i < path->length; i++)
        world_take(world, path->steps[i]);
}

/* The steps that can happen at the end of a path. */
static size_t list_steps(const struct path *path, struct step *steps)
{
    struct world world;
    size_t count = 0;

    play(&world, path);
    for (int kind = STEP_ACQUIRE; kind <= STEP_RESTART_BLANK; kind++)
        for (uint8_t who = 0; who < MODEL_MEMBERS; who++) {
            const struct step step = { (uint8_t)kind, who };
            if (world_can(&world, step))
                steps[count++] = step;
        }
    world_close(&world);
    return count;
}

static uint64_t step_count;

static void go_on(const struct path *path, struct seen *seen, struct frontier *next)
{
    struct step steps[MODEL_MEMBERS * (STEP_RESTART_BLANK + 1)];
    const size_t count = list_steps(path, steps);

    for (size_t i = 0; i < count; i++) {
        struct path longer = *path;
        struct world world;
        longer.steps[longer.length++] = steps[i];
        play(&world, &longer);
        world_check(&world);
        step_count++;
        if (seen_add(seen, world_fingerprint(&world))) {
            world_finish(&world);
            frontier_add(next, &longer);
        }
        world_close(&world);
    }
}

static void explore(const struct scenario *scenario, unsigned depth, int number)
{
    struct seen seen = { 0 };
    struct frontier now = { 0 };

    now_scenario = scenario;
    step_count = 0;
    frontier_add(&now, &(struct path){ 0 });
    for (unsigned i = 0; i < depth; i++) {
        struct frontier next = { 0 };
        for (size_t k = 0; k < now.count; k++)
            go_on(&now.paths[k], &seen, &next);
        free(now.paths);
        now = next;
    }
    free(now.paths);
    free(seen.slots);
    printf("ok %d - %s: %zu states, %llu steps, depth %u\n", number, scenario->name, seen.count,
           (unsigned long long)step_count, depth);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    const size_t count = sizeof(scenarios) / sizeof(scenarios[0]);
    int number = 0;

    (void)signal(SIGABRT, on_abort);
    const bool is_all = argc < 2 || strcmp(argv[1], "all") == 0;

    printf("1..%zu\n", is_all ? count : 1);
    for (size_t i = 0; i < count; i++) {
        const unsigned long depth = argc > 2            ? strtoul(argv[2], NULL, 10)
                                    : TEST_IS_SANITIZED ? scenarios[i].depth - 2
                                                        : scenarios[i].depth;
        if (is_all || strcmp(argv[1], scenarios[i].name) == 0)
            explore(&scenarios[i], depth < DEPTH_MAX ? (unsigned)depth : DEPTH_MAX, ++number);
    }
    return number > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
