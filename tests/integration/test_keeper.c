/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "keeper/child.h"
#include "keeper/journal.h"

static char *const environment[] = { (char[]){ "PATH=/usr/bin:/bin" }, (char[]){ "COLOUR=blue" },
                                     NULL };

static struct keeper_command shell(char *script, int stdout_fd)
{
    static char name[] = "sh", option[] = "-c";
    static char *arguments[4];

    arguments[0] = name;
    arguments[1] = option;
    arguments[2] = script;
    return (struct keeper_command){
        .argv = arguments,
        .env = environment,
        .dir = "/",
        .stdin_fd = -1,
        .stdout_fd = stdout_fd,
        .stderr_fd = -1,
        .extra_fd = -1,
    };
}

static int wait_for_end(struct keeper_child *child)
{
    struct pollfd watch = { .fd = child->pidfd, .events = POLLIN };
    int status = -1;

    CHECK(poll(&watch, 1, 30000) == 1);
    CHECK(keeper_reap(child, &status) == 1);
    CHECK(child->pid == 0 && child->pidfd == -1);
    return status;
}

/* All that the script writes until nobody holds the pipe any more. */
static const char *output_of(char *script)
{
    static char text[4096];
    struct keeper_child child;
    size_t used = 0;
    ssize_t got = 0;
    int ends[2];

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    const struct keeper_command command = shell(script, ends[1]);
    CHECK(keeper_spawn(&command, &child, NULL) == 0);
    (void)close(ends[1]);
    while ((got = read(ends[0], text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)got;
    (void)close(ends[0]);
    text[used] = '\0';
    CHECK(wait_for_end(&child) == 0);
    return text;
}

static void test_a_child_has_what_it_was_given_and_nothing_else(void)
{
    char descriptors[] = "ls /proc/self/fd | tr '\\n' ' '";
    char surroundings[] = "pwd; echo $COLOUR $HOME; read x || echo empty";
    const int stray = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);

    /* 3 is ls's own, for the directory. */
    CHECK(strcmp(output_of(descriptors), "0 1 2 3 ") == 0);
    CHECK(strcmp(output_of(surroundings), "/\nblue\nempty\n") == 0);
    (void)close(stray);
}

/* 32 and 33 are the C library's own: it lets nobody change them, and GNU make hands them on
 * ignored. */
#define LIBC_SIGNALS (UINT64_C(3) << 31)

static void test_signals_begin_as_they_are_by_default(void)
{
    char script[] = "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\n\\t'";
    sigset_t all, before;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, &before) == 0);
    const char *const text = output_of(script);
    const char *const ignored = strstr(text, "SigIgn:");
    CHECK(strncmp(text, "SigBlk:0000000000000000", 23) == 0 && ignored);
    CHECK_EQ_U64(strtoull(ignored + 7, NULL, 16) & ~LIBC_SIGNALS, 0);
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
}

static void test_the_extra_descriptor_has_its_number_whatever_ours_is(void)
{
    for (int spare = 0; spare < 4; spare++) {
        char script[] = "echo through >&3";
        char text[16] = "";
        struct keeper_child child;
        int ends[2], spares[4];

        for (int i = 0; i < spare; i++)
            spares[i] = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
        CHECK(pipe2(ends, O_CLOEXEC) == 0);
        struct keeper_command command = shell(script, -1);
        command.extra_fd = ends[1];
        CHECK(keeper_spawn(&command, &child, NULL) == 0);
        (void)close(ends[1]);
        CHECK(read(ends[0], text, sizeof(text)) == 8 && strcmp(text, "through\n") == 0);
        CHECK(wait_for_end(&child) == 0);
        (void)close(ends[0]);
        for (int i = 0; i < spare; i++)
            (void)close(spares[i]);
    }
}

