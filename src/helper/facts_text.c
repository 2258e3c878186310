/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The facts as JSON, written by hand: numbers, and text that is escaped here.
 */

#include <errno.h>
#include <inttypes.h>

#include "device/device.h"
#include "helper/facts.h"

static void print_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        const unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7f)
            fprintf(out, "\\u%04x", byte);
        else
            fputc(byte, out);
    }
    fputc('"', out);
}

static void print_process(FILE *out, const struct device_process *process)
{
    fprintf(out, "{\"pid\": %" PRIu32 ", \"used_bytes\": ", process->pid);
    if (process->has_bytes)
        fprintf(out, "%" PRIu64 "}", process->used_bytes);
    else
        fprintf(out, "null}");
}

static void print_gpu(FILE *out, const struct device *device, const struct device_usage *usage)
{
    fprintf(out, "{\"index\": %" PRIu32 ", \"uuid\": ", device->index);
    print_string(out, device->uuid);
    fprintf(out, ", \"name\": ");
    print_string(out, device->name);
    fprintf(out,
            ", \"capacity_bytes\": %" PRIu64 ", \"used_bytes\": %" PRIu64
            ", \"has_process_bytes\": %s, \"processes\": [",
            usage->capacity_bytes, usage->used_bytes, usage->has_process_bytes ? "true" : "false");
    for (size_t i = 0; i < usage->process_count; i++) {
        fprintf(out, "%s", i > 0 ? ", " : "");
        print_process(out, &usage->processes[i]);
    }
    fprintf(out, "]}");
}

int facts_print(FILE *out)
{
    static struct devices devices;
    static struct device_usage usage; /* 16 KiB */
    struct error err = { 0 };
    int r = devices_open(&devices, &err);
    size_t printed = 0;

    fprintf(out, "{\"gpus\": [");
    for (size_t i = 0; r == 0 && i < devices.count; i++) {
        r = device_read(&devices, &devices.items[i], &usage, &err);
        if (r == 0) {
            fprintf(out, "%s", printed++ > 0 ? ", " : "");
            print_gpu(out, &devices.items[i], &usage);
        }
    }
    fprintf(out, "], \"problem\": ");
    if (r < 0)
        print_string(out, err.message);
    else
        fprintf(out, "null");
    fprintf(out, ", \"driver_version\": ");
    print_string(out, devices.driver_version);
    fprintf(out, "}\n");
    devices_close(&devices);
    return fflush(out) == 0 && !ferror(out) ? 0 : -EIO;
}
