/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_COPY_H
#define EMU_COPY_H

#include "stream.h"

/*
 * Copies, by what calls have in common: a request is checked as a whole, then becomes work for
 * each piece of it.
 *
 *   cuda_copy.c        rows of bytes             cuda_copy2d.c   boxes: rows with a pitch
 *   cuda_copy_array.c  bytes of arrays
 */

/* Bytes as a call names them. */
struct copy_operand {
    CUdeviceptr address;
    bool is_device;       /* said by the call; else by the address */
    unsigned char access; /* what the card must be allowed, where memory is mapped */
};

/* One call: what it copies, how, and where. */
struct copy_request {
    CUdeviceptr to, from;
    bool is_to_device, is_from_device; /* said by the call; else by the address */
    bool is_async;
    size_t bytes;
    CUstream stream;
    const char *call;
    bool is_asked; /* whether the call is to fail was asked for already */
};

/* Which bytes an address means, and how many of the wanted ones lie there in one piece. Device
 * bytes must lie in one allocation, or in mappings that follow each other. */
CUresult copy_locate(const struct copy_operand *operand, uint64_t at, size_t *inout_bytes,
                     const struct CUctx_st *context, struct end *ret_end);
/* All of it, before any of it is touched. */
CUresult copy_check(const struct copy_operand *operand, size_t bytes,
                    const struct CUctx_st *context);
/* Do or queue the work as the request says; gives the lock back. */
CUresult copy_submit(struct work *work, const struct copy_request *request);
/* A row of bytes. */
CUresult copy_run(const struct copy_request *request);

#endif
