/* SPDX-License-Identifier: Apache-2.0 */

/* The event loop: the source's next item, the jobs' next steps, the policy's own time, whichever
 * comes first. A policy's answers only set timers, so that no call comes back into itself. */

#include "sim/sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

struct sim {
    const struct sim_policy *policy;
    void *policy_state; /* owned */
    const struct sim_gpu *gpus;
    uint32_t gpu_count;
    uint64_t now_ms;
    uint64_t foreign_bytes[SIM_GPU_MAX], used_bytes[SIM_GPU_MAX];
    bool is_overfull[SIM_GPU_MAX];
    struct heap timers;                     /* UINT64_MAX - when */
    struct waitlist lines[SIM_GPU_MAX + 1]; /* who waits for a gpu; the last: for any */
    uint64_t next_seq;
    uint32_t live_count;
    struct sim_live *all;    /* owned */
    struct sim_live *unused; /* borrowed: to be used again */
    uint64_t used_sum_bytes; /* on all gpus now */
    double used_byte_ms;
    struct sim_result *result;
};

uint64_t sim_now_ms(const struct sim *sim)
{
    return sim->now_ms;
}

uint32_t sim_gpu_count(const struct sim *sim)
{
    return sim->gpu_count;
}

const struct sim_gpu *sim_gpu(const struct sim *sim, uint32_t gpu)
{
    return &sim->gpus[gpu];
}

uint64_t sim_foreign_bytes(const struct sim *sim, uint32_t gpu)
{
    return sim->foreign_bytes[gpu];
}

static void set_timer(struct sim *sim, struct sim_live *live, uint64_t at_ms)
{
    if (live->timer.place > 0)
        heap_update(&sim->timers, &live->timer, UINT64_MAX - at_ms);
    else
        heap_push(&sim->timers, &live->timer, UINT64_MAX - at_ms);
}

static void note_overfull(struct sim *sim, uint32_t gpu)
{
    bool is_overfull =
        sim->used_bytes[gpu] + sim->foreign_bytes[gpu] > sim->gpus[gpu].capacity_bytes;

    if (is_overfull && !sim->is_overfull[gpu])
        sim->result->overfull++;
    sim->is_overfull[gpu] = is_overfull;
}

static void set_used(struct sim *sim, struct sim_live *live, uint64_t bytes)
{
    sim->used_sum_bytes += bytes - live->used_bytes;
    sim->used_bytes[live->gpu] += bytes - live->used_bytes;
    live->used_bytes = bytes;
    note_overfull(sim, live->gpu);
}

static struct waitlist *line_of(struct sim *sim, const struct sim_live *live)
{
    uint32_t gpu = live->job.claim.parts[0].gpu;

    return &sim->lines[gpu == CLAIM_GPU_ANY ? sim->gpu_count : gpu];
}

/* Everybody who came earlier, and waits for that gpu or for any, is passed. */
static void note_passing(struct sim *sim, const struct sim_live *live)
{
    struct waitlist *own = &sim->lines[live->gpu], *any = &sim->lines[sim->gpu_count];

    if (waitlist_count(own) > 0)
        waitlist_pass(own, waitlist_end_of_seq(own, live->place.seq));
    if (waitlist_count(any) > 0)
        waitlist_pass(any, waitlist_end_of_seq(any, live->place.seq));
}

static void leave_line(struct sim *sim, struct sim_live *live)
{
    uint64_t passed;

    if (!live->place.list)
        return;
    passed = waitlist_passed(live->place.list, &live->place);
    if (passed > sim->result->worst_passed)
        sim->result->worst_passed = passed;
    waitlist_remove(&live->place);
}

/* The next step of an idle one: a burst, or its end. */
static void plan_idle(struct sim *sim, struct sim_live *live)
{
    uint64_t next_ms = clock_after_ms(sim->now_ms, live->job.idle_ms);

    live->state = SIM_IDLE;
    if (live->job.busy_ms == 0 || live->job.claim.parts[0].burst_bytes == 0 ||
        next_ms > live->end_ms)
        next_ms = live->end_ms;
    set_timer(sim, live, live->is_stopping ? sim->now_ms : next_ms);
}

static void begin_load(struct sim *sim, struct sim_live *live)
{
    const struct claim_part *part = &live->job.claim.parts[0];

    live->state = SIM_LOADING;
    sim->result->granted++;
    sim_times_add(&sim->result->waits, sim->now_ms - live->asked_ms);
    set_used(sim, live,
             part->load_peak_bytes > part->resident_bytes ? part->load_peak_bytes
                                                          : part->resident_bytes);
    set_timer(sim, live, clock_after_ms(sim->now_ms, live->job.load_ms));
}

