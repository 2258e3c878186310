/* SPDX-License-Identifier: Apache-2.0 */

/* Two batches with one output would overwrite each other's results, and, while both run, each
 * other's attempts. A batch whose state is gone is not known here: its results are plain files. */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "batch/prepare.h"

static void close_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

static int check_rival(const char *dir, const char *name, const char *output, struct error *err)
{
    struct segments *segments = NULL;
    struct segments_info info = { 0 };

    /* One that cannot be read says so itself, to whoever runs it. */
    if (segments_open_read(dir, &segments, NULL) < 0)
        return 0;
    const int r = segments_read_info(segments, &info, NULL);
    segments_close(segments);
    if (r < 0 || strcmp(info.output, output) != 0)
        return 0;
    if (info.done == 0 && !process_is_alive(info.runner_pid, info.runner_start_ticks))
        return 0;
    return error_set(err, -EEXIST,
                     "batch '%s' has its results at %s (%" PRIu64 " done); choose another output, "
                     "or, if they may be overwritten, remove %s",
                     name, output, info.done, dir);
}

int run_check_output(const struct batch_options *options, const char *output, struct error *err)
{
    char root[PATHS_BYTES], dir[PATHS_BYTES];
    OWNED(close_dir) DIR *batches = NULL;
    int r = 0;

    if (snprintf(root, sizeof(root), "%s", options->dir) >= (int)sizeof(root))
        return error_set(err, -ENAMETOOLONG, "%.100s: the path is too long", options->dir);
    char *own_name = strrchr(root, '/');
    *own_name++ = '\0';
    batches = opendir(root);
    if (!batches)
        return errno == ENOENT ? 0 : error_set(err, -errno, "%s: %s", root, strerror(errno));
    for (const struct dirent *entry = readdir(batches); r == 0 && entry; entry = readdir(batches)) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, own_name) == 0)
            continue;
        r = paths_join(dir, sizeof(dir), root, entry->d_name, err);
        if (r == 0)
            r = check_rival(dir, entry->d_name, output, err);
    }
    return r;
}
