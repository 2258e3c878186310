/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_SIZE_H
#define BASE_SIZE_H

#include <stdint.h>

#include "base/error.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define SIZE_TEXT_BYTES 24

/* Parse "5.2GiB" (binary), "12GB" (decimal) or "800m" (Docker) into bytes, fractions rounded down;
 * no unit is an error. The only place where text becomes a size.
 */
int size_parse(const char *text, uint64_t *ret_bytes, struct error *err)
    __attribute__((warn_unused_result));

/* Write bytes for a person: "8.9 GiB", "800 MiB", "12 KiB", "0". The number is rounded to nearest,
 * so that a size that was typed comes back as it was typed. Returns text.
 */
const char *size_format(uint64_t bytes, char text[SIZE_TEXT_BYTES]);

/* Write bytes so that size_parse() reads just them: in the largest binary unit that leaves no rest,
 * without a blank: "800MiB", "5GiB", "1025B". Returns text.
 */
const char *size_format_exact(uint64_t bytes, char text[SIZE_TEXT_BYTES]);

#endif
