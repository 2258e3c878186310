/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/python.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/paths.h"

#define JANITOR_FILE "sitecustomize.py"
#define ALLOCATOR    "expandable_segments:True"

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

static bool has_word(char *const *command, const char *part, bool is_whole)
{
    for (; *command; command++) {
        if (is_whole ? strcmp(*command, part) == 0 : strstr(*command, part) != NULL)
            return true;
    }
    return false;
}

static const char *refusing_option(char *const *command)
{
    for (size_t i = 0; i < sizeof(refusing) / sizeof(refusing[0]); i++) {
        if (has_word(command, refusing[i].engine, false) &&
            has_word(command, refusing[i].option, true))
            return refusing[i].option;
    }
    return NULL;
}

static int set_allocator(char *const *command)
{
    const char *const option = refusing_option(command);

    for (size_t i = 0; i < sizeof(allocator_names) / sizeof(allocator_names[0]); i++) {
        const char *const value = getenv(allocator_names[i]);
        if (value) {
            fprintf(stderr, "brim run: %s=%s is yours and stays as it is\n", allocator_names[i],
                    value);
            return 0;
        }
    }
    if (option) {
        fprintf(stderr, "brim run: PyTorch's expandable segments are left off: %s refuses them\n",
                option);
        return 0;
    }
    for (size_t i = 0; i < sizeof(allocator_names) / sizeof(allocator_names[0]); i++) {
        if (setenv(allocator_names[i], ALLOCATOR, 1) < 0)
            return -errno;
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
    r = setenv("PYTHONPATH", path, 1) < 0 ? -errno : set_allocator(command);
    return r < 0 ? error_set(err, r, "cannot set the environment: %s", strerror(-r)) : 0;
}
