/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which process a pid means, whether the caller may touch it, and what is reported about it.
 */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/process.h"
#include "checkpoint.h"
#include "orders.h"

/* The process that a thread belongs to; 0: there is none. */
static pid_t find_process(pid_t pid)
{
    char path[64], line[128];
    long group = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *const file = fopen(path, "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "Tgid: %ld", &group) == 1) /* NOLINT(cert-err34-c): the kernel's */
            break;
    }
    (void)fclose(file);
    return (pid_t)group;
}

static bool is_owned(pid_t pid, const char *name, uid_t uid)
{
    char path[64];
    struct stat info = { 0 };

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return stat(path, &info) == 0 && info.st_uid == uid;
}

static bool has_ended(pid_t pid)
{
    char path[64], program[8];

    (void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    return readlink(path, program, sizeof(program)) < 0 && errno == ENOENT;
}

/* The driver reaches the target through /proc, so what the kernel says about who owns it there is
 * what counts: what lies in the directory of a process that is not dumpable is root's (proc(5)).
 * That of one that has ended and was not waited for is, too, and harms nobody. */
static bool may_touch(const struct client *controller, pid_t pid)
{
    return controller->uid == 0 || is_owned(pid, "stat", controller->uid) ||
           (is_owned(pid, "", controller->uid) && has_ended(pid));
}

int checkpoint_find(struct server *server, const struct client *controller, pid_t pid,
                    struct checkpoint **ret_checkpoint)
{
    if (pid <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    /* As on aarch64 with shared memory (NVIDIA/cuda-checkpoint issue 51). */
    if ((server->options.modes & EMU_MODE_UNIFIED) != 0)
        return CUDA_ERROR_NOT_SUPPORTED;
    const pid_t process = find_process(pid);
    if (process == 0 || !may_touch(controller, process))
        return CUDA_ERROR_OPERATING_SYSTEM;
    for (struct client *client = server->clients; client; client = client->next) {
        if (client->pid != process || !client->checkpoint)
            continue;
        /* NVIDIA/cuda-checkpoint issue 41: /proc has threads too. */
        if (process != pid)
            checkpoint_fault(server, client, "a thread's id was taken for its process");
        *ret_checkpoint = client->checkpoint;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_NOT_INITIALIZED;
}

void checkpoint_fault(struct server *server, const struct client *target, const char *text)
{
    server->checkpoint_faults++;
    fprintf(stderr, "brim emulate: checkpoint hazard: %s (pid %d) %s\n", target->name,
            (int)target->pid, text);
    if (server->is_killing_faults && target->pid != getpid())
        (void)process_signal(target->pidfd, SIGSEGV);
}

bool checkpoint_has_lost_nvml(const struct server *server, pid_t pid)
{
    for (const struct client *client = server->clients; client; client = client->next) {
        if (client->pid == pid && client->has_lost_nvml)
            return true;
    }
    return false;
}

bool checkpoint_has_nccl(pid_t pid)
{
    char path[64], name[400], text[32];
    bool is_found = false;

    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *const tasks = opendir(path);
    if (!tasks)
        return false;
    for (const struct dirent *entry = readdir(tasks); entry && !is_found; entry = readdir(tasks)) {
        (void)snprintf(name, sizeof(name), "%s/%s/comm", path, entry->d_name);
        FILE *const file = fopen(name, "re");
        if (!file)
            continue;
        is_found = fgets(text, sizeof(text), file) && strncmp(text, "pt_nccl_", 8) == 0;
        (void)fclose(file);
    }
    (void)closedir(tasks);
    return is_found;
}
