/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_BOOKS_H
#define EMU_BOOKS_H

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * What is in use on each card: one shared mapping in which every process of the driver charges
 * itself, without a lock and without asking anybody, and the server settles what the dead have
 * left.
 *
 * Two things must come together, the card's sum and who holds how much of it, and the process may
 * be killed between any two instructions. So a change is made in steps that can be told apart
 * later:
 *
 *   1. intent   of the account: how much, which way, and a number, the next one of this account
 *   2. used     of the card, by compare-and-swap: the new sum, with the account and the number of
 * the change as its mark. This instruction is the change.
 *   3. taken    of the account: how often something was taken, with the number
 *   4. done     of the account: what it holds now, with the number
 *
 * Before the mark of another account is overwritten, its number is written to that account's
 * `noted`. So the last change of an account has happened if and only if its number is on the card's
 * mark or noted; if it has and the account is not `done`, the rest is done for it. This is
 * recoverable compare-and-swap (Attiya, Ben-Baruch, Hendler: Nesting-Safe Recoverable
 * Linearizability, PODC 2018). Nobody ever waits for anybody: a process that is stopped in the
 * middle stops nobody.
 *
 * Who writes what:
 *
 *   intent, taken, done   the account's process alone, one thread at a time (it holds its lock);
 *                         the server, once the process has ended
 *   used, noted, peak     everybody, by compare-and-swap
 *   oom_count             everybody, by addition
 *   is_closed             the server
 *
 * The peak is raised by whoever makes the sum smaller, before that: each sum that was the largest
 * is either noted so or still the present one.
 *
 * Sums are in units of 64 KiB, so that one word has room for the sum (28 bits), the account (11)
 * and the number (25). A number comes again after 33 million changes; to be taken for its
 * predecessor, a process would have to stand still in between two instructions for exactly as many.
 */

#define BOOKS_UNIT_BYTES  (UINT64_C(64) << 10)
#define BOOKS_CARD_MAX    16
#define BOOKS_ACCOUNT_MAX 2048
#define BOOKS_SERVER      0 /* the server's own account; what it holds is not kept there */

struct books_card {
    alignas(64) _Atomic uint64_t used; /* sum, account, number */
    _Atomic uint64_t peak;             /* units */
    _Atomic uint64_t oom_count;
};

struct books_entry {
    _Atomic uint64_t intent; /* units, whether they are taken, number */
    _Atomic uint64_t done;   /* units held, number */
    _Atomic uint64_t taken;  /* count, number */
    _Atomic uint64_t noted;  /* number */
};

struct books_account {
    alignas(64) _Atomic uint32_t is_closed; /* the server has given back all; no more changes */
    struct books_entry entries[BOOKS_CARD_MAX];
};

struct books {
    struct books_card cards[BOOKS_CARD_MAX];
    struct books_account accounts[BOOKS_ACCOUNT_MAX];
};

/* One account on one card. */
struct books_at {
    struct books *books; /* borrowed */
    uint32_t card, account;
};

/* Charge bytes, if no more than capacity_bytes are in use then; parts of a unit are rounded up.
 * Counts no refusal. */
bool books_take(const struct books_at *at, uint64_t bytes, uint64_t capacity_bytes);
void books_give(const struct books_at *at, uint64_t bytes);

uint64_t books_used_bytes(const struct books *books, uint32_t card);
uint64_t books_peak_bytes(const struct books *books, uint32_t card);

/* What the account holds, and how often it has taken, a change that its process was killed in the
 * middle of included. */
struct books_state {
    uint64_t held_bytes;
    uint64_t taken_count;
};
struct books_state books_state(const struct books_at *at);
/* The process has ended: nothing is held and nothing was taken. The card's sum stays. */
void books_reset(const struct books_at *at);

#endif
