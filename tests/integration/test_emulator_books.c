/* SPDX-License-Identifier: Apache-2.0 */

/* The emulator's books of what is in use: exact whoever is killed where. */

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "books.h"
#include "check.h"

#define UNIT     BOOKS_UNIT_BYTES
#define CAPACITY (1000 * UNIT)

static struct books *books_new(void)
{
    void *const books =
        mmap(NULL, sizeof(struct books), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(books != MAP_FAILED);
    return books;
}

static void test_what_is_taken_is_in_use_until_it_is_given(void)
{
    struct books *const books = books_new();
    const struct books_at a = { books, 3, 1 }, b = { books, 3, 2047 };

    CHECK(books_take(&a, 600 * UNIT, CAPACITY));
    CHECK(!books_take(&b, 401 * UNIT, CAPACITY));
    CHECK(books_take(&b, 400 * UNIT - 1, CAPACITY)); /* parts count as whole ones */
    CHECK(!books_take(&a, 1, CAPACITY));
    CHECK_EQ_U64(books_used_bytes(books, 3), CAPACITY);
    CHECK_EQ_U64(books_used_bytes(books, 2), 0);
    books_give(&a, 500 * UNIT);
    CHECK(!books_take(&a, UINT64_MAX, CAPACITY));
    CHECK_EQ_U64(books_used_bytes(books, 3), 500 * UNIT);
    CHECK_EQ_U64(books_peak_bytes(books, 3), CAPACITY);
    CHECK_EQ_U64(books_state(&a).held_bytes, 100 * UNIT);
    CHECK_EQ_U64(books_state(&b).held_bytes, 400 * UNIT);
    CHECK_EQ_U64(books_state(&a).taken_count, 1);
    books_reset(&a);
    CHECK_EQ_U64(books_state(&a).held_bytes, 0);
    CHECK_EQ_U64(books_state(&a).taken_count, 0);
    CHECK(munmap(books, sizeof(*books)) == 0);
}

/* ---- killed after each instruction ---- */

#define OTHER_UNITS 300
#define FIRST_UNITS 40

/* Books in which two accounts hold something, so that every mark has been one's and the other's. */
static void prepare(struct books *books)
{
    const struct books_at first = { books, 0, 1 }, other = { books, 0, 2 };

    CHECK(books_take(&first, FIRST_UNITS * UNIT, CAPACITY));
    CHECK(books_take(&other, OTHER_UNITS * UNIT, CAPACITY));
}

static _Noreturn void run_traced(struct books *books)
{
    const struct books_at first = { books, 0, 1 };

    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(3);
    (void)raise(SIGSTOP);
    (void)books_take(&first, 7 * UNIT, CAPACITY);
    books_give(&first, 11 * UNIT);
    (void)books_take(&first, CAPACITY, CAPACITY); /* refused */
    (void)books_take(&first, 5 * UNIT, CAPACITY);
    _exit(0);
}

/* Nobody writes: a copy is what a killed process would leave. */
static void copy_books(struct books *to, const struct books *from)
{
    to->cards[0] = from->cards[0];
    for (int i = 0; i < 3; i++)
        to->accounts[i].entries[0] = from->accounts[i].entries[0];
}

/* The process was killed here: what it held is exact now, stays so when another one goes on, and
 * comes back in full. Returns it, in units. */
static uint64_t settle_killed(struct books *books)
{
    const struct books_at first = { books, 0, 1 }, other = { books, 0, 2 };
    const struct books_at server = { books, 0, BOOKS_SERVER };
    const uint64_t used_bytes = books_used_bytes(books, 0);
    const struct books_state state = books_state(&first);

    CHECK_EQ_U64(state.held_bytes, used_bytes - OTHER_UNITS * UNIT);
    CHECK(books_take(&other, UNIT, CAPACITY));
    books_give(&other, UNIT);
    CHECK_EQ_U64(books_state(&first).held_bytes, state.held_bytes);
    CHECK_EQ_U64(books_state(&first).taken_count, state.taken_count);
    books_give(&server, state.held_bytes);
    books_reset(&first);
    CHECK_EQ_U64(books_used_bytes(books, 0), OTHER_UNITS * UNIT);
    CHECK_EQ_U64(books_state(&other).held_bytes, OTHER_UNITS * UNIT);
    CHECK(books_take(&first, UNIT, CAPACITY)); /* its next owner */
    CHECK_EQ_U64(books_state(&first).held_bytes, UNIT);
    CHECK_EQ_U64(books_state(&first).taken_count, 1);
    return state.taken_count * 10000 + state.held_bytes / UNIT;
}

/* Each step leaves the count and the units as they were, or makes the next change whole. */
static void test_a_process_may_be_killed_after_any_instruction(void)
{
    static const uint64_t whole[] = { 10040, 20047, 20036, 30041 };
    struct books *const books = books_new(), *const copy = books_new();
    int status = 0, steps = 0;
    size_t at = 0;

    prepare(books);
    (void)fflush(stdout);
    const pid_t child = fork();
    if (child == 0)
        run_traced(books);
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status)) {
        printf("# no ptrace here: not shown\n");
        return;
    }
    while (WIFSTOPPED(status)) {
        copy_books(copy, books);
        const uint64_t now = settle_killed(copy);
        if (now != whole[at])
            CHECK(at + 1 < sizeof(whole) / sizeof(whole[0]) && now == whole[++at]);
        CHECK(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
        CHECK(waitpid(child, &status, 0) == child);
        steps++;
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(at == 3 && steps > 100);
    printf("# killed at %d places\n", steps);
    CHECK(munmap(books, sizeof(*books)) == 0 && munmap(copy, sizeof(*copy)) == 0);
}

/* ---- many at once, killed at any time ---- */

#define WORKERS 4
#define KILLS   100

/* Never ends by itself. Full half of the time. */
static _Noreturn void hammer(struct books *books, uint32_t account, uint64_t seed)
{
    const struct books_at at = { books, 0, account };
    uint64_t held = 0;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        const uint64_t units = 1 + seed % 400;
        if (held >= units && seed >> 60 < 8) {
            books_give(&at, units * UNIT);
            held -= units;
        } else if (books_take(&at, units * UNIT, CAPACITY)) {
            held += units;
        }
        if (books_used_bytes(books, 0) > CAPACITY)
            _exit(1);
    }
}

