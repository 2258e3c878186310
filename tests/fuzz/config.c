/* SPDX-License-Identifier: Apache-2.0 */

/*
 * brim.yaml from memory. It is a stack whose names and paths are safe, or an error with a place.
 */

#include "config/config.h"

#include "fuzz.h"

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    char *const text = fuzz_text(bytes, byte_count);
    struct stack stack = { 0 };
    struct error err = { 0 };

    if (config_parse(text, byte_count, "brim.yaml", "/tmp", &stack, &err) < 0) {
        FUZZ_MUST(err.message[0] != '\0' && !strchr(err.message, '\n'));
    } else {
        for (size_t i = 0; i < stack.batch_count; i++) {
            FUZZ_MUST(stack.batches[i].name && !strchr(stack.batches[i].name, '/'));
            FUZZ_MUST(stack.batches[i].command && stack.batches[i].command[0]);
            FUZZ_MUST(stack.batches[i].dir && stack.batches[i].dir[0] == '/');
        }
        stack_deinit(&stack);
    }
    free(text);
}
