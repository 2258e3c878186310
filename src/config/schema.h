/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

#include "base/cleanup.h"
#include "config/yaml.h"
#include "stack/stack.h"

/* One member of `batches:`; inside config/ only. The batch is the caller's to end. */
int schema_read_batch(struct yaml *yaml, struct fy_node *name, struct fy_node *value,
                      struct stack_batch *batch);

#endif