static void test_what_cannot_be_run_is_an_error_and_no_child(void)
{
    char missing[] = "no-such-program-anywhere", directory[] = "/tmp";
    char *arguments[] = { missing, NULL };
    struct keeper_child child = { .pid = 77 };
    struct error err = { 0 };
    struct keeper_command command = shell(missing, -1);

    command.argv = arguments;
    CHECK(keeper_spawn(&command, &child, &err) == -ENOENT);
    CHECK(strstr(err.message, "'no-such-program-anywhere': there is no such program") != NULL);
    arguments[0] = directory;
    CHECK(keeper_spawn(&command, &child, &err) == -EACCES);
    command = shell(missing, -1);
    command.dir = "/no/such/directory";
    CHECK(keeper_spawn(&command, &child, &err) == -ENOENT);
    CHECK(strstr(err.message, "/no/such/directory") != NULL);
    CHECK(child.pid == 77);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

static void test_a_signal_reaches_the_whole_group(void)
{
    char script[] = "cat /dev/zero >/dev/null & echo started; wait";
    char text[KEEPER_STATUS_BYTES], word[16] = "";
    struct keeper_child child;
    int ends[2];

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    const struct keeper_command command = shell(script, ends[1]);
    CHECK(keeper_spawn(&command, &child, NULL) == 0);
    (void)close(ends[1]);
    CHECK(read(ends[0], word, sizeof(word)) == 8);
    CHECK(getpgid(child.pid) == child.pid);
    keeper_signal(&child, SIGKILL);
    const int status = wait_for_end(&child);
    CHECK(strcmp(keeper_status_text(status, text), "killed by signal 9 (Killed)") == 0);
    (void)close(ends[0]);
    CHECK(keeper_reap(&child, &(int){ 0 }) == -ECHILD);
    keeper_signal(&child, SIGKILL); /* of nobody: nothing happens */
}

static void test_a_child_dies_with_its_keeper(void)
{
    char script[] = "echo $$; exec cat /dev/zero >/dev/null";
    char number[32] = "";
    struct keeper_child child;
    int ends[2];

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    const pid_t keeper = fork();
    if (keeper == 0) {
        const struct keeper_command command = shell(script, ends[1]);
        _exit(keeper_spawn(&command, &child, NULL) == 0 && pause() ? 0 : 1);
    }
    (void)close(ends[1]);
    CHECK(read(ends[0], number, sizeof(number) - 1) > 0);
    CHECK(kill(keeper, SIGKILL) == 0 && waitpid(keeper, NULL, 0) == keeper);
    /* The end of the pipe that only the child still held. */
    CHECK(read(ends[0], number, sizeof(number)) == 0);
    (void)close(ends[0]);
}

static void test_a_log_keeps_its_end_and_is_turned_over_when_large(void)
{
    char path[] = "/tmp/brim-journal-XXXXXX", older[40], text[60];
    off_t start = 7;
    int fd = mkstemp(path);

    CHECK(fd >= 0 && write(fd, "before\n", 7) == 7);
    (void)close(fd);
    fd = keeper_journal_open(path, &start, NULL);
    CHECK(fd >= 0 && start == 7);
    CHECK(strcmp(keeper_journal_tail(path, start, text, sizeof(text)), "") == 0);
    CHECK(write(fd, "one\ntwo\nthree\n\033[31mfour\n\n", 25) == 25);
    CHECK(strcmp(keeper_journal_tail(path, start, text, sizeof(text)), "two | three | ?[31mfour") ==
          0);
    CHECK(strlen(keeper_journal_tail(path, start, text, 12)) < 12);
    CHECK(ftruncate(fd, KEEPER_JOURNAL_LIMIT_BYTES + 1) == 0);
    (void)close(fd);
    fd = keeper_journal_open(path, &start, NULL);
    CHECK(fd >= 0 && start == 0);
    (void)close(fd);
    (void)snprintf(older, sizeof(older), "%s.1", path);
    CHECK(unlink(path) == 0 && unlink(older) == 0);
}

TESTS(TEST(test_a_child_has_what_it_was_given_and_nothing_else),
      TEST(test_signals_begin_as_they_are_by_default),
      TEST(test_the_extra_descriptor_has_its_number_whatever_ours_is),
      TEST(test_what_cannot_be_run_is_an_error_and_no_child),
      TEST(test_a_signal_reaches_the_whole_group), TEST(test_a_child_dies_with_its_keeper),
      TEST(test_a_log_keeps_its_end_and_is_turned_over_when_large))
