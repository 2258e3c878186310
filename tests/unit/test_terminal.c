/* SPDX-License-Identifier: Apache-2.0 */

#include <locale.h>

#include "check.h"
#include "cli/table.h"
#include "cli/terminal.h"

static const struct terminal utf8 = { .columns = 40, .is_utf8 = true };
static const struct terminal ascii = { .columns = 40, .is_utf8 = false };

static bool cleans(const struct terminal *terminal, const char *text, size_t columns,
                   const char *expected)
{
    char out[TERMINAL_TEXT_BYTES];

    (void)terminal_clean(terminal, text, columns, out);
    if (strcmp(out, expected) != 0)
        printf("# is %s, expected %s\n", out, expected);
    return strcmp(out, expected) == 0;
}

static void test_what_moves_a_terminal_is_shown_instead(void)
{
    CHECK(cleans(&utf8, "a\033[31mb", 0, "a\\x1b[31mb"));
    CHECK(cleans(&utf8, "a\r\n\tb\x7f", 0, "a\\x0d\\x0a\\x09b\\x7f"));
    CHECK(cleans(&utf8, "\xc2\x9b[2J", 0, "\\xc2\\x9b[2J"));        /* CSI of C1 */
    CHECK(cleans(&utf8, "x\xe2\x80\xaey", 0, "x\\xe2\\x80\\xaey")); /* right-to-left override */
    CHECK(cleans(&utf8, "bad \xff\xc0\xaf.", 0, "bad \\xff\\xc0\\xaf.")); /* not UTF-8 */
    CHECK(cleans(&utf8, "\xed\xa0\x80", 0, "\\xed\\xa0\\x80")); /* half of a surrogate pair */
}

static void test_letters_of_the_world_pass_where_they_can_be_shown(void)
{
    CHECK(cleans(&utf8, "caf\xc3\xa9 \xe6\x97\xa5", 0, "caf\xc3\xa9 \xe6\x97\xa5"));
    CHECK(cleans(&ascii, "caf\xc3\xa9 \xe6\x97\xa5", 0, "caf? ?"));
    CHECK(terminal_width("caf\xc3\xa9 \xe6\x97\xa5") == 7); /* the last is two columns wide */
}

static void test_long_text_is_cut_to_its_columns(void)
{
    CHECK(cleans(&utf8, "narrator", 8, "narrator"));
    CHECK(cleans(&utf8, "narrator", 7, "narrat\xe2\x80\xa6"));
    CHECK(cleans(&ascii, "narrator", 7, "narrat."));
    CHECK(cleans(&utf8, "\xe6\x97\xa5\xe6\x97\xa5\xe6\x97\xa5", 4, "\xe6\x97\xa5\xe2\x80\xa6"));
    static char huge[8192], out[TERMINAL_TEXT_BYTES];
    memset(huge, 1, sizeof(huge) - 1);
    CHECK(strlen(terminal_clean(&utf8, huge, 0, out)) < sizeof(out));
}

static void check_wrapped(unsigned indent, const char *text, const char *expected)
{
    char *out_text = NULL;
    size_t out_bytes = 0;
    FILE *const out = open_memstream(&out_text, &out_bytes);

    CHECK(out != NULL);
    terminal_wrap(&utf8, out, indent, text);
    CHECK(fclose(out) == 0);
    if (strcmp(out_text, expected) != 0)
        printf("# is:\n%s\n", out_text);
    CHECK(strcmp(out_text, expected) == 0);
    free(out_text);
}

static void test_text_wraps_at_spaces_and_keeps_its_lines(void)
{
    check_wrapped(0, "", "");
    check_wrapped(2, "one\n  two\nthree", "  one\n    two\n  three\n");
    check_wrapped(0, "the burst of \"second\" could never be served beside it",
                  "the burst of \"second\" could never be\nserved beside it\n");
    check_wrapped(4, "a-word-that-is-wider-than-the-whole-terminal-is-left-whole and more",
                  "    a-word-that-is-wider-than-the-whole-terminal-is-left-whole\n    and more\n");
    check_wrapped(0, "bell\007 rings", "bell\\x07 rings\n");
}

static void test_a_table_cuts_the_name_and_then_leaves_columns_out(void)
{
    static const struct table_column columns[] = {
        { "NAME", 'l', 8 }, { "HOLDS", 'r', 0 }, { "PRIORITY", 'l', 2 }, { "SINCE", 'r', 1 }
    };
    static const char *const cells[] = { "a-name-of-some-length", "5.20 GiB", "interactive",
                                         "3 m 20 s" };
    static const struct {
        unsigned columns;
        const char *head;
    } widths[] = { { 80, "  NAME                      HOLDS  PRIORITY        SINCE\n" },
                   { 50, "  NAME                HOLDS  PRIORITY        SINCE\n" },
                   { 40, "  NAME                HOLDS  PRIORITY\n" },
                   { 20, "  NAME         HOLDS\n" } };

    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        const struct terminal terminal = { .columns = widths[i].columns, .is_utf8 = true };
        struct table *table = NULL;
        char *text = NULL;
        size_t bytes = 0;
        FILE *const out = open_memstream(&text, &bytes);
        CHECK(out && table_new(&terminal, columns, 4, &table) == 0);
        CHECK(table_add(table, cells) == 0);
        table_print(table, out, 2);
        CHECK(fclose(out) == 0);
        if (strncmp(text, widths[i].head, strlen(widths[i].head)) != 0)
            printf("# at %u:\n%s", widths[i].columns, text);
        CHECK(strncmp(text, widths[i].head, strlen(widths[i].head)) == 0);
        table_free(table);
        free(text);
    }
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST(test_what_moves_a_terminal_is_shown_instead),
        TEST(test_letters_of_the_world_pass_where_they_can_be_shown),
        TEST(test_long_text_is_cut_to_its_columns),
        TEST(test_text_wraps_at_spaces_and_keeps_its_lines),
        TEST(test_a_table_cuts_the_name_and_then_leaves_columns_out),
    };

    /* Widths of characters come from the locale. */
    CHECK(setlocale(LC_CTYPE, "C.UTF-8") != NULL);
    return run_tests(cases, sizeof(cases) / sizeof(cases[0]));
}
