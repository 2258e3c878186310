/* SPDX-License-Identifier: Apache-2.0 */

#include <stddef.h>

#include <brim/brim.h>

static const struct {
    int code;
    const char *name;
    const char *text;
} codes[] = {
#define X(name, value, message) { (value), #name, message },
    BRIM_ERROR_MAP(X)
#undef X
};

const char *brim_strerror(int code)
{
    if (code == 0)
        return "success";
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].code == code)
            return codes[i].text;
    }
    return "unknown code";
}

const char *brim_error_name(int code)
{
    if (code == 0)
        return "OK";
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].code == code)
            return codes[i].name;
    }
    return "UNKNOWN";
}

const char *brim_version(void)
{
    return BRIM_VERSION;
}
