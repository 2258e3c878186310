/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/size.h"

#define RESERVE_DEFAULT_BYTES (800 * MIB)

static const char help_text[] =
    "usage: brimd [OPTION]...\n"
    "Share the memory of this machine's gpus between the programs that ask for it.\n"
    "The first brim command that needs brimd starts it; by hand it is seldom needed.\n"
    "\n"
    "  --scope user|system  for you alone (default), or for all (started by systemd)\n"
    "  --runtime-dir DIR    sockets and locks (default: $BRIM_RUNTIME_DIR, else\n"
    "                       $XDG_RUNTIME_DIR/brim, else ~/.local/state/brim/run)\n"
    "  --state-dir DIR      what survives a restart (default: $BRIM_STATE_DIR, else\n"
    "                       $XDG_STATE_HOME/brim, else ~/.local/state/brim)\n"
    "  --reserve SIZE       what is never granted on each gpu (default: 800MiB)\n"
    "  --foreground         taken for the sake of habit: brimd never leaves the foreground\n"
    "  --log-level LEVEL    error, warn, info (default) or debug\n"
    "  --ready-fd N         write \"ready\" there when both sockets listen\n"
    "  --version            print the version and end\n"
    "  --help               print this and end\n";

const char *scope_name(enum scope scope)
{
    return scope == SCOPE_SYSTEM ? "system" : "user";
}

static int parse_scope(const char *text, enum scope *ret_scope, struct error *err)
{
    if (strcmp(text, "user") == 0)
        *ret_scope = SCOPE_USER;
    else if (strcmp(text, "system") == 0)
        *ret_scope = SCOPE_SYSTEM;
    else
        return error_set(err, -EINVAL, "--scope %.40s: write user or system", text);
    return 0;
}

static int parse_level(const char *text, enum log_level *ret_level, struct error *err)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {
        { "error", LOG_LEVEL_ERROR },
        { "warn", LOG_LEVEL_WARN },
        { "info", LOG_LEVEL_INFO },
        { "debug", LOG_LEVEL_DEBUG },
    };

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(text, levels[i].name) == 0) {
            *ret_level = levels[i].level;
            return 0;
        }
    }
    return error_set(err, -EINVAL, "--log-level %.40s: write error, warn, info or debug", text);
}

static int parse_dir(const char *option, const char *text, char ret_path[PATHS_BYTES],
                     struct error *err)
{
    if (text[0] != '/')
        return error_set(err, -EINVAL, "%s %.200s: write an absolute path", option, text);
    if (snprintf(ret_path, PATHS_BYTES, "%s", text) >= PATHS_BYTES)
        return error_set(err, -ENAMETOOLONG, "%s: the path is too long", option);
    return 0;
}

static int parse_reserve(const char *text, uint64_t *ret_bytes, struct error *err)
{
    const int r = size_parse(text, ret_bytes, err);

    return r < 0 ? error_wrap(err, "--reserve") : 0;
}

/* It must be open, and must not reach our children. */
static int parse_fd(const char *text, int *ret_fd, struct error *err)
{
    char *end = NULL;
    long fd = 0;

    errno = 0;
    fd = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || fd < 0 || fd > INT_MAX ||
        fd_set_cloexec((int)fd, 1) < 0)
        return error_set(err, -EINVAL, "--ready-fd %.20s: write the number of an open descriptor",
                         text);
    *ret_fd = (int)fd;
    return 0;
}

enum {
    OPTION_SCOPE = 256,
    OPTION_RUNTIME_DIR,
    OPTION_STATE_DIR,
    OPTION_RESERVE,
    OPTION_FOREGROUND,
    OPTION_LOG_LEVEL,
    OPTION_READY_FD,
    OPTION_VERSION,
    OPTION_HELP,
};

static const struct option long_options[] = {
    { "scope", required_argument, NULL, OPTION_SCOPE },
    { "runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR },
    { "state-dir", required_argument, NULL, OPTION_STATE_DIR },
    { "reserve", required_argument, NULL, OPTION_RESERVE },
    { "foreground", no_argument, NULL, OPTION_FOREGROUND },
    { "log-level", required_argument, NULL, OPTION_LOG_LEVEL },
    { "ready-fd", required_argument, NULL, OPTION_READY_FD },
    { "version", no_argument, NULL, OPTION_VERSION },
    { "help", no_argument, NULL, OPTION_HELP },
    { NULL, 0, NULL, 0 },
};

static int take_option(int option, struct options *options, struct error *err)
{
    switch (option) {
    case OPTION_SCOPE:
        return parse_scope(optarg, &options->scope, err);
    case OPTION_RUNTIME_DIR:
        return parse_dir("--runtime-dir", optarg, options->runtime_dir, err);
    case OPTION_STATE_DIR:
        return parse_dir("--state-dir", optarg, options->state_dir, err);
    case OPTION_RESERVE:
        return parse_reserve(optarg, &options->reserve_bytes, err);
    case OPTION_FOREGROUND:
        return 0;
    case OPTION_LOG_LEVEL:
        return parse_level(optarg, &options->log_level, err);
    case OPTION_READY_FD:
        return parse_fd(optarg, &options->ready_fd, err);
    case OPTION_VERSION:
        (void)printf("brimd %s\n", BRIM_VERSION);
        return OPTIONS_SHOWN;
    case OPTION_HELP:
        (void)fputs(help_text, stdout);
        return OPTIONS_SHOWN;
    default:
        return error_set(err, -EINVAL, "see brimd --help");
    }
}

static int fill_dirs(struct options *options, struct error *err)
{
    int r = 0;

    if (options->runtime_dir[0] == '\0') {
        if (options->scope == SCOPE_SYSTEM)
            (void)snprintf(options->runtime_dir, PATHS_BYTES, "%s", PATHS_SYSTEM_RUNTIME);
        else
            r = paths_runtime_dir(options->runtime_dir, err);
    }
    if (r == 0 && options->state_dir[0] == '\0') {
        if (options->scope == SCOPE_SYSTEM)
            (void)snprintf(options->state_dir, PATHS_BYTES, "%s", PATHS_SYSTEM_STATE);
        else
            r = paths_state_dir(options->state_dir, err);
    }
    return r;
}

int options_parse(int argc, char **argv, struct options *ret_options, struct error *err)
{
    struct options options = {
        .scope = SCOPE_USER,
        .reserve_bytes = RESERVE_DEFAULT_BYTES,
        .log_level = LOG_LEVEL_INFO,
        .ready_fd = -1,
    };
    int option = 0;

    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        const int r = take_option(option, &options, err);
        if (r != 0)
            return r;
    }
    if (optind < argc)
        return error_set(err, -EINVAL, "%.100s: brimd takes no arguments; see brimd --help",
                         argv[optind]);
    const int r = fill_dirs(&options, err);
    if (r < 0)
        return r;
    *ret_options = options;
    return OPTIONS_RUN;
}
