/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_YAML_H
#define CONFIG_YAML_H

#include <libfyaml.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Walking a YAML document by tables of keys, with the place of everything in error texts. Inside
 * config/ only.
 */

struct yaml {
    const char *name;         /* borrowed: the file as messages call it */
    const char *dir;          /* borrowed: where relative paths begin */
    struct error *err;        /* borrowed */
    struct fy_diag *diag;     /* owned */
    struct fy_parser *parser; /* owned */
    struct fy_document *document;
    struct fy_node *key; /* whose value is being read */
    char problem[256];   /* the parser's own: ":4:1: error: …" */
};

struct yaml_key {
    const char *name;
    /* Reads the value into target; negative after yaml_error(). */
    int (*read)(struct yaml *yaml, const char *key, struct fy_node *value, void *target);
};

/* "brim.yaml:14:5: " and the text; returns -EINVAL. */
int yaml_error(struct yaml *yaml, struct fy_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4), nonnull(3)));

/* Each key of the mapping goes to its reader; unknown and repeated keys are errors. `what` names
 * the mapping in texts ("batch 'narrate'"). */
int yaml_walk(struct yaml *yaml, struct fy_node *mapping, const char *what,
              const struct yaml_key *keys, size_t key_count, void *target);

/* Readers; `key` is for the message. Each returned text or list is owned by the caller and replaces
 * nothing on failure. */
int yaml_text(struct yaml *yaml, const char *key, struct fy_node *node, char **ret_text);
int yaml_path(struct yaml *yaml, const char *key, struct fy_node *node, char **ret_path);
int yaml_list(struct yaml *yaml, const char *key, struct fy_node *node, char ***ret_list);
int yaml_environment(struct yaml *yaml, const char *key, struct fy_node *node, char ***ret_list);
int yaml_size(struct yaml *yaml, const char *key, struct fy_node *node, uint64_t *ret_bytes);
int yaml_duration(struct yaml *yaml, const char *key, struct fy_node *node, uint64_t *ret_ms);
int yaml_count(struct yaml *yaml, const char *key, struct fy_node *node, uint32_t limit,
               uint32_t *ret_count);

/* The document of the text, without anchors resolved. -EINVAL with the parser's own message. */
int yaml_open(struct yaml *yaml, const char *text, size_t text_bytes);
void yaml_close(struct yaml *yaml);

#endif
