/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

/*
 * Log: one key=value line to stderr, with the <N> priority prefix that journald reads, and a time
 * stamp where nobody else adds one. Only programs log; libraries and pure folders return errors.
 *
 *   log_warn("evict", "lease=%" PRIu64 " bytes=%" PRIu64, id, bytes);
 *
 * Text that came from somebody else goes through log_escape() first.
 */

enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARN = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7,
};

/* Nothing below this level is written. Default: LOG_LEVEL_INFO. Not thread safe. */
void log_set_level(enum log_level level);

void log_write(enum log_level level, const char *area, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#define LOG_ESCAPED_BYTES 256

/* Copy foreign text with control characters, quotes, backslashes and what is no UTF-8 made harmless
 * (\xNN), and so what turns the direction of a line, cut to the buffer. Other UTF-8 stays readable.
 * Returns out. */
const char *log_escape(const char *text, char out[LOG_ESCAPED_BYTES]);

#endif
