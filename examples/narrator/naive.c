/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "narrator.h"

#define PATH_BYTES 4096

static int speak_line(struct narrator *narrator, const struct naive_list *list, uint64_t segment,
                      const char *text, struct error *err)
{
    char out[PATH_BYTES];
    int length = snprintf(out, sizeof(out), "%s/%06" PRIu64 ".wav", list->out, segment);
    if (length < 0 || length >= (int)sizeof(out))
        return error_set(err, -ENAMETOOLONG, "%s: the path is too long", list->out);
    struct voice_result result;
    int r = diary_begin(&narrator->diary, segment, out);
    if (r < 0)
        return error_set(err, r, "write the log: %s", strerror(-r));
    r = narrator_speak(narrator, text, out, &result, err);
    if (r != 0)
        return r;
    r = diary_done(&narrator->diary, segment, &result, out);
    return r < 0 ? error_set(err, r, "write the log: %s", strerror(-r)) : 0;
}

int naive_run(struct narrator *narrator, const struct naive_list *list, uint64_t *segment,
              struct error *err)
{
    FILE *lines = fopen(list->path, "re");
    if (!lines)
        return error_set(err, -errno, "%s: %s", list->path, strerror(errno));
    char *line = NULL;
    size_t room_bytes = 0;
    int r = 0;
    for (uint64_t i = 0; r == 0 && getline(&line, &room_bytes, lines) >= 0; i++) {
        if (i != *segment)
            continue;
        line[strcspn(line, "\n")] = '\0';
        r = speak_line(narrator, list, i, line, err);
        if (r == 0)
            *segment += list->stride;
    }
    free(line);
    fclose(lines);
    return r;
}
