/* SPDX-License-Identifier: Apache-2.0 */

#include "base/paths.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#ifndef BRIM_LIBEXEC_DIR
#    define BRIM_LIBEXEC_DIR "/usr/local/libexec/brim"
#endif
#ifndef BRIM_BIN_DIR
#    define BRIM_BIN_DIR "/usr/local/bin"
#endif

static const char *environment(const char *name)
{
    const char *value = secure_getenv(name);

    return value && *value ? value : NULL;
}

int paths_join(char *ret_path, size_t limit_bytes, const char *dir, const char *name,
               struct error *err)
{
    const size_t needed = strlen(dir) + 1 + strlen(name) + 1;

    if (needed > limit_bytes)
        return error_set(
            err, -ENAMETOOLONG,
            "%s/%s: the path has %zu bytes, at most %zu fit; set BRIM_RUNTIME_DIR to a "
            "shorter directory",
            dir, name, needed - 1, limit_bytes - 1);
    (void)snprintf(ret_path, limit_bytes, "%s/%s", dir, name);
    return 0;
}

static int own_dir(const char *own_variable, const char *xdg_variable, const char *below_home,
                   char ret_path[PATHS_BYTES], struct error *err)
{
    const char *base = environment(own_variable);

    if (base)
        return snprintf(ret_path, PATHS_BYTES, "%s", base) >= PATHS_BYTES ? -ENAMETOOLONG : 0;
    base = environment(xdg_variable);
    if (base)
        return paths_join(ret_path, PATHS_BYTES, base, "brim", err);
    base = environment("HOME");
    if (base)
        return paths_join(ret_path, PATHS_BYTES, base, below_home, err);
    return error_set(err, -ENOENT, "neither %s, %s nor HOME is set; set %s to a directory of yours",
                     own_variable, xdg_variable, own_variable);
}

int paths_runtime_dir(char ret_path[PATHS_BYTES], struct error *err)
{
    return own_dir("BRIM_RUNTIME_DIR", "XDG_RUNTIME_DIR", ".local/state/brim/run", ret_path, err);
}

int paths_state_dir(char ret_path[PATHS_BYTES], struct error *err)
{
    return own_dir("BRIM_STATE_DIR", "XDG_STATE_HOME", ".local/state/brim", ret_path, err);
}

static int check_private(const char *path, struct error *err)
{
    struct stat info;

    if (lstat(path, &info) < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return error_set(err, -ENOTDIR, "%s is not a directory; move it away", path);
    if (info.st_uid != geteuid())
        return error_set(err, -EPERM, "%s belongs to uid %u, not to you (uid %u)", path,
                         (unsigned)info.st_uid, (unsigned)geteuid());
    if ((info.st_mode & 077) != 0)
        return error_set(err, -EPERM, "%s is open to others (mode %04o); run: chmod 700 %s", path,
                         (unsigned)info.st_mode & 07777, path);
    return 0;
}

int paths_make_private(const char *path, struct error *err)
{
    char partial[PATHS_BYTES];

    if (snprintf(partial, sizeof(partial), "%s", path) >= (int)sizeof(partial))
        return error_set(err, -ENAMETOOLONG, "%.100s…: the path is too long", path);
    for (char *slash = strchr(partial + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(partial, 0700) < 0 && errno != EEXIST)
            return error_set(err, -errno, "cannot make %s: %s", partial, strerror(errno));
        *slash = '/';
    }
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_set(err, -errno, "cannot make %s: %s", path, strerror(errno));
    return check_private(path, err);
}

int paths_sync_parents(const char *path)
{
    char partial[PATHS_BYTES];
    struct stat info;
    int r = 0;

    if (snprintf(partial, sizeof(partial), "%s", path) >= (int)sizeof(partial))
        return -ENAMETOOLONG;
    for (char *slash = strrchr(partial, '/'); slash && slash != partial && r == 0;
         slash = strrchr(partial, '/')) {
        *slash = '\0';
        if (stat(partial, &info) < 0)
            return -errno;
        if (info.st_uid != geteuid())
            break; /* whoever made that one did not make it for us */
        r = fd_sync_dir(partial);
    }
    return r == -EACCES ? 0 : r; /* ours, and closed to us: so it was when we came */
}

static int program_beside_us(const char *name, char ret_path[PATHS_BYTES])
{
    char own[PATHS_BYTES];
    const ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);

    if (length < 0)
        return -errno;
    own[length] = '\0';
    char *slash = strrchr(own, '/');
    if (!slash)
        return -ENOENT;
    *slash = '\0';
    if (snprintf(ret_path, PATHS_BYTES, "%s/%s", own, name) < PATHS_BYTES &&
        access(ret_path, X_OK) == 0)
        return 0;
    if (snprintf(ret_path, PATHS_BYTES, "%s/../libexec/brim/%s", own, name) < PATHS_BYTES &&
        access(ret_path, X_OK) == 0)
        return 0;
    return -ENOENT;
}

int paths_program(const char *name, char ret_path[PATHS_BYTES], struct error *err)
{
    if (program_beside_us(name, ret_path) == 0)
        return 0;
    if (snprintf(ret_path, PATHS_BYTES, "%s/%s", BRIM_BIN_DIR, name) < PATHS_BYTES &&
        access(ret_path, X_OK) == 0)
        return 0;
    if (snprintf(ret_path, PATHS_BYTES, "%s/%s", BRIM_LIBEXEC_DIR, name) < PATHS_BYTES &&
        access(ret_path, X_OK) == 0)
        return 0;
    return error_set(err, -ENOENT,
                     "%s is neither beside this program nor in %s; "
                     "the installation is incomplete; `make install` puts it there",
                     name, BRIM_BIN_DIR);
}
