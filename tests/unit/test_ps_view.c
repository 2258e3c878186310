/* SPDX-License-Identifier: Apache-2.0 */

#include <locale.h>
#include <unistd.h>

#include "check.h"
#include "cli/bar.h"
#include "cli/ps_view.h"

#define NOW_MS UINT64_C(1000000000)

/* Two holders (one with a burst, one over its claim), one in the queue, two foreign programs, one
 * of them with a name that would clear the screen. */
static const char busy_status[] =
    "{'version': '0.1.0', 'emulated': true, 'problem': null, 'gpus': [{"
    "'index': 0, 'uuid': 'GPU-1', 'name': 'NVIDIA GeForce RTX 4070 Ti',"
    "'capacity_bytes': 12878610432, 'used_bytes': 9000000000, 'reserve_bytes': 838860800,"
    "'charged_bytes': 7516192768, 'draining_bytes': 536870912, 'foreign_bytes': 1073741824,"
    "'free_bytes': 1073741824, 'facts_age_ms': 12, 'has_process_bytes': true,"
    "'managed_by_us': true, 'foreign': ["
    "{'pid': 4711, 'name': 'python3', 'bytes': 912680550},"
    "{'pid': 99, 'name': 'x\\u001b[2J\\u202ey', 'bytes': 161061274}]}],"
    "'leases': ["
    "{'id': 'l1', 'name': 'narrate-1', 'state': 'busy', 'priority': 'normal', 'gpus': [0],"
    " 'resident_bytes': 3221225472, 'burst_bytes': 2254857830, 'charge_bytes': 5476083302,"
    " 'overdraft_bytes': 0, 'pid': 4712, 'since_unix_ms': 999800000, 'waiting_for': null},"
    "{'id': 'l2', 'name': 'whisper', 'state': 'idle', 'priority': 'interactive', 'gpus': [0],"
    " 'resident_bytes': 1610612736, 'burst_bytes': 0, 'charge_bytes': 2040109466,"
    " 'overdraft_bytes': 429496730, 'pid': 4713, 'since_unix_ms': 999995000,"
    " 'waiting_for': null},"
    "{'id': 'l3', 'name': 'narrate-2', 'state': 'queued', 'priority': 'background', 'gpus': [],"
    " 'resident_bytes': 5905580032, 'burst_bytes': 2254857830, 'charge_bytes': 0, 'pid': 4714,"
    " 'since_unix_ms': 999988000,"
    " 'waiting_for': 'narrate-2 asks for 5.5 GiB, 1 GiB is free: narrate-1 holds 5.1 GiB and "
    "whisper 1.9 GiB'}]}";

static const char empty_status[] =
    "{'emulated': false, 'problem': 'the helper hangs', 'gpus': [{'index': 1,"
    "'name': 'H200', 'capacity_bytes': 150323855360, 'reserve_bytes': 838860800,"
    "'charged_bytes': 0, 'draining_bytes': 0, 'foreign_bytes': 0, 'free_bytes': 149484994560,"
    "'foreign': []}], 'leases': []}";

static char *render(const char *text, unsigned columns, bool is_utf8)
{
    const struct terminal terminal = { .columns = columns, .is_utf8 = is_utf8 };
    char *copy = strdup(text), *out_text = NULL;
    size_t out_bytes = 0;
    FILE *const out = open_memstream(&out_text, &out_bytes);

    for (char *at = copy; *at; at++)
        *at = *at == '\'' ? '"' : *at;
    json_t *const status = json_loads(copy, 0, NULL);
    CHECK(status && out);
    const struct ps_view view = {
        .terminal = &terminal,
        .out = out,
        .status = status,
        .now_unix_ms = NOW_MS,
        .has_daemon = true,
        .is_emulated = json_is_true(json_object_get(status, "emulated")),
        .emulated = "rtx4070ti",
        .has_gpus = true,
        .has_leases = true,
        .next_count = 1,
    };
    CHECK(ps_view_print(&view) == 0);
    CHECK(fclose(out) == 0);
    json_decref(status);
    free(copy);
    return out_text;
}

static void check_text(const char *actual, const char *expected)
{
    if (strcmp(actual, expected) == 0)
        return;
    fprintf(stderr, "---- is\n%s---- expected\n%s----\n", actual, expected);
    CHECK(!"the text is as expected");
}

static void test_a_busy_gpu_at_80_columns(void)
{
    char *const text = render(busy_status, 80, true);

    check_text(text,
               "EMULATED  rtx4070ti\n"
               "gpu 0  NVIDIA GeForce RTX 4070 Ti  11.99 GiB\n"
               "  [███████████████████████████████████████████▒▒▒▚▚▚▚▚▚░░░░░▓▓▓▓▓▓▓▓▓▓▓······]\n"
               "  █ held 7.00 GiB  ▒ draining 512 MiB  ▚ foreign 1.00 GiB  ░ reserve 800 MiB\n"
               "  ▓ kept for bursts 1.71 GiB  · free 1.00 GiB\n"
               "\n"
               "  NAME       STATE     HOLDS     BURST  PRIORITY      PID     SINCE\n"
               "  narrate-1  busy   5.10 GiB  2.10 GiB  normal       4712  3 m 20 s\n"
               "  whisper    idle   1.90 GiB         -  interactive  4713     5.0 s\n"
               "  ! whisper holds 410 MiB more than its claim\n"
               "\n"
               "  FOREIGN                 PID    HOLDS\n"
               "  python3                4711  870 MiB\n"
               "  x\\x1b[2J\\xe2\\x80\\xaey    99  154 MiB\n"
               "\n"
               "  WAITS          ASKS     BURST  PRIORITY     PID   SINCE\n"
               "  narrate-2  5.50 GiB  2.10 GiB  background  4714  12.0 s\n"
               "    narrate-2 asks for 5.5 GiB, 1 GiB is free: narrate-1 holds 5.1 GiB and\n"
               "    whisper 1.9 GiB\n"
               "\n"
               "next: brim why narrate-2                   what it waits for, and what to do\n");
    free(text);
}