static void begin_busy(struct sim *sim, struct sim_live *live)
{
    const struct claim_part *part = &live->job.claim.parts[0];
    uint64_t next_ms = clock_after_ms(sim->now_ms, live->job.busy_ms);

    live->state = SIM_BUSY;
    sim->result->bursts++;
    sim_times_add(&sim->result->burst_waits, sim->now_ms - live->asked_ms);
    set_used(sim, live, part->resident_bytes + part->burst_bytes);
    set_timer(sim, live, next_ms < live->end_ms ? next_ms : live->end_ms);
}

void sim_grant(struct sim *sim, struct sim_live *live)
{
    leave_line(sim, live);
    note_passing(sim, live);
    begin_load(sim, live);
}

static void drop(struct sim *sim, struct sim_live *live)
{
    leave_line(sim, live);
    if (live->used_bytes > 0)
        set_used(sim, live, 0);
    heap_remove(&sim->timers, &live->timer);
    sim->live_count--;
    live->next = sim->unused;
    sim->unused = live;
}

void sim_give_up(struct sim *sim, struct sim_live *live)
{
    sim->result->gave_up++;
    drop(sim, live);
}

void sim_burst_grant(struct sim *sim, struct sim_live *live)
{
    begin_busy(sim, live);
}

void sim_burst_refuse(struct sim *sim, struct sim_live *live)
{
    sim->result->bursts_refused++;
    plan_idle(sim, live);
}

void sim_stop(struct sim *sim, struct sim_live *live)
{
    if (!live->is_stopping)
        sim->result->evicted++;
    live->is_stopping = true;
    if (live->state == SIM_IDLE || live->state == SIM_LOADING)
        set_timer(sim, live, sim->now_ms);
}

static struct sim_live *live_new(struct sim *sim, const struct sim_job *job)
{
    struct sim_live *live = sim->unused;

    if (heap_reserve(&sim->timers, sim->live_count + 1) < 0)
        return NULL;
    if (live) {
        sim->unused = live->next;
    } else {
        live = malloc(sizeof(*live));
        if (!live)
            return NULL;
        live->all_next = sim->all;
        sim->all = live;
    }
    *live = (struct sim_live){
        .job = *job, .state = SIM_WAITING, .asked_ms = sim->now_ms, .all_next = live->all_next
    };
    live->timer.owner = live;
    live->place.seq = sim->next_seq++;
    live->place.queued_ms = sim->now_ms;
    sim->live_count++;
    return live;
}

static int arrive(struct sim *sim, const struct sim_job *job)
{
    struct sim_live *live = live_new(sim, job);
    int r;

    if (!live || waitlist_reserve(line_of(sim, live)) < 0)
        return -ENOMEM;
    sim->result->jobs++;
    /* It stands in the line while it is asked for: the answer may come within the call. */
    waitlist_append(line_of(sim, live), &live->place, &(struct room){ 0 });
    r = sim->policy->arrive(sim->policy_state, live);
    if (r == SIM_GRANTED) {
        sim_grant(sim, live);
    } else if (r == SIM_NEVER_FITS) {
        sim->result->never_fit++;
        drop(sim, live);
    }
    return r < 0 ? r : 0;
}

static void leave(struct sim *sim, struct sim_live *live)
{
    set_used(sim, live, 0);
    sim->policy->leave(sim->policy_state, live);
    drop(sim, live);
}

static void begin_burst(struct sim *sim, struct sim_live *live)
{
    live->asked_ms = sim->now_ms;
    live->state = SIM_BURST_WAITING;
    set_timer(sim, live, live->end_ms);
    if (sim->policy->burst_begin(sim->policy_state, live) == SIM_GRANTED)
        begin_busy(sim, live);
}

static void end_burst(struct sim *sim, struct sim_live *live)
{
    set_used(sim, live, live->job.claim.parts[0].resident_bytes);
    plan_idle(sim, live);
    sim->policy->burst_end(sim->policy_state, live);
}

static void get_ready(struct sim *sim, struct sim_live *live)
{
    set_used(sim, live, live->job.claim.parts[0].resident_bytes);
    live->end_ms = clock_after_ms(sim->now_ms, live->job.run_ms);
    plan_idle(sim, live);
    sim->policy->ready(sim->policy_state, live);
}

