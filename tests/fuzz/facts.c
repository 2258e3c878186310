/* SPDX-License-Identifier: Apache-2.0 */

/*
 * JSON that `brim ps` shows: a daemon's status, of whatever version ('{' begins it), or the
 * answer of brim-helper (any byte before it). Whatever its members are, the terminal gets no
 * control character.
 */

#include "cli/facts.h"

#include "cli/ps_view.h"
#include "fuzz.h"

static void check_shown(const json_t *status, bool has_daemon)
{
    const struct terminal terminal = { .columns = 80, .is_utf8 = true };
    char *text = NULL;
    size_t text_bytes = 0;
    FILE *const out = open_memstream(&text, &text_bytes);
    const struct ps_view view = { .terminal = &terminal,
                                  .out = out,
                                  .status = status,
                                  .now_unix_ms = UINT64_C(1700000000000),
                                  .has_daemon = has_daemon,
                                  .has_gpus = true,
                                  .has_leases = true };

    FUZZ_MUST(out);
    (void)ps_view_print(&view);
    ps_view_print_names(&view);
    FUZZ_MUST(fclose(out) == 0);
    for (size_t i = 0; i < text_bytes; i++)
        FUZZ_MUST((unsigned char)text[i] >= 0x20 || text[i] == '\n');
    free(text);
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    const bool is_status = byte_count > 0 && bytes[0] == '{';
    const size_t skipped = is_status || byte_count == 0 ? 0 : 1;
    json_t *const json = json_loadb((const char *)bytes + skipped, byte_count - skipped, 0, NULL);
    json_t *status = NULL;
    struct error err = { 0 };

    if (json && is_status)
        check_shown(json, true);
    else if (json && facts_to_status(json, &status, &err) == 0)
        check_shown(status, false);
    json_decref(status);
    json_decref(json);
}
