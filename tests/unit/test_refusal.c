/* SPDX-License-Identifier: Apache-2.0 */

/* What a person reads. */

#include "budget_kit.h"

static void check_text(const struct refusal *refusal, const char *expected)
{
    char text[1280];

    if (strcmp(refusal_text(refusal, "gpu 0 (RTX 4070 Ti)", text, sizeof(text)), expected) == 0)
        return;
    printf("# got:\n%s\n# expected:\n%s\n", text, expected);
    CHECK(!"the text is as expected");
}

static void test_no_room_names_the_holder_what_is_free_and_the_way_out(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("first", 9556302234, 0);
    struct refusal refusal;
    char line[160];

    kit_grant(budget, &claim, 0);
    claim = kit_claim("second", 9556302234, 0);
    refusal = kit_refused(budget, &claim, 0);
    check_text(&refusal,
               "no room for \"second\" on gpu 0 (RTX 4070 Ti): asked 8.90 GiB, free 2.31 GiB\n"
               "  held: first 8.90 GiB (loading)\n"
               "  reserve 800 MiB, foreign 0, capacity 11.99 GiB\n"
               "  wait with --max-wait 10m, or ask for at most 2.31 GiB");
    CHECK(strcmp(refusal_line(&refusal, line, sizeof(line)),
                 "no room for \"second\" on gpu 0: asked 8.90 GiB, free 2.31 GiB") == 0);
    budget_free(budget);
}

static void test_a_machine_without_a_gpu_is_not_asked_which(void)
{
    struct budget *budget = kit_budget(0);
    struct claim claim = kit_claim("true", GIB, 0);
    struct refusal refusal;

    claim.parts[0].gpu = CLAIM_GPU_ANY;
    refusal = kit_refused(budget, &claim, 0);
    CHECK_EQ_U64(refusal.kind, REFUSAL_NO_GPU);
    check_text(&refusal, "no gpu for \"true\": there is none here");
    budget_free(budget);
}

static void test_never_fits_says_by_how_much_and_what_the_card_could_give(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("true", 13 * GIB, 0);
    struct refusal refusal = kit_refused(budget, &claim, 0);

    check_text(&refusal, "\"true\" can never fit on gpu 0 (RTX 4070 Ti): asked 13.00 GiB, at most "
                         "11.21 GiB can be given, 1.79 GiB too much\n"
                         "  reserve 800 MiB, foreign 0, capacity 11.99 GiB\n"
                         "  ask for at most 11.21 GiB with the burst, or take a larger gpu");
    budget_free(budget);
}

static void test_no_progress_names_the_burst_that_could_never_be_served(void)
{
    struct budget *budget = kit_budget(1);
    struct claim claim = kit_claim("first", 5200000000, 2100000000);
    struct refusal refusal;

    kit_idle(budget, &claim, 0);
    claim = kit_claim("second", 5200000000, 1000000000);
    refusal = kit_refused(budget, &claim, 0);
    check_text(&refusal, "no room for \"second\" on gpu 0 (RTX 4070 Ti): the burst of \"first\" "
                         "(1.96 GiB) could never be served beside it, 439 MiB short\n"
                         "  held: first 4.84 GiB + burst 1.96 GiB (idle)\n"
                         "  reserve 800 MiB, foreign 0, capacity 11.99 GiB\n"
                         "  wait with --max-wait 10m, or ask for at most 4.41 GiB and a smaller "
                         "burst");
    budget_free(budget);
}

static void test_every_kind_has_a_text_that_names_who_asked(void)
{
    for (int kind = REFUSAL_NEVER_FITS; kind <= REFUSAL_CANCELLED; kind++) {
        struct refusal refusal = { .kind = (enum refusal_kind)kind, .name = "asker" };
        char text[1280], line[160];

        CHECK(strstr(refusal_text(&refusal, NULL, text, sizeof(text)), "\"asker\""));
        CHECK(strstr(refusal_line(&refusal, line, sizeof(line)), "\"asker\""));
        CHECK(!strchr(line, '\n'));
    }
}

static void test_a_text_that_does_not_fit_is_cut_and_terminated(void)
{
    struct refusal refusal = { .kind = REFUSAL_NO_ROOM, .name = "a", .capacity_bytes = GIB };
    char whole[1280], text[1280];

    (void)refusal_text(&refusal, "name", whole, sizeof(whole));
    for (size_t bytes = 1; bytes <= strlen(whole) + 1; bytes++) {
        memset(text, 'x', sizeof(text));
        (void)refusal_text(&refusal, "name", text, bytes);
        CHECK_EQ_U64(strlen(text), bytes - 1);
        CHECK(text[bytes] == 'x');
        CHECK(strncmp(text, whole, bytes - 1) == 0);
    }
}

static void test_only_the_largest_holders_are_listed_largest_first(void)
{
    struct budget *budget = kit_budget(1);
    struct refusal refusal;

    for (uint64_t i = 0; i < 10; i++) {
        struct claim claim = kit_claim("holder", (1 + (i * 7) % 10) * 64 * MIB, 0);

        kit_grant(budget, &claim, 0);
    }
    refusal =
        kit_refused(budget,
                    &(struct claim){
                        .name = "x", .part_count = 1, .parts = { { .resident_bytes = 10 * GIB } } },
                    0);
    CHECK_EQ_U64(refusal.holder_count, 10);
    for (uint64_t i = 0; i < REFUSAL_HOLDER_MAX; i++)
        CHECK_EQ_U64(refusal.holders[i].charge_bytes, (10 - i) * 64 * MIB);
    budget_free(budget);
}

TESTS(TEST(test_no_room_names_the_holder_what_is_free_and_the_way_out),
      TEST(test_a_machine_without_a_gpu_is_not_asked_which),
      TEST(test_never_fits_says_by_how_much_and_what_the_card_could_give),
      TEST(test_no_progress_names_the_burst_that_could_never_be_served),
      TEST(test_every_kind_has_a_text_that_names_who_asked),
      TEST(test_a_text_that_does_not_fit_is_cut_and_terminated),
      TEST(test_only_the_largest_holders_are_listed_largest_first))
