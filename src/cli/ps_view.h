/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PS_VIEW_H
#define CLI_PS_VIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/terminal.h"

/*
 * What `brim ps` prints: a status object of the API (docs/internals/api.md) as text. A member that
 * is missing counts as zero or empty, so an older or newer daemon is shown as far as it is
 * understood.
 */

struct ps_view {
    const struct terminal *terminal; /* borrowed */
    FILE *out;                       /* borrowed */
    const json_t *status;            /* borrowed */
    const json_t *batches;           /* borrowed: ps_batches_read(), or NULL */
    uint64_t now_unix_ms;
    bool has_daemon; /* false: the driver's own figures, all programs foreign */
    bool is_emulated;
    const char *emulated;      /* borrowed: the profiles, or NULL */
    bool has_gpus, has_leases; /* which of the two parts */
    unsigned next_count;       /* how many next commands to name */
};

/* 0 or -ENOMEM. */
int ps_view_print(const struct ps_view *view);

/* The names of the leases, one a line. */
void ps_view_print_names(const struct ps_view *view);

/* The parts: */
int ps_view_print_gpu(const struct ps_view *view, const json_t *gpu);
int ps_view_print_leases(const struct ps_view *view, const json_t *gpu);
int ps_view_print_waiting(const struct ps_view *view);
int ps_view_print_batches(const struct ps_view *view);
void ps_view_print_next(const struct ps_view *view);

/* A member of an object, forgiving. */
uint64_t ps_number(const json_t *object, const char *name);
const char *ps_text(const json_t *object, const char *name); /* "" where there is none */
bool ps_is_waiting(const json_t *lease);
bool ps_is_on(const json_t *lease, uint64_t gpu_index);

#endif
