/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/template.h"

#include <stdlib.h>
#include <string.h>

/* What stands for the variable at the beginning of text, or NULL; *ret_length is the variable's. */
static const char *match(const char *text, const struct template_values *values, size_t *ret_length)
{
    const struct {
        const char *name;
        const char *value;
    } variables[] = {
        { "${SEGMENT}", values->segment },
        { "${INPUT}", values->input },
        { "${OUT}", values->out },
    };

    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        const size_t length = strlen(variables[i].name);
        if (variables[i].value && strncmp(text, variables[i].name, length) == 0) {
            *ret_length = length;
            return variables[i].value;
        }
    }
    return NULL;
}

/* Called twice: with to = NULL to count, then to write. Returns the length of the result. */
static size_t expand(const char *text, const struct template_values *values, char *to)
{
    size_t used = 0, length = 0;

    while (*text) {
        const char *value = match(text, values, &length);
        const size_t value_length = value ? strlen(value) : 1;
        if (to)
            memcpy(to + used, value ? value : text, value_length);
        used += value_length;
        text += value ? length : 1;
    }
    return used;
}

char *template_expand(const char *text, const struct template_values *values)
{
    const size_t length = expand(text, values, NULL);
    char *result = malloc(length + 1);

    if (!result)
        return NULL;
    (void)expand(text, values, result);
    result[length] = '\0';
    return result;
}
