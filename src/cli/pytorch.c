/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/pytorch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define ALLOCATOR        "expandable_segments:True"
#define SCRIPT_MAX_BYTES ((size_t)1 << 20) /* of a script, so much is read */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Two names for one setting: PyTorch before 2.9 knows the first, later ones prefer the second. */
static const char *const allocator_names[] = { "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF" };

/* An engine that moves its memory itself, and the option that makes it do so. */
static const struct {
    const char *engine;
    const char *option;
} refusing[] = {
    { "vllm", "--enable-sleep-mode" },
    { "sglang", "--enable-memory-saver" },
};

/* The same in a script: a pool of its own, or one of these engines made by hand. */
static const char *const refusing_words[] = {
    "MemPool",
    "torch_memory_saver",
    "enable_sleep_mode",
    "enable_memory_saver",
};

/* "--enable-sleep-mode", also with underscores, and with "=true" behind it. */
static bool is_option(const char *word, const char *option)
{
    for (; *option; word++, option++) {
        if (*word != *option && !(*word == '_' && *option == '-'))
            return false;
    }
    return *word == '\0' || *word == '=';
}

static const char *refusing_option(char *const *command)
{
    for (size_t i = 0; i < COUNT(refusing); i++) {
        bool has_engine = false, has_option = false;
        for (char *const *word = command; *word; word++) {
            has_engine = has_engine || strstr(*word, refusing[i].engine);
            has_option = has_option || is_option(*word, refusing[i].option);
        }
        if (has_engine && has_option)
            return refusing[i].option;
    }
    return NULL;
}

/* The first word of the command that names a Python file; NULL: none. */
static const char *find_script(char *const *command)
{
    for (; *command; command++) {
        const size_t length = strlen(*command);
        if (length > 3 && strcmp(*command + length - 3, ".py") == 0)
            return *command;
    }
    return NULL;
}

/* What the script says by which it refuses the setting; NULL where it does not, or cannot be read,
 * which is for Python to say. */
static const char *refusing_word(const char *script)
{
    OWNED(fd_close) int fd = script ? open(script, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    const char *found = NULL;
    size_t text_bytes = 0;

    if (fd < 0)
        return NULL;
    char *const text = malloc(SCRIPT_MAX_BYTES);
    if (!text)
        return NULL;
    for (ssize_t got = 1; got > 0 && text_bytes < SCRIPT_MAX_BYTES; text_bytes += (size_t)got) {
        got = read(fd, text + text_bytes, SCRIPT_MAX_BYTES - text_bytes);
        if (got < 0)
            break;
    }
    for (size_t i = 0; i < COUNT(refusing_words) && !found; i++) {
        if (memmem(text, text_bytes, refusing_words[i], strlen(refusing_words[i])))
            found = refusing_words[i];
    }
    free(text);
    return found;
}

static bool may_be_checkpointed(void)
{
    const char *const park = getenv("BRIM_PARK");

    return park && strcmp(park, "checkpoint") == 0;
}

/* Whether the setting is to be left alone; says why. */
static bool is_left_alone(char *const *command)
{
    static const char left_off[] = "brim run: PyTorch's expandable segments are left off";

    for (size_t i = 0; i < COUNT(allocator_names); i++) {
        const char *const value = getenv(allocator_names[i]);
        if (value) {
            fprintf(stderr, "brim run: %s=%s is yours and stays as it is\n", allocator_names[i],
                    value);
            return true;
        }
    }
    if (may_be_checkpointed()) {
        fprintf(stderr, "%s: a checkpoint may not take them along (BRIM_PARK=checkpoint)\n",
                left_off);
        return true;
    }
    const char *const option = refusing_option(command);
    if (option) {
        fprintf(stderr, "%s: %s refuses them\n", left_off, option);
        return true;
    }
    const char *const script = find_script(command);
    const char *const word = refusing_word(script);
    if (word)
        fprintf(stderr, "%s: %s uses %s, which may refuse them\n", left_off, script, word);
    return word != NULL;
}

int pytorch_set_allocator(char *const *command)
{
    if (is_left_alone(command))
        return 0;
    for (size_t i = 0; i < COUNT(allocator_names); i++) {
        if (setenv(allocator_names[i], ALLOCATOR, 1) < 0)
            return -errno;
    }
    return 0;
}
