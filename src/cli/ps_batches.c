/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/ps_batches.h"

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/paths.h"
#include "base/process.h"
#include "batch/batch.h"
#include "cli/batch.h"

static void add_running(json_t *batches, const char *name)
{
    struct segments_info info = { 0 };

    if (batch_find(name, &info, NULL) < 0 || info.runner_pid <= 0 ||
        !process_is_alive(info.runner_pid, info.runner_start_ticks))
        return;
    (void)json_array_append_new(
        batches, json_pack("{s:s, s:i, s:I, s:I, s:I}", "name", name, "pid", (int)info.runner_pid,
                           "segments_done", (json_int_t)info.done, "segments_total",
                           (json_int_t)info.total, "segments_failed", (json_int_t)info.failed));
}

json_t *ps_batches_read(void)
{
    char root[PATHS_BYTES];
    json_t *const batches = json_array();
    DIR *const dir = batch_root_dir(root, NULL) < 0 ? NULL : opendir(root);

    if (!dir)
        return batches;
    for (const struct dirent *entry = readdir(dir); batches && entry; entry = readdir(dir)) {
        if (entry->d_name[0] != '.')
            add_running(batches, entry->d_name);
    }
    (void)closedir(dir);
    return batches;
}
