/* SPDX-License-Identifier: Apache-2.0 */

#include "batch/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"

#define CHUNK_BYTES ((size_t)256 << 10)

static void free_context(EVP_MD_CTX **context)
{
    EVP_MD_CTX_free(*context);
    *context = NULL;
}

int digest_bytes(const void *data, size_t data_bytes, unsigned char ret_digest[DIGEST_BYTES])
{
    return EVP_Digest(data, data_bytes, ret_digest, NULL, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;
}

int digest_file(int fd, unsigned char ret_digest[DIGEST_BYTES], uint64_t *ret_bytes)
{
    OWNED(free_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
    OWNED(freep) unsigned char *chunk = malloc(CHUNK_BYTES);
    uint64_t total = 0;

    if (!context || !chunk || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
        return -ENOMEM;
    for (;;) {
        const ssize_t got = pread(fd, chunk, CHUNK_BYTES, (off_t)total);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        if (EVP_DigestUpdate(context, chunk, (size_t)got) != 1)
            return -ENOMEM;
        total += (uint64_t)got;
    }
    if (EVP_DigestFinal_ex(context, ret_digest, NULL) != 1)
        return -ENOMEM;
    *ret_bytes = total;
    return 0;
}
