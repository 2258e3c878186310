/* SPDX-License-Identifier: Apache-2.0 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "batch/batch.h"
#include "cli/command.h"
#include "cli/options.h"

/*
 * brim logs: what a batch and its workers have written, each file under its name, and with -f what
 * they write next; `daemon` is brimd's own log. Control characters of theirs but newline and tab
 * are shown as '?'.
 */

#define LOG_MAX     130 /* a batch's, its workers', and what was rotated */
#define BLOCK_BYTES 8192

#define DAEMON_LOG_NAME "brimd.log"

struct log_file {
    char name[64];
    off_t shown_bytes;
};

struct logs {
    char dir[PATHS_BYTES];
    struct log_file files[LOG_MAX];
    size_t count;
    const char *last; /* whose text was printed last; NULL: none yet */
    bool is_single;   /* no names between */
};

static int by_kind(const struct dirent **left, const struct dirent **right)
{
    const bool is_left_batch = strcmp((*left)->d_name, BATCH_LOG_NAME) == 0;
    const bool is_right_batch = strcmp((*right)->d_name, BATCH_LOG_NAME) == 0;

    if (is_left_batch || is_right_batch)
        return is_left_batch ? -1 : 1;
    return versionsort(left, right);
}

static int is_log(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');

    return dot && strcmp(dot, ".log") == 0 &&
           strlen(entry->d_name) < sizeof(((struct log_file *)0)->name);
}

static struct log_file *find(struct logs *logs, const char *name)
{
    for (size_t i = 0; i < logs->count; i++) {
        if (strcmp(logs->files[i].name, name) == 0)
            return &logs->files[i];
    }
    if (logs->count == LOG_MAX)
        return NULL;
    struct log_file *file = &logs->files[logs->count++];
    *file = (struct log_file){ 0 };
    (void)snprintf(file->name, sizeof(file->name), "%s", name);
    return file;
}

static void print_block(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char byte = (unsigned char)text[i];
        (void)putchar((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f ? '?' : byte);
    }
}

static void print_name(struct logs *logs, const struct log_file *file)
{
    if (!logs->is_single && logs->last != file->name)
        printf("%s==> %s <==\n", logs->last ? "\n" : "", file->name);
    logs->last = file->name;
}

/* What the file has beyond what was shown. */
static void show(struct logs *logs, struct log_file *file)
{
    char path[PATHS_BYTES], block[BLOCK_BYTES];
    OWNED(fd_close) int fd = -1;
    off_t end = 0;
    ssize_t got = 0;

    if (paths_join(path, sizeof(path), logs->dir, file->name, NULL) < 0)
        return;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    if (end < file->shown_bytes) /* rotated: a new file of the same name */
        file->shown_bytes = 0;
    while (fd >= 0 && (got = pread(fd, block, sizeof(block), file->shown_bytes)) > 0) {
        print_name(logs, file);
        print_block(block, (size_t)got);
        file->shown_bytes += got;
    }
}

static int show_all(struct logs *logs, struct error *err)
{
    struct dirent **names = NULL;
    const int count = scandir(logs->dir, &names, is_log, by_kind);

    if (count < 0)
        return error_set(err, -errno, "cannot read %s: %s", logs->dir, strerror(errno));
    for (int i = 0; i < count; i++) {
        struct log_file *file = find(logs, names[i]->d_name);
        if (file && (!logs->is_single || file == &logs->files[0]))
            show(logs, file);
        free(names[i]);
    }
    free(names);
    return 0;
}

/* Until the reader goes away or the signal comes. */
static int follow(struct logs *logs, struct error *err)
{
    OWNED(fd_close) int fd = inotify_init1(IN_CLOEXEC);
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

    if (fd < 0 || inotify_add_watch(fd, logs->dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
        return error_set(err, -errno, "cannot watch %s: %s", logs->dir, strerror(errno));
    for (;;) {
        struct pollfd watched[2] = { { .fd = fd, .events = POLLIN }, { .fd = STDOUT_FILENO } };
        const int r = show_all(logs, err);
        if (r < 0)
            return r;
        if (fflush(stdout) != 0)
            return 0;
        if (poll(watched, 2, -1) < 0 && errno != EINTR)
            return error_set(err, -errno, "cannot wait for news: %s", strerror(errno));
        if (watched[1].revents & (POLLERR | POLLHUP))
            return 0;
        if ((watched[0].revents & POLLIN) && read(fd, events, sizeof(events)) < 0)
            return error_set(err, -errno, "cannot wait for news: %s", strerror(errno));
    }
}

static int locate_daemon(struct logs *logs, struct error *err)
{
    char path[PATHS_BYTES];
    const int r = paths_state_dir(logs->dir, err);

    if (r < 0)
        return r;
    logs->is_single = true;
    (void)find(logs, DAEMON_LOG_NAME);
    if (paths_join(path, sizeof(path), logs->dir, DAEMON_LOG_NAME, NULL) == 0 &&
        access(path, F_OK) < 0 && errno == ENOENT)
        return error_set(err, -ENOENT,
                         "there is no %s: a brimd that a brim command starts writes it; that of a "
                         "service is in systemd's journal",
                         path);
    return 0;
}

static int locate(const char *name, struct logs *logs, struct error *err)
{
    int r = 0;

    if (strcmp(name, "daemon") == 0)
        return locate_daemon(logs, err);
    r = batch_dir(name, logs->dir, err);
    if (r == 0 && access(logs->dir, F_OK) < 0)
        return error_set(err, -ENOENT,
                         "there is no batch '%s'; brim batch ls lists them (and `brim logs daemon` "
                         "is brimd's log)",
                         name);
    return r;
}

static int run(const char *name, bool is_following)
{
    struct logs *logs = calloc(1, sizeof(*logs));
    struct error err = { 0 };
    int r = logs ? locate(name, logs, &err) : error_set(&err, -ENOMEM, "out of memory");

    if (r == 0)
        r = is_following ? follow(logs, &err) : show_all(logs, &err);
    free(logs);
    if (r == 0)
        return COMMAND_OK;
    fprintf(stderr, "brim logs: %s\n", err.message);
    return COMMAND_FAILED;
}

int cmd_logs(int argc, char **argv)
{
    static const struct option_spec specs[] = {
        { 'f', "follow", NULL, "go on with what is written next" },
    };
    struct options options = { .command = "logs", .specs = specs, .count = 1 };
    const char *name = NULL;
    bool is_following = false;
    int found = 0;

    options_init(&options, argc, argv);
    while ((found = options_next(&options)) != OPTIONS_END) {
        if (found == OPTIONS_HELP) {
            options_print_help(&options, "NAME [-f]",
                               "Shows what the batch NAME has told and what its workers wrote to\n"
                               "their standard output and error. `brim logs daemon` shows brimd's\n"
                               "own log.");
            return COMMAND_OK;
        }
        if (found == OPTIONS_WRONG)
            return COMMAND_USAGE;
        if (found == OPTIONS_OPERAND && name)
            return options_complain(&options, "one name at a time");
        if (found == OPTIONS_OPERAND)
            name = options.value;
        is_following = is_following || found == 0;
    }
    if (!name)
        return options_complain(&options, "whose? a batch (brim batch ls lists them) or daemon");
    return run(name, is_following);
}