static void end_worker(struct books *books, pid_t pid, uint32_t account)
{
    const struct books_at at = { books, 0, account }, server = { books, 0, BOOKS_SERVER };
    int status = 0;

    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    books_give(&server, books_state(&at).held_bytes);
    books_reset(&at);
}

static void test_many_are_killed_and_nothing_is_lost(void)
{
    struct books *const books = books_new();
    pid_t pids[WORKERS] = { 0 };
    uint64_t taken_count = 0;

    (void)fflush(stdout);
    for (uint64_t i = 0; i < WORKERS + KILLS; i++) {
        const uint32_t account = 1 + (uint32_t)(i % WORKERS);
        if (i >= WORKERS) {
            const struct books_at at = { books, 0, account };
            while (i % 2 == 0 && books_state(&at).taken_count == 0)
                (void)poll(NULL, 0, 1);
            taken_count += books_state(&at).taken_count;
            end_worker(books, pids[account - 1], account);
        }
        if (i < KILLS)
            pids[account - 1] = fork();
        if (i < KILLS && pids[account - 1] == 0)
            hammer(books, account, 1000 + i);
    }
    CHECK_EQ_U64(books_used_bytes(books, 0), 0);
    CHECK(books_peak_bytes(books, 0) <= CAPACITY && taken_count >= KILLS / 2);
    CHECK(munmap(books, sizeof(*books)) == 0);
}

TESTS(TEST(test_what_is_taken_is_in_use_until_it_is_given),
      TEST(test_a_process_may_be_killed_after_any_instruction),
      TEST(test_many_are_killed_and_nothing_is_lost))
