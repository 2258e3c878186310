/* SPDX-License-Identifier: Apache-2.0 */

/* The name by which libFuzzer calls a target. */

#include "fuzz.h"

/* NOLINTNEXTLINE(readability-identifier-naming) */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t byte_count);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t byte_count)
{
    fuzz_one(bytes, byte_count);
    return 0;
}
