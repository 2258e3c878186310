/* SPDX-License-Identifier: Apache-2.0 */

#include "books.h"

#include <assert.h>
#include <stdatomic.h>

#define NUMBER_BITS 25
#define NUMBER_MASK ((UINT64_C(1) << NUMBER_BITS) - 1)
#define UNIT_BITS   28
#define UNIT_MASK   ((UINT64_C(1) << UNIT_BITS) - 1)
#define TAKES_BIT   (UINT64_C(1) << (NUMBER_BITS + UNIT_BITS))

static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock of the C library would not work over processes");
static_assert(BOOKS_ACCOUNT_MAX == UINT64_C(1) << (64 - UNIT_BITS - NUMBER_BITS),
              "an account's index fills what is left of the card's word");

/* A word's parts: number below, then units, or a count up to the word's end. */
static uint64_t number_of(uint64_t word)
{
    return word & NUMBER_MASK;
}

static uint64_t units_of(uint64_t word)
{
    return word >> NUMBER_BITS & UNIT_MASK;
}

static uint64_t count_of(uint64_t word)
{
    return word >> NUMBER_BITS;
}

static uint64_t word_of(uint64_t above, uint64_t number)
{
    return above << NUMBER_BITS | number;
}

/* Of the card's word only. */
static uint32_t account_of(uint64_t word)
{
    return (uint32_t)(word >> (NUMBER_BITS + UNIT_BITS));
}

static struct books_entry *entry_of(const struct books_at *at)
{
    return &at->books->accounts[at->account].entries[at->card];
}

static uint64_t round_up(uint64_t bytes)
{
    return bytes / BOOKS_UNIT_BYTES + (bytes % BOOKS_UNIT_BYTES != 0);
}

/* The mark is about to be overwritten: its change has happened. While the mark is there its account
 * is at that number, so whatever else is noted is older; once it is gone, somebody else has noted
 * it. */
static void note(const struct books_at *at, uint64_t used)
{
    _Atomic uint64_t *const word = &at->books->cards[at->card].used;
    _Atomic uint64_t *const noted = &at->books->accounts[account_of(used)].entries[at->card].noted;
    uint64_t known = atomic_load(noted);

    if (account_of(used) == at->account) /* its next change: the last one is done */
        return;
    while (known != number_of(used) && atomic_load(word) == used)
        (void)atomic_compare_exchange_strong(noted, &known, number_of(used));
}

static void raise_peak(struct books_card *card, uint64_t units)
{
    uint64_t peak = atomic_load(&card->peak);

    while (peak < units && !atomic_compare_exchange_weak(&card->peak, &peak, units))
        continue;
}

/* Steps 1 and 2, then 4; taken is step 3's word. */
static bool change(const struct books_at *at, uint64_t units, bool is_take, uint64_t most_units)
{
    struct books_card *const card = &at->books->cards[at->card];
    struct books_entry *const entry = entry_of(at);
    const uint64_t done = atomic_load_explicit(&entry->done, memory_order_relaxed);
    const uint64_t taken = atomic_load_explicit(&entry->taken, memory_order_relaxed);
    const uint64_t number = (number_of(done) + 1) & NUMBER_MASK;
    uint64_t used = atomic_load(&card->used), next = 0;

    atomic_store_explicit(&entry->intent, word_of(units, number) | (is_take ? TAKES_BIT : 0),
                          memory_order_release);
    do {
        const uint64_t before = units_of(used);
        if (is_take && (before > most_units || units > most_units - before))
            return false;
        if (!is_take)
            raise_peak(card, before);
        note(at, used);
        /* Less than nothing is in use only where a program has written into the books. */
        next = is_take ? before + units : before - (units < before ? units : before);
        next = word_of((uint64_t)at->account << UNIT_BITS | next, number);
    } while (!atomic_compare_exchange_weak(&card->used, &used, next));
    if (is_take)
        atomic_store_explicit(&entry->taken, word_of(count_of(taken) + 1, number),
                              memory_order_release);
    const uint64_t held = is_take ? units_of(done) + units : units_of(done) - units;
    atomic_store_explicit(&entry->done, word_of(held & UNIT_MASK, number), memory_order_release);
    return true;
}

bool books_take(const struct books_at *at, uint64_t bytes, uint64_t capacity_bytes)
{
    const uint64_t units = round_up(bytes);

    return units <= UNIT_MASK && change(at, units, true, capacity_bytes / BOOKS_UNIT_BYTES);
}

void books_give(const struct books_at *at, uint64_t bytes)
{
    if (bytes > 0)
        (void)change(at, round_up(bytes) & UNIT_MASK, false, 0);
}

uint64_t books_used_bytes(const struct books *books, uint32_t card)
{
    return units_of(atomic_load(&books->cards[card].used)) * BOOKS_UNIT_BYTES;
}

uint64_t books_peak_bytes(const struct books *books, uint32_t card)
{
    const uint64_t used = units_of(atomic_load(&books->cards[card].used));
    const uint64_t peak = atomic_load(&books->cards[card].peak);

    return (used > peak ? used : peak) * BOOKS_UNIT_BYTES;
}

/* The mark first: a mark that is gone was noted before. */
static bool has_happened(const struct books_at *at, uint64_t number)
{
    const uint64_t used = atomic_load(&at->books->cards[at->card].used);

    if (account_of(used) == at->account && number_of(used) == number)
        return true;
    return atomic_load(&entry_of(at)->noted) == number;
}

struct books_state books_state(const struct books_at *at)
{
    const struct books_entry *const entry = entry_of(at);
    const uint64_t done = atomic_load(&entry->done);
    const uint64_t taken = atomic_load(&entry->taken);
    const uint64_t intent = atomic_load(&entry->intent);
    uint64_t held = units_of(done), count = count_of(taken);

    if (number_of(intent) == ((number_of(done) + 1) & NUMBER_MASK) &&
        has_happened(at, number_of(intent))) {
        const bool is_take = (intent & TAKES_BIT) != 0;
        held = (is_take ? held + units_of(intent) : held - units_of(intent)) & UNIT_MASK;
        count += is_take && number_of(taken) != number_of(intent);
    }
    return (struct books_state){ held * BOOKS_UNIT_BYTES, count };
}

/* A number is not used again: a change that was only intended keeps its own. */
void books_reset(const struct books_at *at)
{
    struct books_entry *const entry = entry_of(at);
    const uint64_t number = number_of(atomic_load(&entry->intent));

    atomic_store(&entry->done, word_of(0, number));
    atomic_store(&entry->taken, word_of(0, number));
}
