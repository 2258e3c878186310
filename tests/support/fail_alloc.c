/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A library to preload: the n-th allocation of a program's own code (not of its libraries) fails.
 *
 *   FAIL_PROGRAM=brimd FAIL_ALLOC=n LD_PRELOAD=…/libfail_alloc.so brimd
 *
 * Only in the program of that name; when it happens "this allocation fails" is written to standard
 * error. What the C library allocates for it inside of asprintf() and the like is not counted.
 */

#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* NOLINTBEGIN(bugprone-reserved-identifier,readability-*): the names are the C library's */

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);

static uintptr_t own_first, own_end; /* the program's addresses; both 0: nothing fails */
static _Atomic long left;

static int find_program(struct dl_phdr_info *info, size_t info_bytes, void *user)
{
    (void)info_bytes;
    (void)user;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const uintptr_t first = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type != PT_LOAD || (info->dlpi_phdr[i].p_flags & PF_X) == 0)
            continue;
        own_first = first;
        own_end = first + info->dlpi_phdr[i].p_memsz;
    }
    return 1; /* the first object is the program */
}

__attribute__((constructor)) static void prepare(void)
{
    const char *program = getenv("FAIL_PROGRAM"), *number = getenv("FAIL_ALLOC");

    if (!program || !number || strcmp(program, program_invocation_short_name) != 0)
        return;
    atomic_store(&left, strtol(number, NULL, 10));
    (void)dl_iterate_phdr(find_program, NULL);
}

static int must_fail(const void *caller)
{
    static const char text[] = "this allocation fails\n";
    const uintptr_t at = (uintptr_t)caller;

    if (at < own_first || at >= own_end || atomic_fetch_sub(&left, 1) != 1)
        return 0;
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    errno = ENOMEM;
    return 1;
}

EXPORT void *malloc(size_t bytes)
{
    return must_fail(__builtin_return_address(0)) ? NULL : __libc_malloc(bytes);
}

EXPORT void *calloc(size_t count, size_t bytes)
{
    return must_fail(__builtin_return_address(0)) ? NULL : __libc_calloc(count, bytes);
}

EXPORT void *realloc(void *block, size_t bytes)
{
    return must_fail(__builtin_return_address(0)) ? NULL : __libc_realloc(block, bytes);
}

EXPORT void *reallocarray(void *block, size_t count, size_t bytes)
{
    if (must_fail(__builtin_return_address(0)))
        return NULL;
    if (bytes != 0 && count > SIZE_MAX / bytes) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(block, count * bytes);
}

EXPORT char *strndup(const char *text, size_t limit_bytes)
{
    const size_t bytes = strnlen(text, limit_bytes);
    char *copy = must_fail(__builtin_return_address(0)) ? NULL : __libc_malloc(bytes + 1);

    if (copy) {
        memcpy(copy, text, bytes);
        copy[bytes] = '\0';
    }
    return copy;
}

EXPORT char *strdup(const char *text)
{
    const size_t bytes = strlen(text) + 1;
    char *copy = must_fail(__builtin_return_address(0)) ? NULL : __libc_malloc(bytes);

    return copy ? memcpy(copy, text, bytes) : NULL;
}

/* NOLINTEND(bugprone-reserved-identifier,readability-*) */
