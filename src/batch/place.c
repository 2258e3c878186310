/* SPDX-License-Identifier: Apache-2.0 */

/* Where a batch's files lie, and whether its command can be found. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch/batch.h"

int batch_root_dir(char ret_path[PATHS_BYTES], struct error *err)
{
    char state[PATHS_BYTES];
    const int r = paths_state_dir(state, err);

    return r < 0 ? r : paths_join(ret_path, PATHS_BYTES, state, "batches", err);
}

int batch_dir(const char *name, char ret_path[PATHS_BYTES], struct error *err)
{
    char root[PATHS_BYTES];
    int r = stack_name_check(name, err);

    if (r == 0)
        r = batch_root_dir(root, err);
    return r < 0 ? r : paths_join(ret_path, PATHS_BYTES, root, name, err);
}

static int check_program(const char *path)
{
    struct stat info = { 0 };

    if (stat(path, &info) < 0)
        return -errno;
    return S_ISREG(info.st_mode) && access(path, X_OK) == 0 ? 0 : -EACCES;
}

/* The PATH that the worker's exec will search: the caller's. */
static int check_on_path(const char *name)
{
    const char *rest = getenv("PATH"); /* NOLINT(concurrency-mt-unsafe): one thread */
    char path[PATHS_BYTES];
    int best = -ENOENT;

    if (!rest)
        rest = "/usr/local/bin:/usr/bin:/bin";
    while (*rest) {
        const size_t length = strcspn(rest, ":");
        if (snprintf(path, sizeof(path), "%.*s/%s", (int)length, rest, name) < (int)sizeof(path)) {
            const int r = check_program(path);
            if (r == 0)
                return 0;
            best = r == -EACCES ? r : best;
        }
        rest += length + (rest[length] == ':');
    }
    return best;
}

int batch_check_command(const struct stack_batch *spec, struct error *err)
{
    const char *name = spec->command[0];
    char path[PATHS_BYTES];
    int r = 0;

    if (!strchr(name, '/'))
        r = check_on_path(name);
    else if (snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' ? "" : spec->dir,
                      name[0] == '/' ? "" : "/", name) >= (int)sizeof(path))
        r = -ENAMETOOLONG;
    else
        r = check_program(path);
    if (r == -ENOENT)
        return error_set(
            err, r,
            "cannot run '%s': there is no such program%s%s; check the command of batch "
            "'%s'",
            name, strchr(name, '/') ? " below " : " on PATH", strchr(name, '/') ? spec->dir : "",
            spec->name);
    if (r < 0)
        return error_set(err, r, "cannot run '%s': %s", name,
                         r == -EACCES ? "it is no executable program; try chmod +x" : strerror(-r));
    return 0;
}
