/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/error.h"
#include "stack/stack.h"

/*
 * Config: brim.yaml -> stack. Strict: a key that is not known, or that stands twice, a number
 * without its unit, a list where a text is wanted are errors that name file, line and column.
 * Relative paths are taken from the file's directory, which is also the workers' directory.
 */

#define CONFIG_FILE_DEFAULT "brim.yaml"

/* Read the file. -ENOENT without one, -EINVAL with "brim.yaml:14:5: ..." for what is wrong in it.
 * On success the caller ends it with stack_deinit(). */
int config_load(const char *path, struct stack *ret_stack, struct error *err)
    __attribute__((warn_unused_result));

/* The same from text in memory; `name` stands in messages, `dir` (absolute) is where relative paths
 * begin. */
int config_parse(const char *text, size_t text_bytes, const char *name, const char *dir,
                 struct stack *ret_stack, struct error *err) __attribute__((warn_unused_result));

#endif
