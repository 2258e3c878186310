/* SPDX-License-Identifier: Apache-2.0 */

/* The event loop: the source's next item, the jobs' next steps, the policy's own time, whichever
 * comes first. A policy's answers only set timers, so that no call comes back into itself. */

#include "sim/sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "sim/policy.h"

struct play {
    struct sim sim; /* first: a policy knows only this */
    const struct sim_policy *policy;
    void *policy_state; /* owned */
    uint64_t used_bytes[SIM_GPU_MAX];
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

const char *sim_policy_name(const struct sim_policy *policy)
{
    return policy->name;
}

static struct play *play_of(struct sim *sim)
{
    return (struct play *)sim;
}

static void set_timer(struct play *play, struct sim_live *live, uint64_t at_ms)
{
    if (live->timer.place > 0)
        heap_update(&play->timers, &live->timer, UINT64_MAX - at_ms);
    else
        heap_push(&play->timers, &live->timer, UINT64_MAX - at_ms);
}

static void note_overfull(struct play *play, uint32_t gpu)
{
    bool is_overfull =
        play->used_bytes[gpu] + play->sim.foreign_bytes[gpu] > play->sim.gpus[gpu].capacity_bytes;

    if (is_overfull && !play->is_overfull[gpu])
        play->result->overfull++;
    play->is_overfull[gpu] = is_overfull;
}

static void set_used(struct play *play, struct sim_live *live, uint64_t bytes)
{
    play->used_sum_bytes += bytes - live->used_bytes;
    play->used_bytes[live->gpu] += bytes - live->used_bytes;
    live->used_bytes = bytes;
    note_overfull(play, live->gpu);
}

static struct waitlist *line_of(struct play *play, const struct sim_live *live)
{
    uint32_t gpu = live->job.claim.parts[0].gpu;

    return &play->lines[gpu == CLAIM_GPU_ANY ? play->sim.gpu_count : gpu];
}

/* Everybody who came earlier, and waits for that gpu or for any, is passed. */
static void note_passing(struct play *play, const struct sim_live *live)
{
    struct waitlist *own = &play->lines[live->gpu], *any = &play->lines[play->sim.gpu_count];

    if (waitlist_count(own) > 0)
        waitlist_pass(own, waitlist_end_of_seq(own, live->place.seq));
    if (waitlist_count(any) > 0)
        waitlist_pass(any, waitlist_end_of_seq(any, live->place.seq));
}

static void leave_line(struct play *play, struct sim_live *live)
{
    uint64_t passed;

    if (!live->place.list)
        return;
    passed = waitlist_passed(live->place.list, &live->place);
    if (passed > play->result->worst_passed)
        play->result->worst_passed = passed;
    waitlist_remove(&live->place);
}

/* What it asks for next. false: nothing before its end. */
static bool next_burst(const struct play *play, struct sim_live *live)
{
    const struct sim_job *job = &live->job;

    if (job->bursts) {
        if (live->burst_number == job->burst_count)
            return false;
        live->burst = job->bursts[live->burst_number];
    } else {
        live->burst = (struct sim_burst){ .after_ms = job->idle_ms,
                                          .for_ms = job->busy_ms,
                                          .wait_ms = CLOCK_NEVER_MS };
        if (job->busy_ms == 0 || clock_after_ms(play->sim.now_ms, job->idle_ms) > live->end_ms)
            return false;
    }
    if (live->burst.bytes == 0)
        live->burst.bytes = job->claim.parts[0].burst_bytes;
    return live->burst.bytes > 0 && !job->claim.is_always_busy;
}

/* The next step of an idle one: a burst, or its end. */
static void plan_idle(struct play *play, struct sim_live *live)
{
    uint64_t next_ms = live->end_ms;

    live->state = SIM_IDLE;
    if (next_burst(play, live))
        next_ms = clock_after_ms(play->sim.now_ms, live->burst.after_ms);
    else if (live->job.bursts)
        next_ms = live->end_ms = clock_after_ms(play->sim.now_ms, live->job.rest_ms);
    set_timer(play, live, live->is_stopping ? play->sim.now_ms : next_ms);
}

/* What it has between its bursts; one that is always busy has all of it. */
static uint64_t idle_bytes(const struct sim_live *live)
{
    const struct claim_part *part = &live->job.claim.parts[0];

    return part->resident_bytes + (live->job.claim.is_always_busy ? part->burst_bytes : 0);
}

static void begin_load(struct play *play, struct sim_live *live)
{
    const struct claim_part *part = &live->job.claim.parts[0];

    live->state = SIM_LOADING;
    play->result->granted++;
    sim_times_add(&play->result->waits, play->sim.now_ms - live->asked_ms);
    set_used(play, live,
             part->load_peak_bytes > idle_bytes(live) ? part->load_peak_bytes : idle_bytes(live));
    set_timer(play, live, clock_after_ms(play->sim.now_ms, live->job.load_ms));
}

static void begin_busy(struct play *play, struct sim_live *live)
{
    const struct claim_part *part = &live->job.claim.parts[0];
    uint64_t next_ms = clock_after_ms(play->sim.now_ms, live->burst.for_ms);

    live->state = SIM_BUSY;
    play->result->bursts++;
    sim_times_add(&play->result->burst_waits, play->sim.now_ms - live->asked_ms);
    set_used(play, live, part->resident_bytes + live->burst.bytes);
    set_timer(play, live, next_ms < live->end_ms ? next_ms : live->end_ms);
}

void sim_grant(struct sim *sim, struct sim_live *live)
{
    struct play *play = play_of(sim);

    leave_line(play, live);
    note_passing(play, live);
    begin_load(play, live);
}

static void drop(struct play *play, struct sim_live *live)
{
    leave_line(play, live);
    if (live->used_bytes > 0)
        set_used(play, live, 0);
    heap_remove(&play->timers, &live->timer);
    free(live->job.bursts);
    live->job.bursts = NULL;
    play->live_count--;
    live->next = play->unused;
    play->unused = live;
}

void sim_give_up(struct sim *sim, struct sim_live *live)
{
    struct play *play = play_of(sim);

    play->result->events++;
    play->result->gave_up++;
    drop(play, live);
}

void sim_burst_grant(struct sim *sim, struct sim_live *live)
{
    struct play *play = play_of(sim);

    begin_busy(play, live);
}

void sim_burst_refuse(struct sim *sim, struct sim_live *live)
{
    struct play *play = play_of(sim);

    play->result->bursts_refused++;
    live->burst_number++;
    plan_idle(play, live);
}

void sim_stop(struct sim *sim, struct sim_live *live)
{
    struct play *play = play_of(sim);

    if (!live->is_stopping)
        play->result->evicted++;
    live->is_stopping = true;
    if (live->state == SIM_IDLE || live->state == SIM_LOADING)
        set_timer(play, live, play->sim.now_ms);
}

void sim_trim(struct sim *sim)
{
    play_of(sim)->result->trims_asked++;
}

static struct sim_live *live_new(struct play *play, const struct sim_job *job)
{
    struct sim_live *live = play->unused;

