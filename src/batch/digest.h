/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BATCH_DIGEST_H
#define BATCH_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 32 /* SHA-256 */

/* Of bytes in memory. 0 or -ENOMEM. */
int digest_bytes(const void *data, size_t data_bytes, unsigned char ret_digest[DIGEST_BYTES])
    __attribute__((warn_unused_result));

/* Of a file from its beginning; also tells its size. 0 or -errno. */
int digest_file(int fd, unsigned char ret_digest[DIGEST_BYTES], uint64_t *ret_bytes)
    __attribute__((warn_unused_result));

#endif
