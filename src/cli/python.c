/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/python.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/paths.h"
#include "cli/pytorch.h"

#define JANITOR_FILE "sitecustomize.py"

/* From the folder of this program: in the tree, in a wheel, installed. */
static const char *const places[] = {
    "../python/brim/_janitor",
    "../_janitor",
    "../share/brim/python/brim/_janitor",
};

static int find_janitor(char ret_path[PATHS_BYTES], struct error *err)
{
    char own[PATHS_BYTES], file[PATHS_BYTES];
    const ssize_t own_bytes = readlink("/proc/self/exe", own, sizeof(own) - 1);

    if (own_bytes < 0)
        return error_set(err, -errno, "/proc/self/exe: %s", strerror(errno));
    own[own_bytes] = '\0';
    char *const slash = strrchr(own, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (paths_join(ret_path, PATHS_BYTES, own, places[i], NULL) == 0 &&
            paths_join(file, sizeof(file), ret_path, JANITOR_FILE, NULL) == 0 &&
            access(file, R_OK) == 0)
            return 0;
    }
    return error_set(err, -ENOENT,
                     "--python-janitor: the Python package is not installed beside this brim; "
                     "use the brim of the Python package, or leave the option out");
}

/* The flag by which a Python does not look for a sitecustomize in PYTHONPATH; 0: it does. */
static char blinding_flag(char *const *command)
{
    const char *const slash = strrchr(command[0], '/');

    if (strncmp(slash ? slash + 1 : command[0], "python", strlen("python")) != 0)
        return 0;
    for (command++; *command && (*command)[0] == '-' && (*command)[1] != '-'; command++) {
        /* -c, -m, -W and -X take the rest of their word, and the program begins after -c and -m. */
        const char *const end = strpbrk(*command, "cmWX");
        const char *const flag = strpbrk(*command, "IES");
        if (flag && (!end || flag < end))
            return *flag;
        if (end && (*end == 'c' || *end == 'm'))
            return 0;
        if (end && end[1] == '\0' && command[1])
            command++;
    }
    return 0;
}

int python_prepare(char *const *command, struct error *err)
{
    char path[2 * PATHS_BYTES], janitor[PATHS_BYTES];
    const char *const before = getenv("PYTHONPATH");
    int r = find_janitor(janitor, err);

    if (r < 0)
        return r;
    const bool has_before = before && *before;
    if (snprintf(path, sizeof(path), "%s%s%s", janitor, has_before ? ":" : "",
                 has_before ? before : "") >= (int)sizeof(path))
        return error_set(err, -ENAMETOOLONG, "PYTHONPATH is too long");
    const char flag = blinding_flag(command);
    if (flag)
        fprintf(stderr, "brim run: there will be no janitor: python -%c does not look for it\n",
                flag);
    r = setenv("PYTHONPATH", path, 1) < 0 ? -errno : pytorch_set_allocator(command);
    return r < 0 ? error_set(err, r, "cannot set the environment: %s", strerror(-r)) : 0;
}
