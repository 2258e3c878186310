/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PYTHON_H
#define CLI_PYTHON_H

#include "base/error.h"

/*
 * brim run --python-janitor: a Python program that is not ours to edit gives back what PyTorch's
 * allocator keeps for nobody. All of it is environment: PYTHONPATH begins with the folder of a
 * sitecustomize (python/brim/_janitor), and PyTorch's allocator is told to use segments that grow
 * and shrink (pytorch.h).
 */

/* Sets this process's environment for command, NULL at its end, and says on stderr what was left
 * alone. -ENOENT where the Python package is not installed beside this program. */
int python_prepare(char *const *command, struct error *err);

#endif