static void step(struct sim *sim, struct sim_live *live)
{
    bool is_over = live->state != SIM_LOADING && live->end_ms <= sim->now_ms;

    if (is_over || (live->is_stopping && live->state != SIM_BUSY)) {
        leave(sim, live);
        return;
    }
    switch (live->state) {
    case SIM_LOADING:
        get_ready(sim, live);
        return;
    case SIM_IDLE:
        begin_burst(sim, live);
        return;
    case SIM_BUSY:
        end_burst(sim, live);
        return;
    case SIM_WAITING:
    case SIM_BURST_WAITING:
        assert(false);
    }
}

static void set_foreign(struct sim *sim, const struct sim_item *item)
{
    uint32_t gpu = item->gpu < sim->gpu_count ? item->gpu : 0;

    sim->foreign_bytes[gpu] = item->foreign_bytes;
    note_overfull(sim, gpu);
    sim->policy->foreign(sim->policy_state, gpu);
}

static void pass_time(struct sim *sim, uint64_t now_ms)
{
    sim->used_byte_ms += (double)sim->used_sum_bytes * (double)(now_ms - sim->now_ms);
    sim->now_ms = now_ms;
}

static uint64_t timers_next_ms(const struct sim *sim)
{
    return sim->timers.count > 0 ? UINT64_MAX - heap_top_key(&sim->timers) : CLOCK_NEVER_MS;
}

static int play_item(struct sim *sim, const struct sim_item *item)
{
    pass_time(sim, item->at_ms > sim->now_ms ? item->at_ms : sim->now_ms);
    if (item->kind == SIM_ITEM_JOB)
        return arrive(sim, &item->job);
    set_foreign(sim, item);
    return 0;
}

/* What comes before at_ms: a job's step, or the policy's own time. false: nothing does. */
static bool play_inside(struct sim *sim, uint64_t at_ms)
{
    uint64_t timer_ms = timers_next_ms(sim);
    uint64_t policy_ms = sim->policy->next_ms(sim->policy_state);
    uint64_t next_ms = timer_ms < policy_ms ? timer_ms : policy_ms;

    if (next_ms > at_ms || next_ms == CLOCK_NEVER_MS)
        return false;
    pass_time(sim, next_ms > sim->now_ms ? next_ms : sim->now_ms);
    if (timer_ms <= policy_ms)
        step(sim, sim->timers.entries[0].node->owner);
    else
        sim->policy->advance(sim->policy_state);
    return true;
}

static int play(struct sim *sim, const struct sim_source *source, struct error *err)
{
    struct sim_item item;
    int r = source->next(source->context, &item, err);

    while (r > 0) {
        sim->result->events++;
        if (play_inside(sim, item.at_ms))
            continue;
        r = play_item(sim, &item);
        if (r == 0)
            r = source->next(source->context, &item, err);
    }
    while (r == 0 && sim->live_count > 0) {
        sim->result->events++;
        if (!play_inside(sim, CLOCK_NEVER_MS))
            return error_set(err, -EDEADLK, "%u jobs wait for ever", sim->live_count);
    }
    return r;
}

static void close_sim(struct sim *sim)
{
    struct sim_live *next;

    if (sim->policy_state)
        sim->policy->close(sim->policy_state);
    for (struct sim_live *live = sim->all; live; live = next) {
        next = live->all_next;
        free(live);
    }
    for (uint32_t i = 0; i <= sim->gpu_count; i++)
        waitlist_deinit(&sim->lines[i]);
    heap_deinit(&sim->timers);
}

int sim_run(const struct sim_policy *policy, const struct sim_gpu *gpus, uint32_t gpu_count,
            const struct sim_source *source, struct sim_result *ret_result, struct error *err)
{
    struct sim sim = {
        .policy = policy, .gpus = gpus, .gpu_count = gpu_count, .result = ret_result
    };
    double capacity_bytes = 0.0;
    int r;

    *ret_result = (struct sim_result){ 0 };
    for (uint32_t i = 0; i < gpu_count; i++)
        capacity_bytes += (double)gpus[i].capacity_bytes;
    r = policy->open(&sim, &sim.policy_state);
    if (r == 0)
        r = play(&sim, source, err);
    if (r == -ENOMEM)
        error_set(err, r, "no memory for the simulation");
    ret_result->end_ms = sim.now_ms;
    if (sim.now_ms > 0)
        ret_result->used_pct = sim.used_byte_ms / (double)sim.now_ms / capacity_bytes * 100.0;
    close_sim(&sim);
    return r;
}
