/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_EMULATED_H
#define TESTS_EMULATED_H

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A test that needs gpus starts itself again on emulated ones: emulated_become() at the start of
 * main(). Parts that must be processes of their own are children: emulated_spawn() runs this
 * program again with the name of a part.
 *
 * EMULATOR_PATH is the emulator that was built with the test.
 */

/* PROFILE:CAPACITY:CONTEXT:MAJOR:MINOR:SMS:LEAVE:PRODUCT: 1 GiB, of which a context takes 64 MiB.
 */
#define EMULATED_CARD          "--card=small:1073741824:67108864:8:9:4:-:Emulated GPU 1GiB"
#define EMULATED_CARD_BYTES    (UINT64_C(1) << 30)
#define EMULATED_CONTEXT_BYTES (UINT64_C(64) << 20)

/* Become the emulator, which runs this program again. Returns where it already does. */
static inline void emulated_become(char **argv, const char *const *options)
{
    char self[4096];
    char *arguments[32];
    size_t used = 0;
    const ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (getenv("TEST_IS_EMULATED"))
        return;
    if (length < 0 || setenv("TEST_IS_EMULATED", "1", 1) < 0)
        exit(EXIT_FAILURE);
    self[length] = '\0';
    arguments[used++] = strdup(EMULATOR_PATH);
    for (size_t i = 0; options[i] && used < 24; i++)
        arguments[used++] = strdup(options[i]);
    arguments[used++] = strdup("--");
    arguments[used++] = self;
    for (size_t i = 1; argv[i] && used < 31; i++)
        arguments[used++] = argv[i];
    arguments[used] = NULL;
    (void)execv(EMULATOR_PATH, arguments);
    perror(EMULATOR_PATH);
    exit(EXIT_FAILURE);
}

/* A part of this test in a process of its own; its standard input and output are pipes. */
struct emulated_child {
    pid_t pid;
    int in, out;
};

static inline struct emulated_child emulated_exec(const char *program, const char *argument)
{
    struct emulated_child child = { .pid = -1, .in = -1, .out = -1 };
    int in[2], out[2];

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        return child;
    (void)fflush(stdout);
    child.pid = fork();
    if (child.pid == 0) {
        (void)dup2(in[0], 0);
        (void)dup2(out[1], 1);
        (void)execl(program, program, argument, (char *)NULL);
        _exit(127);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    child.in = in[1];
    child.out = out[0];
    return child;
}

static inline struct emulated_child emulated_spawn(const char *part)
{
    return emulated_exec("/proc/self/exe", part);
}

/* Waits for the child's next byte: '\0' when it ended without one. */
static inline char emulated_hear(const struct emulated_child *child)
{
    char byte = '\0';

    return read(child->out, &byte, 1) == 1 ? byte : '\0';
}

/* From the child: a byte, then wait until the parent closes or kills. */
static inline void emulated_say_and_wait(char byte)
{
    if (write(1, &byte, 1) != 1)
        exit(EXIT_FAILURE);
    while (read(0, &byte, 1) > 0)
        continue;
}

/* Ends the child (0: by closing its input) and returns its wait status. */
static inline int emulated_end(struct emulated_child *child, int signal_number)
{
    int status = -1;

    (void)close(child->in);
    if (signal_number != 0)
        (void)kill(child->pid, signal_number);
    (void)waitpid(child->pid, &status, 0);
    (void)close(child->out);
    return status;
}

#endif