    if (heap_reserve(&play->timers, play->live_count + 1) < 0)
        return NULL;
    if (live) {
        play->unused = live->next;
    } else {
        live = malloc(sizeof(*live));
        if (!live)
            return NULL;
        live->all_next = play->all;
        play->all = live;
    }
    *live = (struct sim_live){
        .job = *job, .state = SIM_WAITING, .asked_ms = play->sim.now_ms, .all_next = live->all_next
    };
    live->timer.owner = live;
    live->place.seq = play->next_seq++;
    live->place.queued_ms = play->sim.now_ms;
    play->live_count++;
    return live;
}

static int arrive(struct play *play, const struct sim_job *job)
{
    struct sim_live *live = live_new(play, job);
    int r;

    if (!live) {
        free(job->bursts);
        return -ENOMEM;
    }
    if (waitlist_reserve(line_of(play, live)) < 0)
        return -ENOMEM;
    play->result->jobs++;
    /* It stands in the line while it is asked for: the answer may come within the call. */
    waitlist_append(line_of(play, live), &live->place, &(struct room){ 0 });
    r = play->policy->arrive(play->policy_state, live);
    if (r == SIM_GRANTED) {
        sim_grant(&play->sim, live);
    } else if (r == SIM_NEVER_FITS) {
        play->result->never_fit++;
        drop(play, live);
    } else if (r == SIM_REFUSED) {
        play->result->gave_up++;
        drop(play, live);
    }
    return r < 0 ? r : 0;
}

static void leave(struct play *play, struct sim_live *live)
{
    set_used(play, live, 0);
    play->policy->leave(play->policy_state, live);
    drop(play, live);
}

static void begin_burst(struct play *play, struct sim_live *live)
{
    live->asked_ms = play->sim.now_ms;
    live->state = SIM_BURST_WAITING;
    set_timer(play, live, live->end_ms);
    switch (play->policy->burst_begin(play->policy_state, live)) {
    case SIM_GRANTED:
        begin_busy(play, live);
        return;
    case SIM_REFUSED:
        sim_burst_refuse(&play->sim, live);
        return;
    default:
        return;
    }
}

static void end_burst(struct play *play, struct sim_live *live)
{
    set_used(play, live, idle_bytes(live));
    live->burst_number++;
    plan_idle(play, live);
    play->policy->burst_end(play->policy_state, live);
}

static void get_ready(struct play *play, struct sim_live *live)
{
    set_used(play, live, idle_bytes(live));
    live->end_ms =
        live->job.bursts ? CLOCK_NEVER_MS : clock_after_ms(play->sim.now_ms, live->job.run_ms);
    plan_idle(play, live);
    play->policy->ready(play->policy_state, live);
}

static void step(struct play *play, struct sim_live *live)
{
    bool is_over = live->state != SIM_LOADING && live->end_ms <= play->sim.now_ms;

    play->result->events++;
    if (is_over || (live->is_stopping && live->state != SIM_BUSY)) {
        leave(play, live);
        return;
    }
    switch (live->state) {
    case SIM_LOADING:
        get_ready(play, live);
        return;
    case SIM_IDLE:
        begin_burst(play, live);
        return;
    case SIM_BUSY:
        end_burst(play, live);
        return;
    case SIM_WAITING:
    case SIM_BURST_WAITING:
        assert(false);
    }
}

static void set_foreign(struct play *play, const struct sim_item *item)
{
    uint32_t gpu = item->gpu < play->sim.gpu_count ? item->gpu : 0;

    play->sim.foreign_bytes[gpu] = item->foreign_bytes;
    note_overfull(play, gpu);
    play->policy->foreign(play->policy_state, gpu);
}

static void pass_time(struct play *play, uint64_t now_ms)
{
    play->used_byte_ms += (double)play->used_sum_bytes * (double)(now_ms - play->sim.now_ms);
    play->sim.now_ms = now_ms;
}

static uint64_t timers_next_ms(const struct play *play)
{
    return play->timers.count > 0 ? UINT64_MAX - heap_top_key(&play->timers) : CLOCK_NEVER_MS;
}

static int play_item(struct play *play, const struct sim_item *item)
{
    play->result->events++;
    pass_time(play, item->at_ms > play->sim.now_ms ? item->at_ms : play->sim.now_ms);
    if (item->kind == SIM_ITEM_JOB)
        return arrive(play, &item->job);
    set_foreign(play, item);
    return 0;
}

/* What comes before at_ms: a job's step, or the policy's own time. false: nothing does. */
static bool play_inside(struct play *play, uint64_t at_ms)
{
    uint64_t timer_ms = timers_next_ms(play);
    uint64_t policy_ms = play->policy->next_ms(play->policy_state);
    uint64_t next_ms = timer_ms < policy_ms ? timer_ms : policy_ms;

    if (next_ms > at_ms || next_ms == CLOCK_NEVER_MS)
        return false;
    pass_time(play, next_ms > play->sim.now_ms ? next_ms : play->sim.now_ms);
    if (timer_ms <= policy_ms)
        step(play, play->timers.entries[0].node->owner);
    else
        play->policy->advance(play->policy_state);
    return true;
}

static int play_all(struct play *play, const struct sim_source *source, struct error *err)
{
    struct sim_item item;
    int r = source->next(source->context, &item, err);

    while (r > 0) {
        if (play_inside(play, item.at_ms))
            continue;
        r = play_item(play, &item);
        if (r == 0)
            r = source->next(source->context, &item, err);
    }
    while (r == 0 && play_inside(play, CLOCK_NEVER_MS))
        ;
    play->result->stuck = play->live_count;
    return r;
}

static void play_close(struct play *play)
{
    struct sim_live *next;

    if (play->policy_state)
        play->policy->close(play->policy_state);
    for (struct sim_live *live = play->all; live; live = next) {
        next = live->all_next;
        free(live->job.bursts);
        free(live);
    }
    for (uint32_t i = 0; i <= play->sim.gpu_count; i++)
        waitlist_deinit(&play->lines[i]);
    heap_deinit(&play->timers);
}

int sim_run(const struct sim_policy *policy, const struct sim_gpu *gpus, uint32_t gpu_count,
            const struct sim_source *source, struct sim_result *ret_result, struct error *err)
{
    struct play play = { .sim = { .gpus = gpus, .gpu_count = gpu_count },
                         .policy = policy,
                         .result = ret_result };
    double capacity_bytes = 0.0;
    int r;

    *ret_result = (struct sim_result){ 0 };
    for (uint32_t i = 0; i < gpu_count; i++)
        capacity_bytes += (double)gpus[i].capacity_bytes;
    r = policy->open(&play.sim, &play.policy_state);
    if (r == 0)
        r = play_all(&play, source, err);
    if (r == -ENOMEM)
        error_set(err, r, "no memory for the simulation");
    ret_result->end_ms = play.sim.now_ms;
    if (play.sim.now_ms > 0)
        ret_result->used_pct = play.used_byte_ms / (double)play.sim.now_ms / capacity_bytes * 100.0;
    play_close(&play);
    return r;
}
