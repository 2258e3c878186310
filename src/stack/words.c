/* SPDX-License-Identifier: Apache-2.0 */

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "stack/stack.h"

int stack_count_parse(const char *text, uint32_t limit, uint32_t *ret_count, struct error *err)
{
    uint64_t number = 0;
    const char *rest = text;

    for (; isdigit((unsigned char)*rest) && number <= UINT32_MAX; rest++)
        number = number * 10 + (unsigned)(*rest - '0');
    if (rest == text || *rest != '\0')
        return error_set(err, -EINVAL, "'%s' is not a whole number", text);
    if (number > limit)
        return error_set(err, -EINVAL, "'%s' is too large; at most %" PRIu32 " is possible", text,
                         limit);
    *ret_count = (uint32_t)number;
    return 0;
}

static int workers_error(const char *text, struct error *err)
{
    return error_set(err, -EINVAL,
                     "workers: '%s' is not auto, a number or a range like 1..3 (1 to %d)", text,
                     STACK_WORKER_MAX);
}

int stack_workers_parse(const char *text, uint32_t *ret_min, uint32_t *ret_max, struct error *err)
{
    const char *dots = strstr(text, "..");
    char low[16] = "";
    uint32_t min = 0, max = 0;

    if (strcmp(text, "auto") == 0) {
        *ret_min = 1;
        *ret_max = STACK_WORKER_MAX;
        return 0;
    }
    if (dots && (size_t)(dots - text) >= sizeof(low))
        return workers_error(text, err);
    memcpy(low, text, dots ? (size_t)(dots - text) : 0);
    if (stack_count_parse(dots ? low : text, STACK_WORKER_MAX, &min, NULL) < 0 ||
        stack_count_parse(dots ? dots + 2 : text, STACK_WORKER_MAX, &max, NULL) < 0)
        return workers_error(text, err);
    if (min < 1 || max < min)
        return workers_error(text, err);
    /* A plain number is how many are wanted at most: fewer run while fewer fit. */
    *ret_min = min;
    *ret_max = max;
    return 0;
}

static int word_index(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, words[i]) == 0)
            return (int)i;
    }
    return -1;
}

int stack_protocol_parse(const char *text, enum stack_protocol *ret_protocol, struct error *err)
{
    static const char *const words[] = { "fd", "stdio", "each" };
    const int found = word_index(text, words, sizeof(words) / sizeof(words[0]));

    if (found < 0)
        return error_set(err, -EINVAL, "protocol: '%s' is not fd, stdio or each", text);
    *ret_protocol = (enum stack_protocol)found;
    return 0;
}

int stack_flush_parse(const char *text, enum stack_flush *ret_flush, struct error *err)
{
    static const char *const words[] = { "auto", "worker", "restart" };
    const int found = word_index(text, words, sizeof(words) / sizeof(words[0]));

    if (found < 0)
        return error_set(err, -EINVAL, "flush by: '%s' is not auto, worker or restart", text);
    *ret_flush = (enum stack_flush)found;
    return 0;
}

int stack_priority_parse(const char *text, enum stack_priority *ret_priority, struct error *err)
{
    static const char *const words[] = { "normal", "interactive", "background" };
    const int found = word_index(text, words, sizeof(words) / sizeof(words[0]));

    if (found < 0)
        return error_set(err, -EINVAL, "priority: '%s' is not interactive, normal or background",
                         text);
    *ret_priority = (enum stack_priority)found;
    return 0;
}

int stack_name_check(const char *name, struct error *err)
{
    const size_t length = strlen(name);
    size_t good = 0;

    while (name[good] && (isalnum((unsigned char)name[good]) || strchr("._-", name[good])))
        good++;
    if (length == 0 || length >= STACK_NAME_BYTES || good != length || name[0] == '.' ||
        name[0] == '-')
        return error_set(err, -EINVAL,
                         "'%.80s' cannot be a name: 1 to %d letters, digits, '.', '_' or '-', not "
                         "starting with '.' or '-'",
                         name, STACK_NAME_BYTES - 1);
    return 0;
}
