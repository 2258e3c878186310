/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/sampler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/held.h"
#include "daemon/note.h"
#include "daemon/recorder.h"

#define GAP_MIN_MS      10  /* between two questions, whoever wants them */
#define HURRY_EVERY_MS  20  /* but the one after a release need not wait for that, so often */
#define GAP_FAILED_MS   200 /* the same, while the driver does not answer as it should */
#define PERIOD_MS       200
#define DRAIN_MAX_MS    250
#define WATCHED_STEP_MS 2000
#define WATCHED_MS      10000
#define ACTIVE_MS       1000
#define REFRESH_MAX_MS  300

struct refresher {
    TAILQ_ENTRY(refresher) entry;
    uint64_t deadline_ms;
    void (*on_fresh)(void *context);
    void *context;
};

uint64_t sampler_facts_age_ms(const struct daemon *daemon)
{
    const uint64_t at_ms = daemon->sampler.facts_at_ms;

    return at_ms == 0 ? UINT64_MAX : clock_now_ms() - at_ms;
}

/* A refresher may ask again from its callback: the list is taken first. */
static void refreshers_run(struct daemon *daemon, uint64_t due_ms)
{
    struct sampler *sampler = &daemon->sampler;
    struct refresher_list due = TAILQ_HEAD_INITIALIZER(due);
    struct refresher *refresher = NULL;

    while ((refresher = TAILQ_FIRST(&sampler->refreshers)) && refresher->deadline_ms <= due_ms) {
        TAILQ_REMOVE(&sampler->refreshers, refresher, entry);
        TAILQ_INSERT_TAIL(&due, refresher, entry);
    }
    while ((refresher = TAILQ_FIRST(&due))) {
        TAILQ_REMOVE(&due, refresher, entry);
        refresher->on_fresh(refresher->context);
        free(refresher);
    }
}

static void on_refresh_due(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    const uint64_t now_ms = clock_now_ms();
    struct refresher *first = NULL;

    refreshers_run(daemon, now_ms);
    first = TAILQ_FIRST(&daemon->sampler.refreshers);
    if (first)
        (void)uv_timer_start(timer, on_refresh_due, first->deadline_ms - now_ms, 0);
}

bool sampler_refresh(struct daemon *daemon, void (*on_fresh)(void *context), void *context)
{
    struct sampler *sampler = &daemon->sampler;
    const uint64_t now_ms = clock_now_ms();
    struct refresher *refresher = NULL;

    sampler->watched_until_ms = now_ms + WATCHED_MS;
    if (daemon->is_ending || sampler_facts_age_ms(daemon) <= SAMPLER_STATUS_MS ||
        (sampler->problem[0] != '\0' && now_ms - sampler->asked_at_ms <= SAMPLER_STATUS_MS)) {
        sampler_plan(daemon);
        return true;
    }
    refresher = calloc(1, sizeof(*refresher));
    if (!refresher)
        return true;
    refresher->deadline_ms = now_ms + REFRESH_MAX_MS;
    refresher->on_fresh = on_fresh;
    refresher->context = context;
    TAILQ_INSERT_TAIL(&sampler->refreshers, refresher, entry);
    if (!uv_is_active((const uv_handle_t *)&sampler->refresh_timer))
        (void)uv_timer_start(&sampler->refresh_timer, on_refresh_due, REFRESH_MAX_MS, 0);
    sampler_want(daemon);
    return false;
}

static uint64_t earlier(uint64_t left_ms, uint64_t right_ms)
{
    return left_ms < right_ms ? left_ms : right_ms;
}

static uint64_t next_due_ms(struct daemon *daemon, uint64_t now_ms)
{
    struct sampler *sampler = &daemon->sampler;
    const uint64_t last_ms = sampler->asked_at_ms;
    const bool is_failing = sampler->problem[0] != '\0';
    uint64_t due_ms = CLOCK_NEVER_MS;

    if (daemon->holders.count > 0)
        sampler->active_until_ms = now_ms + ACTIVE_MS;
    if (sampler->is_wanted && sampler->is_hurried && now_ms >= sampler->hurry_from_ms)
        due_ms = now_ms;
    else if (sampler->is_wanted)
        due_ms = last_ms + (is_failing ? GAP_FAILED_MS : GAP_MIN_MS);
    if (daemon->holders.draining_count > 0 && !is_failing)
        due_ms = earlier(due_ms, last_ms + sampler->drain_step_ms);
    if (now_ms < sampler->active_until_ms)
        due_ms = earlier(due_ms, last_ms + PERIOD_MS);
    if (now_ms < sampler->watched_until_ms)
        due_ms = earlier(due_ms, last_ms + WATCHED_STEP_MS);
    return due_ms;
}

static void on_sample_due(uv_timer_t *timer);

/* The question goes out now, or the timer is set for it. While the helper is asked or down there is
 * nothing to plan: its answer, or its return, plans again. */
