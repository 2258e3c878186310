/* SPDX-License-Identifier: Apache-2.0 */

/* A workload through each policy comes out as it must. */

#include <errno.h>

#include "base/clock.h"
#include "base/size.h"
#include "check.h"
#include "sim/sim.h"
#include "sim/trace.h"

static const struct sim_gpu card = { 12282 * MIB, 800 * MIB };

struct lines {
    const char *const *next;
};

static int lines_next(void *context, struct sim_item *ret_item, struct error *err)
{
    struct lines *lines = context;

    return *lines->next ? sim_trace_parse(*lines->next++, ret_item, err) : 0;
}

static struct sim_result run(const struct sim_policy *policy, const char *const *texts)
{
    struct lines lines = { .next = texts };
    const struct sim_source source = { .next = lines_next, .context = &lines };
    struct sim_result result;
    struct error err = { 0 };

    CHECK_EQ_U64((uint64_t)sim_run(policy, &card, 1, &source, &result, &err), 0);
    CHECK_EQ_U64(result.jobs, result.granted + result.gave_up + result.never_fit);
    return result;
}

static void test_brim_lets_two_in_where_peaks_would_not_fit(void)
{
    static const char *const texts[] = {
        "0s job a resident=4GiB burst=2.1GiB load=1s run=60s busy=1s idle=1s",
        "0s job b resident=4GiB burst=2.1GiB load=1s run=60s busy=1s idle=1s", NULL
    };
    struct sim_result brim = run(&sim_policy_brim, texts), fcfs = run(&sim_policy_fcfs, texts);

    CHECK_EQ_U64(brim.waits.most_ms, 0);
    CHECK(brim.burst_waits.most_ms > 0 && brim.burst_waits.most_ms <= 1000);
    CHECK_EQ_U64(fcfs.waits.most_ms, 61000);
    CHECK_EQ_U64(fcfs.burst_waits.most_ms, 0);
    CHECK_EQ_U64(brim.overfull + fcfs.overfull, 0);
}

static void test_nobody_passes_in_a_plain_line_and_the_largest_passes_all(void)
{
    static const char *const texts[] = { "0s job full resident=11GiB run=60s",
                                         "1s job small resident=2GiB run=10s",
                                         "2s job large resident=10GiB run=60s wait=1s",
                                         "3s job large resident=10GiB run=60s", NULL };

    CHECK_EQ_U64(run(&sim_policy_fcfs, texts).worst_passed, 0);
    CHECK_EQ_U64(run(&sim_policy_largest, texts).worst_passed, 1);
    CHECK_EQ_U64(run(&sim_policy_brim, texts).worst_passed, 0);
    CHECK_EQ_U64(run(&sim_policy_brim, texts).gave_up, 1);
}

static void test_a_foreign_program_makes_room_for_itself(void)
{
    static const char *const texts[] = { "0s job a resident=5GiB run=600s",
                                         "0s job b resident=5GiB run=600s priority=background",
                                         "10s foreign gpu=0 4GiB",
                                         "20s job c resident=13GiB run=1s", NULL };
    struct sim_result result = run(&sim_policy_brim, texts);

    CHECK_EQ_U64(result.evicted, 1);
    CHECK_EQ_U64(result.never_fit, 1);
    CHECK_EQ_U64(result.overfull, 1);
}

static void test_who_does_not_wait_is_refused_and_who_can_never_fit_is_told_apart(void)
{
    static const char *const texts[] = { "0s job a resident=8GiB run=60s",
                                         "1s job b resident=8GiB run=60s wait=0s",
                                         "1s job c resident=12GiB run=60s wait=0s", NULL };

    for (int i = 0; i < 3; i++) {
        const struct sim_policy *const policies[] = { &sim_policy_brim, &sim_policy_fcfs,
                                                      &sim_policy_largest };
        struct sim_result result = run(policies[i], texts);

        CHECK_EQ_U64(result.granted, 1);
        CHECK_EQ_U64(result.gave_up, 1);
        CHECK_EQ_U64(result.never_fit, 1);
    }
}

static void test_the_same_workload_gives_the_same_figures(void)
{
    uint64_t used[2], waits[2];

    for (int i = 0; i < 2; i++) {
        struct sim_arrivals arrivals;
        struct sim_source source;
        struct sim_result result;

        sim_arrivals_init(&arrivals, &card, 1, 5000, 80, 7);
        source = sim_arrivals_source(&arrivals);
        CHECK(sim_run(&sim_policy_brim, &card, 1, &source, &result, NULL) == 0);
        CHECK_EQ_U64(result.jobs, 5000);
        CHECK(result.worst_passed <= 8);
        used[i] = (uint64_t)(result.used_pct * 1e6);
        waits[i] = sim_times_per_mille(&result.waits, 990);
    }
    CHECK_EQ_U64(used[0], used[1]);
    CHECK_EQ_U64(waits[0], waits[1]);
}

static void test_times_are_counted_within_a_sixteenth(void)
{
    static struct sim_times times;

    for (uint64_t ms = 1; ms <= 100000; ms++)
        sim_times_add(&times, ms);
    CHECK(sim_times_per_mille(&times, 500) >= 50000 && sim_times_per_mille(&times, 500) <= 53200);
    CHECK_EQ_U64(sim_times_per_mille(&times, 1000), 100000);
    sim_times_add(&times, UINT64_MAX);
    CHECK_EQ_U64(times.most_ms, UINT64_MAX);
}

TESTS(TEST(test_brim_lets_two_in_where_peaks_would_not_fit),
      TEST(test_nobody_passes_in_a_plain_line_and_the_largest_passes_all),
      TEST(test_a_foreign_program_makes_room_for_itself),
      TEST(test_who_does_not_wait_is_refused_and_who_can_never_fit_is_told_apart),
      TEST(test_the_same_workload_gives_the_same_figures),
      TEST(test_times_are_counted_within_a_sixteenth))
