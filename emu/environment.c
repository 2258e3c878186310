/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the command finds: a private directory with its own runtime, state and lock directories, so
 * its own daemon, and variables that lead to them and to the emulated libraries.
 */

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/paths.h"
#include "driver.h"
#include "server.h"

/* A daemon's socket must fit below: "/run/lease.sock" and the like. */
#define LONGEST_DIR 70

static int make_dir(struct server *server, struct error *err)
{
    const char *const wanted = secure_getenv("TMPDIR");
    const char *const base =
        wanted && *wanted == '/' && strlen(wanted) < LONGEST_DIR ? wanted : "/tmp";

    (void)snprintf(server->dir, sizeof(server->dir), "%s/brim-emu-XXXXXX", base);
    if (mkdtemp(server->dir))
        return 0;
    const int r =
        error_set(err, -errno, "cannot make a directory in %s: %s", base, strerror(errno));
    server->dir[0] = '\0';
    return r;
}

static int make_below(const struct server *server, const char *name, struct error *err)
{
    char path[PATHS_BYTES];
    const int r = paths_join(path, sizeof(path), server->dir, name, err);

    return r < 0 ? r : paths_make_private(path, err);
}

int environment_open(struct server *server, struct error *err)
{
    int r = make_dir(server, err);

    if (r == 0)
        r = make_below(server, "run", err);
    if (r == 0)
        r = make_below(server, "lock", err);
    if (r == 0)
        r = server->options.state_dir ? paths_make_private(server->options.state_dir, err)
                                      : make_below(server, "state", err);
    if (r == 0)
        r = paths_join(server->socket_path, sizeof(server->socket_path), server->dir, "emu.sock",
                       err);
    return r;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    (void)remove(path);
    return 0;
}

void environment_close(struct server *server)
{
    if (server->dir[0] != '\0')
        (void)nftw(server->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    server->dir[0] = '\0';
}

/* The emulated libraries lie in emu/ beside this program, where it was built and where it was
 * installed. */
static int find_libraries(char ret_dir[PATHS_BYTES])
{
    char own[PATHS_BYTES - 32], library[PATHS_BYTES + 32];
    const ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);

    if (length < 0)
        return -errno;
    own[length] = '\0';
    char *const slash = strrchr(own, '/');
    if (!slash)
        return -ENOENT;
    *slash = '\0';
    (void)snprintf(ret_dir, PATHS_BYTES, "%s/emu", own);
    (void)snprintf(library, sizeof(library), "%s/libcuda.so.1", ret_dir);
    return access(library, R_OK) == 0 ? 0 : -ENOENT;
}

static int set_below(const struct server *server, const char *variable, const char *name)
{
    char path[PATHS_BYTES];

    (void)snprintf(path, sizeof(path), "%s/%s", server->dir, name);
    return setenv(variable, path, 1) < 0 ? -errno : 0;
}

static int set_state(const struct server *server)
{
    char path[PATHS_BYTES];

    if (!server->options.state_dir)
        return set_below(server, "BRIM_STATE_DIR", "state");
    if (!realpath(server->options.state_dir, path))
        return -errno;
    return setenv("BRIM_STATE_DIR", path, 1) < 0 ? -errno : 0;
}

static int set_library_path(void)
{
    char dir[PATHS_BYTES];
    char *path = NULL;
    const char *const before = getenv("LD_LIBRARY_PATH"); /* NOLINT(concurrency-mt-unsafe) */
    const int r = find_libraries(dir);

    if (r < 0)
        return r;
    if (asprintf(&path, "%s%s%s", dir, before && *before ? ":" : "", before ? before : "") < 0)
        return -ENOMEM;
    const int failed = setenv("LD_LIBRARY_PATH", path, 1);
    free(path);
    return failed ? -ENOMEM : 0;
}

/* The brim that a command calls inside is the one that emulates: its folder comes first. */
static int set_program_path(void)
{
    char brim[PATHS_BYTES];
    char *path = NULL;
    const char *const before = getenv("PATH"); /* NOLINT(concurrency-mt-unsafe) */

    if (paths_program("brim", brim, NULL) < 0)
        return 0;
    *strrchr(brim, '/') = '\0';
    if (asprintf(&path, "%s:%s", brim, before ? before : "/usr/bin:/bin") < 0)
        return -ENOMEM;
    const int failed = setenv("PATH", path, 1);
    free(path);
    return failed ? -ENOMEM : 0;
}

static int set_driver(const struct server *server)
{
    char branch[16];

    (void)snprintf(branch, sizeof(branch), "%d", server->options.driver);
    return setenv(EMU_DRIVER_VARIABLE, branch, 1) < 0 ? -errno : 0;
}

static void restore_signals(void)
{
    sigset_t none;

    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

int environment_apply(const struct server *server)
{
    char profiles[EMU_GPU_MAX * sizeof(server->cards[0].profile)];
    size_t used = 0;
    int r = set_library_path();

    if (r == 0)
        r = set_program_path();
    for (uint32_t i = 0; i < server->card_count; i++)
        used += (size_t)snprintf(profiles + used, sizeof(profiles) - used, "%s%s", i > 0 ? "," : "",
                                 server->cards[i].profile);
    if (r == 0)
        r = set_below(server, "BRIM_RUNTIME_DIR", "run");
    if (r == 0)
        r = set_below(server, "BRIM_LOCK_DIR", "lock");
    if (r == 0)
        r = set_state(server);
    if (r == 0)
        r = set_driver(server);
    if (r == 0 && (setenv("BRIM_EMULATED", profiles, 1) < 0 ||
                   setenv("BRIM_EMU_SOCKET", server->socket_path, 1) < 0 ||
                   /* What an outer `brim run` chose is no card of ours. */
                   unsetenv("CUDA_VISIBLE_DEVICES") < 0))
        r = -errno;
    if (r == 0 && setrlimit(RLIMIT_NOFILE, &server->file_limit) < 0)
        r = -errno;
    if (r == 0)
        restore_signals();
    return r;
}
