/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "driver/nvml.h"

/*
 * The gpus seen from outside: who they are, how much of each is used, and by which processes.
 *
 * Bytes are those that processes use: NVML's figure without what the driver reserves for itself
 * where it tells the two apart (memory info v2), with it where it cannot (older drivers). A process
 * that does compute and graphics is listed by the driver twice, with the same bytes: here it stands
 * once, with the larger figure.
 *
 * Calls may hang with the driver: only for processes that somebody watches.
 */

#define DEVICE_MAX         32
#define DEVICE_PROCESS_MAX 1024
#define DEVICE_UUID_BYTES  48
#define DEVICE_NAME_BYTES  64

struct device {
    nvmlDevice_t handle; /* borrowed from the driver */
    uint32_t index;
    char uuid[DEVICE_UUID_BYTES];
    char name[DEVICE_NAME_BYTES];
};

struct devices {
    struct driver_nvml nvml; /* owned */
    char driver_version[80];
    struct device items[DEVICE_MAX];
    size_t count;
};

struct device_process {
    uint32_t pid;
    bool has_bytes; /* false where the driver does not tell (WSL2, some containers) */
    uint64_t used_bytes;
};

struct device_usage {
    uint64_t capacity_bytes;
    uint64_t used_bytes;
    bool has_process_bytes; /* false: the driver tells bytes for no process here */
    bool is_truncated;      /* there were more processes than fit */
    size_t process_count;
    struct device_process processes[DEVICE_PROCESS_MAX];
};

/* Load NVML and find the gpus. A failure, here or in a reading, is answered by devices_close() and
 * opening anew: the driver may have been reloaded. Errors as driver_nvml_open(). */
int devices_open(struct devices *devices, struct error *err) __attribute__((warn_unused_result));
/* A zeroed or closed one is fine. */
void devices_close(struct devices *devices);

/* What is used on a gpu right now. -EIO or -ENODEV, with the call's name. */
int device_read(const struct devices *devices, const struct device *device,
                struct device_usage *ret_usage, struct error *err)
    __attribute__((warn_unused_result));

#endif
