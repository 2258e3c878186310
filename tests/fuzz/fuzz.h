/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A fuzz target is one file with fuzz_one(), which gives bytes of a stranger to one of our doors
 * and states what must hold whatever they are. It is built twice: with libFuzzer (libfuzzer.c,
 * `make fuzz`), which looks for bytes that break it, and with replay.c, which gives it the
 * committed ones in corpus/TARGET as an ordinary test.
 *
 * A target leaves nothing behind for the next input.
 */

void fuzz_one(const uint8_t *bytes, size_t byte_count);

/* An input is eaten from its front; behind its end everything is 0. */
struct fuzz_input {
    const uint8_t *at; /* borrowed */
    size_t left;
};

static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

static inline uint16_t fuzz_u16(struct fuzz_input *input)
{
    const uint16_t high = fuzz_byte(input);

    return (uint16_t)(high << 8 | fuzz_byte(input));
}

/* Up to byte_count bytes. Returns how many there were. */
static inline size_t fuzz_some(struct fuzz_input *input, void *to, size_t byte_count)
{
    const size_t taken = input->left < byte_count ? input->left : byte_count;

    if (taken > 0)
        memcpy(to, input->at, taken);
    input->at += taken;
    input->left -= taken;
    return taken;
}

/* The same, and the rest of `to` is 0. */
static inline size_t fuzz_bytes(struct fuzz_input *input, void *to, size_t byte_count)
{
    memset(to, 0, byte_count);
    return fuzz_some(input, to, byte_count);
}

/* Bytes as a text that ends, on the heap and no longer than it is: a read past its end is seen. */
static inline char *fuzz_text(const uint8_t *bytes, size_t byte_count)
{
    char *text = malloc(byte_count + 1);

    if (!text)
        abort();
    if (byte_count > 0)
        memcpy(text, bytes, byte_count);
    text[byte_count] = '\0';
    return text;
}

static inline void fuzz_must(bool holds, const char *text, const char *file, int line)
{
    if (holds)
        return;
    (void)fprintf(stderr, "%s:%d: %s\n", file, line, text);
    abort();
}

#define FUZZ_MUST(condition) fuzz_must((condition), #condition, __FILE__, __LINE__)

#endif
