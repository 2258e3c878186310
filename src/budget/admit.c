/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Admission: may this claim, or this burst, be granted now? The questions are asked in the order in
 * which an answer helps a person: can it ever fit, does the gpu keep the laws as it is, is there
 * room, could everybody's burst still be served, does somebody load alone, is somebody first. That
 * the facts are too old is told apart from all of these: then nothing is decided yet.
 */

#include "budget/state.h"

static uint64_t above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

bool verdict_is_final(const struct verdict *verdict)
{
    return verdict->kind == REFUSAL_NEVER_FITS || verdict->kind == REFUSAL_NO_GPU ||
           verdict->kind == REFUSAL_BAD_CLAIM;
}

static bool gpu_is_known(const struct budget *budget, uint32_t gpu)
{
    return gpu < budget->gpu_count && budget->ledgers[gpu]->is_managed;
}

/* Somebody who waits goes first on that gpu. */
static bool claim_is_behind(const struct budget *budget, uint32_t gpu, const struct waiter *waiter)
{
    const struct waiter *first;

    if (budget->queue.count == 0)
        return false;
    if (queue_closed(&budget->queue, gpu, true, budget->now_ms))
        return true;
    first = queue_closed(&budget->queue, gpu, false, budget->now_ms);
    return first && first != waiter;
}

static uint64_t most_extra_bytes(const struct ledger *ledger, const struct need *need)
{
    uint64_t extra_bytes = heap_top_key(&ledger->extras);

    return need->extra_bytes > extra_bytes ? need->extra_bytes : extra_bytes;
}

/* Law 2 with the newcomer in it. need is at most what the gpu could ever give: no sum wraps. */
static uint64_t progress_with(const struct ledger *ledger, const struct need *need)
{
    return ledger_resident_bytes(ledger) + need->resident_bytes + most_extra_bytes(ledger, need);
}

static struct verdict judge_part(const struct budget *budget, uint32_t gpu,
                                 const struct claim *claim, const struct need *need,
                                 const struct waiter *waiter)
{
    struct verdict verdict = { .gpu = gpu, .asked_bytes = need->charge_bytes };
    const struct ledger *ledger;
    uint64_t total_bytes = need_total_bytes(need), progress_bytes;

    if (!gpu_is_known(budget, gpu)) {
        verdict.kind = REFUSAL_NO_GPU;
        return verdict;
    }
    ledger = budget->ledgers[gpu];
    verdict.is_stale = !ledger_is_fresh(ledger, budget->now_ms, budget->limits.facts_max_age_ms);
    verdict.short_bytes = above(total_bytes, ledger_most_bytes(ledger));
    if (verdict.short_bytes > 0) {
        verdict.kind = REFUSAL_NEVER_FITS;
        verdict.asked_bytes = total_bytes;
        return verdict;
    }

    progress_bytes = progress_with(ledger, need);
    if (!ledger_holds(ledger))
        verdict.kind = REFUSAL_OVERCOMMITTED;
    else if (ledger_bound_bytes(ledger) + need->charge_bytes > ledger->capacity_bytes)
        verdict.kind = REFUSAL_NO_ROOM;
    else if (progress_bytes > ledger->capacity_bytes)
        verdict.kind = REFUSAL_NO_PROGRESS;
    else if (ledger->sum.alone_count > 0 ||
             (claim->is_load_alone && ledger->sum.loading_count + ledger->sum.busy_count > 0))
        verdict.kind = REFUSAL_LOAD_WINDOW;
    else if (claim_is_behind(budget, gpu, waiter))
        verdict.kind = REFUSAL_BEHIND;

    if (verdict.kind == REFUSAL_NO_PROGRESS)
        verdict.short_bytes = progress_bytes - ledger->capacity_bytes;
    else if (verdict.kind == REFUSAL_NO_ROOM || verdict.kind == REFUSAL_OVERCOMMITTED)
        verdict.short_bytes = above(need->charge_bytes, ledger_free_bytes(ledger));
    return verdict;
}

/* The least that is left free after a grant: the best fit leaves the least. */
static uint64_t left_bytes(const struct ledger *ledger, const struct need *need)
{
    return above(ledger_free_bytes(ledger), need->charge_bytes);
}

/* A rank of verdicts on several gpus: what is closest to a grant first. */
static int verdict_distance(const struct verdict *verdict)
{
    if (verdict->kind == REFUSAL_NONE)
        return verdict->is_stale ? 1 : 0;
    if (verdict->kind == REFUSAL_NO_GPU)
        return 4;
    return verdict->kind == REFUSAL_NEVER_FITS ? 3 : 2;
}

static bool verdict_is_closer(const struct verdict *a, uint64_t a_left_bytes,
                              const struct verdict *b, uint64_t b_left_bytes)
{
    int a_distance = verdict_distance(a), b_distance = verdict_distance(b);

    if (a_distance != b_distance)
        return a_distance < b_distance;
    if (a->kind == REFUSAL_NONE)
        return a_left_bytes < b_left_bytes;
    return a->short_bytes < b->short_bytes;
}

