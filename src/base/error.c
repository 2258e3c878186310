/* SPDX-License-Identifier: Apache-2.0 */

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

int error_set(struct error *err, int code, const char *format, ...)
{
    va_list args;

    if (!err)
        return code;

    err->code = code;
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    return code;
}

int error_wrap(struct error *err, const char *context)
{
    char inner[sizeof(err->message)];

    (void)snprintf(inner, sizeof(inner), "%s", err->message);
    (void)snprintf(err->message, sizeof(err->message), "%.120s: %.380s", context, inner);
    return err->code;
}
