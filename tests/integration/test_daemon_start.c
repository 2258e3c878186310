/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "check.h"
#include "client/daemon.h"

static char dir[] = "/tmp/brim-test-XXXXXX";
static volatile sig_atomic_t child_signals;

static void on_child(int number)
{
    (void)number;
    child_signals++;
}

static void set_up(const char *told)
{
    static bool is_made;

    CHECK(is_made || mkdtemp(dir) != NULL);
    is_made = true;
    CHECK(setenv("BRIM_RUNTIME_DIR", dir, 1) == 0);
    CHECK(setenv("BRIM_STATE_DIR", dir, 1) == 0);
    CHECK(setenv("BRIM_TEST_DAEMON", told, 1) == 0);
}

static char *read_log(void)
{
    char path[64];
    char *text = NULL;

    (void)snprintf(path, sizeof(path), "%s/brimd.log", dir);
    CHECK(fd_read_file(path, 1 << 16, &text, NULL) == 0);
    return text;
}

static void remove_files(void)
{
    static const char *const names[] = { "brimd.log", "start.lock", "lease.sock" };
    char path[64];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
}

static void test_nobody_there_is_told_apart(void)
{
    struct error err = { 0 };
    enum daemon_scope scope = DAEMON_ANY;
    int fd = -1;

    set_up("silent");
    CHECK(daemon_connect(DAEMON_ANY, &fd, &scope, &err) == -ENOENT);
    CHECK(strstr(err.message, "lease.sock") != NULL);
    CHECK(fd == -1);
}

static void test_a_daemon_that_fails_says_why(void)
{
    struct error err = { 0 };

    set_up("refuse");
    CHECK(daemon_start(&err) == -ECHILD);
    CHECK(strcmp(err.message, "brimd did not start: the moon is full") == 0);
    set_up("silent");
    CHECK(daemon_start(&err) == -ECHILD);
    CHECK(strstr(err.message, dir) && strstr(err.message, "brimd.log"));
}

static void test_a_relative_directory_is_refused(void)
{
    struct error err = { 0 };

    set_up("listen");
    CHECK(setenv("BRIM_RUNTIME_DIR", "run", 1) == 0);
    CHECK(daemon_start(&err) == -EINVAL);
    CHECK(strstr(err.message, "absolute") != NULL);
}

static void test_while_another_starts_it_we_only_wait(void)
{
    struct daemon_launch first = DAEMON_LAUNCH_NONE, second = DAEMON_LAUNCH_NONE;

    set_up("silent");
    CHECK(daemon_launch_begin(&first, NULL) == 0);
    CHECK(daemon_launch_begin(&second, NULL) == 1);
    CHECK(second.lock_fd == -1 && second.ready_fd == -1);
    struct pollfd watch = { .fd = first.ready_fd, .events = POLLIN };
    CHECK(poll(&watch, 1, 5000) == 1);
    CHECK(daemon_launch_check(&first, NULL) == -ECHILD);
    daemon_launch_end(&first);
    daemon_launch_end(&first);
    CHECK(daemon_launch_begin(&second, NULL) == 0);
    daemon_launch_end(&second);
}

/* Everything that the host could notice, and everything that the daemon could inherit. */
static void test_start_leaves_no_trace_in_the_host(void)
{
    struct sigaction action = { .sa_handler = on_child };
    struct error err = { 0 };
    enum daemon_scope scope = DAEMON_ANY;
    int fd = -1;

    set_up("listen");
    CHECK(setenv("SECRET_TOKEN", "hunter2", 1) == 0);
    CHECK(setenv("BRIM_LEASE", "l1", 1) == 0);
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    const int leaky_fd = fcntl(0, F_DUPFD, 40);
    CHECK(leaky_fd >= 40);
    CHECK(daemon_start(&err) == 0);
    CHECK(daemon_connect(DAEMON_ANY, &fd, &scope, &err) == 0);
    CHECK(scope == DAEMON_USER);
    CHECK(daemon_start(&err) == 0); /* it runs: nothing to do */
    (void)close(leaky_fd);
    CHECK_EQ_U64((uint64_t)child_signals, 0);
    CHECK(waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD);

    OWNED(freep) char *text = read_log();
    CHECK(strstr(text, "leads 1 blocked 0 ignored 0 cwd / umask 077\n") != NULL);
    CHECK(strstr(text, "env BRIM_RUNTIME_DIR=") != NULL);
    CHECK(strstr(text, "SECRET_TOKEN") == NULL);
    CHECK(strstr(text, "BRIM_LEASE") == NULL);
    CHECK(strstr(text, "fd 0\nfd 1\nfd 2\nfd 3\nleads") != NULL);
    fd_close(&fd);
    remove_files();
}

TESTS(TEST(test_nobody_there_is_told_apart), TEST(test_a_daemon_that_fails_says_why),
      TEST(test_a_relative_directory_is_refused), TEST(test_while_another_starts_it_we_only_wait),
      TEST(test_start_leaves_no_trace_in_the_host))