static struct verdict judge_any(const struct budget *budget, const struct claim *claim,
                                const struct need *need, const struct waiter *waiter)
{
    struct verdict best = { .kind = REFUSAL_NO_GPU,
                            .gpu = CLAIM_GPU_ANY,
                            .asked_bytes = need->charge_bytes };
    uint64_t best_left_bytes = 0;
    bool is_stale = false;

    for (uint32_t gpu = 0; gpu < budget->gpu_count; gpu++) {
        struct verdict verdict = judge_part(budget, gpu, claim, need, waiter);
        uint64_t left = left_bytes(budget->ledgers[gpu], need);

        is_stale = is_stale || (verdict.is_stale && !verdict_is_final(&verdict));
        if (gpu > 0 && !verdict_is_closer(&verdict, left, &best, best_left_bytes))
            continue;
        best = verdict;
        best_left_bytes = left;
    }
    /* It fits on none, but of one of them we know too little to say so. */
    if (!verdict_is_yes(&best))
        best.is_stale = is_stale;
    return best;
}

struct verdict admit_claim(const struct budget *budget, const struct claim *claim,
                           const struct waiter *waiter)
{
    struct verdict worst = { .kind = claim_check(claim), .gpu = claim->parts[0].gpu };
    bool is_stale = false;

    if (worst.kind != REFUSAL_NONE)
        return worst;
    if (claim->parts[0].gpu == CLAIM_GPU_ANY) {
        struct need need = claim_need(claim, 0);

        return judge_any(budget, claim, &need, waiter);
    }
    for (uint32_t i = 0; i < claim->part_count; i++) {
        struct need need = claim_need(claim, i);
        struct verdict verdict = judge_part(budget, claim->parts[i].gpu, claim, &need, waiter);

        is_stale = is_stale || verdict.is_stale;
        if (i == 0 || verdict_distance(&verdict) > verdict_distance(&worst))
            worst = verdict;
    }
    worst.is_stale = is_stale;
    return worst;
}

bool admit_holds_bursts(const struct budget *budget, uint32_t gpu)
{
    const struct waiter *waiter = queue_closed(&budget->queue, gpu, false, budget->now_ms);
    const struct claim *claim;

    if (!waiter)
        return false;
    claim = &waiter->lease->claim;
    for (uint32_t i = 0; i < claim->part_count; i++) {
        uint32_t part_gpu = claim->parts[i].gpu == CLAIM_GPU_ANY ? gpu : claim->parts[i].gpu;
        const struct ledger *ledger = budget->ledgers[part_gpu];
        struct need need = claim_need(claim, i);

        if (!gpu_is_known(budget, part_gpu) || !ledger_holds(ledger) ||
            progress_with(ledger, &need) > ledger->capacity_bytes)
            return false;
        if (queue_closed(&budget->queue, part_gpu, false, budget->now_ms) != waiter)
            return false;
    }
    return true;
}

static enum refusal_kind burst_part_kind(const struct budget *budget, const struct ledger *ledger,
                                         uint64_t bytes, const struct waiter *waiter)
{
    const struct waiter *first;

    if (!ledger->is_managed)
        return REFUSAL_NO_GPU;
    if (bytes > 0 && bytes > ledger_burst_room_bytes(ledger))
        return REFUSAL_NO_ROOM;
    if (ledger->sum.alone_count > 0)
        return REFUSAL_LOAD_WINDOW;
    if (bytes == 0 || budget->queue.count == 0)
        return REFUSAL_NONE; /* it is in nobody's way */
    first = queue_closed(&budget->queue, ledger->gpu, true, budget->now_ms);
    if (first)
        return first == waiter ? REFUSAL_NONE : REFUSAL_BEHIND;
    return admit_holds_bursts(budget, ledger->gpu) ? REFUSAL_BEHIND : REFUSAL_NONE;
}

struct verdict admit_burst(const struct budget *budget, const struct lease *lease, uint64_t bytes,
                           const struct waiter *waiter)
{
    struct verdict worst = { .gpu = lease->parts[0].ledger->gpu };
    bool is_stale = false;

    for (uint32_t i = 0; i < lease->claim.part_count; i++) {
        const struct ledger *ledger = lease->parts[i].ledger;
        uint64_t part_bytes = lease_burst_bytes(lease, i, bytes);
        enum refusal_kind kind = burst_part_kind(budget, ledger, part_bytes, waiter);

        if (part_bytes > 0 &&
            !ledger_is_fresh(ledger, budget->now_ms, budget->limits.facts_max_age_ms))
            is_stale = true;
        if (i > 0 && (kind == REFUSAL_NONE || worst.kind != REFUSAL_NONE))
            continue;
        worst = (struct verdict){ .kind = kind, .gpu = ledger->gpu, .asked_bytes = part_bytes };
        if (kind == REFUSAL_NO_ROOM)
            worst.short_bytes = part_bytes - ledger_burst_room_bytes(ledger);
    }
    worst.is_stale = is_stale;
    return worst;
}

struct verdict admit_waiter(const struct budget *budget, const struct waiter *waiter)
{
    if (waiter->is_burst)
        return admit_burst(budget, waiter->lease, waiter->burst_bytes, waiter);
    return admit_claim(budget, &waiter->lease->claim, waiter);
}
