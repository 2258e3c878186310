/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

/*
 * Errors
 *
 *   0         success
 *   negative  failure (-errno): pass it up unchanged, or log it at the top and stop
 *   positive  refusal: an outcome the module documents (LEDGER_REFUSED_*);
 *             the direct caller must handle it and must not pass it up
 *
 * A function that can fail for a reason a person must read takes a trailing `struct error *err`,
 * on the caller's stack: no allocation, nothing to free, untouched on success.
 */

struct error {
    int code;          /* the negative return value */
    char message[512]; /* one line, no trailing newline or period */
};

/* Fill *err (may be NULL) and return code, so a failure reads `return error_set(err, -EIO, ...)`.
 */
int error_set(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Prefix the message with context: "load config: " + what was there. Returns err->code. */
int error_wrap(struct error *err, const char *context);

#endif