void sampler_plan(struct daemon *daemon)
{
    struct sampler *sampler = &daemon->sampler;
    const uint64_t now_ms = clock_now_ms();
    uint64_t due_ms = 0;

    if (daemon->is_ending || helper_is_asked(daemon->helper) || helper_is_down(daemon->helper))
        return;
    due_ms = next_due_ms(daemon, now_ms);
    if (due_ms <= now_ms) {
        (void)uv_timer_stop(&sampler->timer);
        sampler->due_ms = CLOCK_NEVER_MS;
        if (helper_ask(daemon->helper)) {
            if (now_ms < sampler->asked_at_ms + GAP_MIN_MS)
                sampler->hurry_from_ms = now_ms + HURRY_EVERY_MS;
            sampler->asked_at_ms = now_ms;
            sampler->is_wanted = false;
            sampler->is_hurried = false;
        }
        return;
    }
    if (due_ms == sampler->due_ms)
        return;
    sampler->due_ms = due_ms;
    if (due_ms == CLOCK_NEVER_MS)
        (void)uv_timer_stop(&sampler->timer);
    else
        (void)uv_timer_start(&sampler->timer, on_sample_due, due_ms - now_ms, 0);
}

static void on_sample_due(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;

    daemon->sampler.due_ms = CLOCK_NEVER_MS;
    sampler_plan(daemon);
}

void sampler_want(struct daemon *daemon)
{
    daemon->sampler.is_wanted = true;
    sampler_plan(daemon);
}

void sampler_want_drain(struct daemon *daemon)
{
    daemon->sampler.drain_step_ms = GAP_MIN_MS;
    daemon->sampler.is_hurried = daemon->sampler.problem[0] == '\0';
    sampler_want(daemon);
}

static void set_problem(struct daemon *daemon, const char *problem)
{
    struct sampler *sampler = &daemon->sampler;

    if (strcmp(sampler->problem, problem) == 0)
        return;
    (void)snprintf(sampler->problem, sizeof(sampler->problem), "%s", problem);
    note_gpu(daemon, problem[0] != '\0' ? "facts_failed" : "facts_back", -1, 0, problem);
}

/* An answer, or the certainty that there is none for now. */
static void answered(struct daemon *daemon)
{
    struct sampler *sampler = &daemon->sampler;

    sampler->drain_step_ms = earlier(sampler->drain_step_ms * 2, DRAIN_MAX_MS);
    if (sampler->drain_step_ms == 0)
        sampler->drain_step_ms = GAP_MIN_MS;
    refreshers_run(daemon, CLOCK_NEVER_MS);
    requests_resume(daemon);
    daemon_pump(daemon);
}

static void on_gpu(void *user, const struct facts_gpu *facts)
{
    struct daemon *daemon = user;

    if (!daemon->sampler.is_answering) {
        daemon->sampler.is_answering = true;
        gpus_begin_answer(daemon);
    }
    gpu_take(daemon, facts);
}

static void on_end(void *user, const struct facts_end *end)
{
    struct daemon *daemon = user;
    struct sampler *sampler = &daemon->sampler;

    if (!sampler->is_answering)
        gpus_begin_answer(daemon);
    sampler->is_answering = false;
    sampler->is_helper_failing = false;
    if (end->status != 0) {
        set_problem(daemon, end->problem[0] != '\0' ? end->problem : "the driver does not answer");
        answered(daemon);
        return;
    }
    gpus_end_answer(daemon);
    set_problem(daemon, "");
    if (!sampler->is_restored) {
        /* These facts only told which gpus there are. With the leases of the last daemon put back,
         * the next ones tell whose bytes are whose; until then nobody is judged by them. */
        sampler->is_restored = true;
        recorder_restore(daemon);
        sampler_want(daemon);
        return;
    }
    sampler->facts_at_ms = sampler->asked_at_ms;
    answered(daemon);
}

static void on_failed(void *user, const char *problem)
{
    struct daemon *daemon = user;

    daemon->sampler.is_answering = false;
    daemon->sampler.is_helper_failing = true;
    set_problem(daemon, problem);
    answered(daemon);
}

static void on_ready(void *user)
{
    sampler_plan(user);
}

int sampler_open(struct daemon *daemon, struct error *err)
{
    struct sampler *sampler = &daemon->sampler;
    const struct helper_events events = {
        .user = daemon,
        .on_gpu = on_gpu,
        .on_end = on_end,
        .on_failed = on_failed,
        .on_ready = on_ready,
    };
    const int r = helper_open(daemon->loop, &events, &daemon->helper, err);

    if (r < 0)
        return r;
    TAILQ_INIT(&sampler->refreshers);
    (void)uv_timer_init(daemon->loop, &sampler->timer);
    (void)uv_timer_init(daemon->loop, &sampler->refresh_timer);
    sampler->timer.data = daemon;
    sampler->refresh_timer.data = daemon;
    sampler->due_ms = CLOCK_NEVER_MS;
    sampler->drain_step_ms = GAP_MIN_MS;
    sampler->is_wanted = true; /* which gpus are there? */
    return 0;
}

static void on_helper_closed(void *user)
{
    struct daemon *daemon = user;

    daemon->helper = NULL;
}

void sampler_close(struct daemon *daemon)
{
    refreshers_run(daemon, CLOCK_NEVER_MS);
    uv_close((uv_handle_t *)&daemon->sampler.timer, NULL);
    uv_close((uv_handle_t *)&daemon->sampler.refresh_timer, NULL);
    helper_close(daemon->helper, on_helper_closed, daemon);
}
