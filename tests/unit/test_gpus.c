/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "base/size.h"
#include "check.h"
#include "gpus/gpus.h"

static void test_profile_is_found_by_its_name_in_any_case(void)
{
    struct gpu_profile card = { 0 };

    CHECK(gpu_profile_parse("rtx4070ti", &card, NULL) == 0);
    CHECK_EQ_U64(card.capacity_bytes, 12282 * MIB);
    CHECK_EQ_U64(card.context_bytes, 256 * MIB);
    CHECK(strcmp(card.product, "NVIDIA GeForce RTX 4070 Ti") == 0);
    CHECK(gpu_profile_parse("RTXPRO6000", &card, NULL) == 0);
    CHECK_EQ_U64(card.capacity_bytes, 97251 * MIB);
}

static void test_every_profile_is_sane_and_finds_itself(void)
{
    size_t count = 0;
    const struct gpu_profile *const all = gpu_profiles(&count);
    struct gpu_profile card = { 0 };

    CHECK(count >= 11);
    for (size_t i = 0; i < count; i++) {
        CHECK(gpu_profile_parse(all[i].name, &card, NULL) == 0);
        CHECK(memcmp(&card, &all[i], sizeof(card)) == 0);
        CHECK(card.context_bytes < card.capacity_bytes);
        CHECK(card.memory_gbps > card.pcie_gbps && card.pcie_gbps > 0);
    }
}

static void test_a_size_is_a_generic_card(void)
{
    struct gpu_profile card = { 0 };

    CHECK(gpu_profile_parse("6GiB", &card, NULL) == 0);
    CHECK_EQ_U64(card.capacity_bytes, 6 * GIB);
    CHECK(strcmp(card.name, "6GiB") == 0);
    CHECK(gpu_profile_parse("5.9GB", &card, NULL) == 0);
    CHECK_EQ_U64(card.capacity_bytes % (2 * MIB), 0);
}

static void test_bad_input_says_what_was_meant(void)
{
    static const char *const bad[] = { "", "gpu", "6", "1MiB", "99999GiB", "rtx", "h2000000" };
    struct gpu_profile card = { .capacity_bytes = 7 };
    struct error err = { 0 };

    CHECK(gpu_profile_parse("rtx4070to", &card, &err) == -EINVAL);
    CHECK(strstr(err.message, "did you mean rtx4070ti?"));
    CHECK(gpu_profile_parse("rtx407", &card, &err) == -EINVAL);
    CHECK(strstr(err.message, "did you mean rtx4070ti?"));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(gpu_profile_parse(bad[i], &card, NULL) < 0);
    CHECK_EQ_U64(card.capacity_bytes, 7);
}

TESTS(TEST(test_profile_is_found_by_its_name_in_any_case),
      TEST(test_every_profile_is_sane_and_finds_itself), TEST(test_a_size_is_a_generic_card),
      TEST(test_bad_input_says_what_was_meant))