static void test_a_busy_gpu_at_120_columns_without_utf8(void)
{
    char *const text = render(busy_status, 120, false);

    check_text(
        text,
        "EMULATED  rtx4070ti\n"
        "gpu 0  NVIDIA GeForce RTX 4070 Ti  11.99 GiB\n"
        "  [###################################################################~~~~~xxxxxxxxxx=======++++++++++++++++.........]\n"
        "  # held 7.00 GiB  ~ draining 512 MiB  x foreign 1.00 GiB  = reserve 800 MiB  + kept for bursts 1.71 GiB\n"
        "  . free 1.00 GiB\n"
        "\n"
        "  NAME       STATE     HOLDS     BURST  PRIORITY      PID     SINCE\n"
        "  narrate-1  busy   5.10 GiB  2.10 GiB  normal       4712  3 m 20 s\n"
        "  whisper    idle   1.90 GiB         -  interactive  4713     5.0 s\n"
        "  ! whisper holds 410 MiB more than its claim\n"
        "\n"
        "  FOREIGN                 PID    HOLDS\n"
        "  python3                4711  870 MiB\n"
        "  x\\x1b[2J\\xe2\\x80\\xaey    99  154 MiB\n"
        "\n"
        "  WAITS          ASKS     BURST  PRIORITY     PID   SINCE\n"
        "  narrate-2  5.50 GiB  2.10 GiB  background  4714  12.0 s\n"
        "    narrate-2 asks for 5.5 GiB, 1 GiB is free: narrate-1 holds 5.1 GiB and whisper 1.9 GiB\n"
        "\n"
        "next: brim why narrate-2                   what it waits for, and what to do\n");
    free(text);
}

static void test_an_empty_gpu_says_what_to_do(void)
{
    char *const text = render(empty_status, 80, true);

    check_text(text,
               "! the helper hangs\n"
               "gpu 1  H200  140.00 GiB\n"
               "  [░·········································································]\n"
               "  ░ reserve 800 MiB  · free 139.22 GiB\n"
               "\n"
               "  nobody holds a lease here\n"
               "\n"
               "next: brim run --vram 139.2GiB -- COMMAND  put a program under a lease\n");
    free(text);
}

static void test_batches_that_run_are_shown(void)
{
    const struct terminal terminal = { .columns = 80, .is_utf8 = true };
    char *text = NULL;
    size_t bytes = 0;
    FILE *const out = open_memstream(&text, &bytes);
    json_t *const batches =
        json_pack("[{s:s, s:i, s:i, s:i, s:i}]", "name", "narrate", "pid", 77, "segments_done", 4,
                  "segments_total", 604, "segments_failed", 1);
    const struct ps_view view = { .terminal = &terminal, .out = out, .batches = batches };

    CHECK(ps_view_print_batches(&view) == 0 && fclose(out) == 0);
    check_text(text, "\n"
                     "  BATCH    DONE   OF  SET ASIDE  PID\n"
                     "  narrate     4  604          1   77\n");
    json_decref(batches);
    free(text);
}

static void test_no_line_is_wider_than_the_terminal(void)
{
    for (unsigned columns = 60; columns <= 200; columns += 7) {
        char *const text = render(busy_status, columns, true);
        char *rest = text;
        for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n"))
            CHECK(strncmp(line, "next:", 5) == 0 || terminal_width(line) <= columns);
        free(text);
    }
}

static void test_the_bar_gives_every_part_a_cell_and_no_more_than_there_are(void)
{
    struct bar_part parts[] = { { .bytes = 1 },
                                { .bytes = UINT64_C(1) << 40 },
                                { .bytes = 0 },
                                { .bytes = 3 },
                                { .bytes = UINT64_C(1) << 39 } };
    unsigned cells[5] = { 0 };

    for (unsigned width = 4; width < 200; width++) {
        unsigned sum = 0;
        bar_share(parts, 5, width, cells);
        for (size_t i = 0; i < 5; i++) {
            CHECK((cells[i] == 0) == (parts[i].bytes == 0));
            sum += cells[i];
        }
        CHECK_EQ_U64(sum, width);
    }
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST(test_a_busy_gpu_at_80_columns),
        TEST(test_a_busy_gpu_at_120_columns_without_utf8),
        TEST(test_an_empty_gpu_says_what_to_do),
        TEST(test_batches_that_run_are_shown),
        TEST(test_no_line_is_wider_than_the_terminal),
        TEST(test_the_bar_gives_every_part_a_cell_and_no_more_than_there_are),
    };

    /* Widths of characters come from the locale. */
    CHECK(setlocale(LC_CTYPE, "C.UTF-8") != NULL);
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
