/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Decisions of the budget per second of processor time, with so many leases on one gpu.
 *
 *   ledger_decisions_per_s         10 000 leases; _10, _1000, _100000: so many. A decision is a
 *                                  burst's begin or end, or an acquire or a release; of sixteen,
 *                                  fourteen are bursts. Every 65 536th is followed by a sample in
 *                                  which each lease is measured: part of the time.
 *   ledger_queue_decisions_per_s   the same with 10 000 waiters on a full card: each release is
 *                                  followed by the sample that shows the bytes back, and by a grant
 */

#include <stdbool.h>
#include <time.h>

#include "base/clock.h"
#include "base/size.h"
#include "budget/budget.h"
#include "measure.h"

#define LEASE_BYTES    (32 * MIB)
#define BURST_BYTES    (8 * MIB)
#define DECISION_COUNT 2000000
#define QUEUE_COUNT    10000
#define GRANT_COUNT    200000
#define SAMPLE_EVERY   65536
#define LEASE_ROOM     100000

struct bench {
    struct budget *budget; /* owned */
    uint64_t random, now_ms, decisions;
    size_t count;
    uint64_t ids[LEASE_ROOM];
    bool is_busy[LEASE_ROOM];
    struct budget_measure measured[LEASE_ROOM];
};

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "bench_ledger: %s\n", what);
    exit(EXIT_FAILURE);
}

static uint64_t cpu_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t pick(struct bench *bench, uint64_t below)
{
    bench->random ^= bench->random << 13;
    bench->random ^= bench->random >> 7;
    bench->random ^= bench->random << 17;
    return bench->random % below;
}

static void forget_decisions(struct bench *bench)
{
    struct decision decision;

    while (budget_next_decision(bench->budget, &decision))
        ;
}

static void observe(struct bench *bench)
{
    struct budget_facts facts = { .has_process_bytes = true,
                                  .measured = bench->measured,
                                  .measured_count = bench->count };

    for (size_t i = 0; i < bench->count; i++) {
        bench->measured[i] = (struct budget_measure){ bench->ids[i], LEASE_BYTES };
        facts.used_bytes += LEASE_BYTES;
    }
    must(budget_observe(bench->budget, 0, &facts, bench->now_ms) == 0, "no memory");
    forget_decisions(bench);
}

static const struct claim claim = {
    .name = "bench",
    .priority = CLAIM_PRIORITY_NORMAL,
    .part_count = 1,
    .parts = { { .resident_bytes = LEASE_BYTES, .burst_bytes = BURST_BYTES } },
};

static void acquire(struct bench *bench, size_t i)
{
    must(budget_acquire(bench->budget, &claim, bench->now_ms, bench->now_ms, &bench->ids[i],
                        NULL) == BUDGET_GRANTED,
         "a claim that fits was not granted");
    must(budget_ready(bench->budget, bench->ids[i], bench->now_ms) == BUDGET_GRANTED, "not ready");
    bench->is_busy[i] = false;
}

static void bench_init(struct bench *bench, size_t count, uint64_t capacity_bytes)
{
    struct budget_limits limits = BUDGET_LIMITS_DEFAULT;
    struct budget_facts facts = { .has_process_bytes = true };
    uint32_t gpu;

    *bench = (struct bench){ .random = 88172645463325252, .count = count, .now_ms = 1 };
    limits.lease_max = UINT32_C(1) << 17;
    must(budget_new(&limits, &bench->budget) == 0, "no memory");
    must(budget_add_gpu(bench->budget, capacity_bytes, 0, &gpu) == 0, "no memory");
    must(budget_observe(bench->budget, 0, &facts, bench->now_ms) == 0, "no memory");
    for (size_t i = 0; i < count; i++)
        acquire(bench, i);
    observe(bench);
}

static void decide(struct bench *bench)
{
    size_t i = pick(bench, bench->count);

    if ((bench->decisions & 7) == 7 && !bench->is_busy[i]) {
        must(budget_release(bench->budget, bench->ids[i], bench->now_ms) == BUDGET_GRANTED,
             "a release was refused");
        acquire(bench, i);
        bench->decisions += 2;
        return;
    }
    if (bench->is_busy[i])
        must(budget_burst_end(bench->budget, bench->ids[i], bench->now_ms) == BUDGET_GRANTED,
             "the end of a burst was refused");
    else
        must(budget_burst_begin(bench->budget, bench->ids[i], 0, bench->now_ms, bench->now_ms,
                                NULL) == BUDGET_GRANTED,
             "a burst that fits was not granted");
    bench->is_busy[i] = !bench->is_busy[i];
    bench->decisions++;
}

static void bench_leases(const char *key, size_t count)
{
    static struct bench bench;
    uint64_t start_ns;

    bench_init(&bench, count, UINT64_C(1) << 46);
    start_ns = cpu_now_ns();
    for (uint64_t next_sample = SAMPLE_EVERY; bench.decisions < DECISION_COUNT;) {
        decide(&bench);
        if (bench.decisions < next_sample)
            continue;
        next_sample += SAMPLE_EVERY;
        bench.now_ms += 100;
        observe(&bench);
    }
    measure_print(key, (double)bench.decisions * 1e9 / (double)(cpu_now_ns() - start_ns), "1/s",
                  0.0, bench.decisions);
    budget_free(bench.budget);
}

/* A full card and a long queue: who leaves makes room for who waits longest. */
static void bench_queue(void)
{
    static struct bench bench;
    uint64_t start_ns, id, first = 0, granted = 0;
    struct decision decision;

    bench_init(&bench, 100, 100 * LEASE_BYTES + BURST_BYTES);
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        must(budget_acquire(bench.budget, &claim, bench.now_ms, CLOCK_NEVER_MS, &id, NULL) ==
                 BUDGET_QUEUED,
             "a claim that does not fit was not queued");
    start_ns = cpu_now_ns();
    while (granted < GRANT_COUNT) {
        size_t i = first++ % bench.count;

        bench.now_ms++;
        must(budget_release(bench.budget, bench.ids[i], bench.now_ms) == BUDGET_GRANTED,
             "a release was refused");
        must(budget_acquire(bench.budget, &claim, bench.now_ms, CLOCK_NEVER_MS, &id, NULL) ==
                 BUDGET_QUEUED,
             "a claim that does not fit was not queued");
        must(budget_observe(bench.budget, 0, &(struct budget_facts){ .has_process_bytes = true },
                            bench.now_ms) == 0,
             "no memory");
        while (budget_next_decision(bench.budget, &decision)) {
            if (decision.kind != DECISION_GRANTED)
                continue;
            granted++;
            bench.ids[i] = decision.lease_id;
            must(budget_ready(bench.budget, decision.lease_id, bench.now_ms) == BUDGET_GRANTED,
                 "not ready");
        }
    }
    /* An acquire, a release and a grant each. */
    measure_print("ledger_queue_decisions_per_s",
                  3.0 * (double)granted * 1e9 / (double)(cpu_now_ns() - start_ns), "1/s", 0.0,
                  3 * granted);
    budget_free(bench.budget);
}

int main(void)
{
    bench_leases("ledger_decisions_per_s_10", 10);
    bench_leases("ledger_decisions_per_s_1000", 1000);
    bench_leases("ledger_decisions_per_s", 10000);
    bench_leases("ledger_decisions_per_s_100000", 100000);
    bench_queue();
    return EXIT_SUCCESS;
}
