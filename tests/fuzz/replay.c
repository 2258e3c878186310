/* SPDX-License-Identifier: Apache-2.0 */

/*
 * usage: TARGET_replay FOLDER-OR-FILE…
 *
 * Gives a target each file, and each one cut in half: the least that a stranger may do to a good
 * message is to stop in its middle. TAP; a target that breaks says on which file.
 */

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "fuzz.h"

#define FILE_MAX_BYTES ((size_t)4 << 20)
#define PATH_BYTES     4096

static size_t replayed_count;

static void replay_file(const char *path)
{
    uint8_t *const bytes = malloc(FILE_MAX_BYTES);
    FILE *const file = fopen(path, "re");

    if (!bytes || !file) {
        printf("Bail out! %s: %s\n", path, strerror(errno));
        exit(EXIT_FAILURE);
    }
    const size_t byte_count = fread(bytes, 1, FILE_MAX_BYTES, file);
    (void)fclose(file);
    printf("# %s: %zu bytes\n", path, byte_count);
    (void)fflush(stdout);
    fuzz_one(bytes, byte_count);
    fuzz_one(bytes, byte_count / 2);
    replayed_count++;
    free(bytes);
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void replay_folder(const char *path)
{
    struct dirent **entries = NULL;
    char name[PATH_BYTES];
    const int count = scandir(path, &entries, is_visible, alphasort);

    for (int i = 0; i < count; i++) {
        if (snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name) < (int)sizeof(name))
            replay_file(name);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    struct stat info;

    printf("1..1\n");
    for (int i = 1; i < argc; i++) {
        if (stat(argv[i], &info) == 0 && S_ISDIR(info.st_mode))
            replay_folder(argv[i]);
        else
            replay_file(argv[i]);
    }
    printf("%s 1 - %zu inputs leave it whole\n", replayed_count > 0 ? "ok" : "not ok",
           replayed_count);
    return replayed_count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
