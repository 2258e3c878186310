/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* "Never": a deadline that does not come. */
#define CLOCK_NEVER_MS UINT64_MAX

/* Monotonic time, for deadlines and durations; unaffected by changes of the wall clock. */
uint64_t clock_now_ns(void);
uint64_t clock_now_ms(void);

/* Unix time in milliseconds, only to be shown or stored. */
uint64_t clock_wall_ms(void);

/* now + delay, which stays at CLOCK_NEVER_MS instead of wrapping around. */
uint64_t clock_after_ms(uint64_t now_ms, uint64_t delay_ms);

/* Parse "250ms", "10m", "1.5h", "30s" or "2d" into milliseconds; "0" needs no unit. */
struct error;
int duration_parse(const char *text, uint64_t *ret_ms, struct error *err)
    __attribute__((warn_unused_result));

#define DURATION_TEXT_BYTES 24

/* Write a duration for a person: "850 ms", "4.2 s", "3 m 20 s", "7 h 04 m". Returns text. */
const char *duration_format(uint64_t duration_ms, char text[DURATION_TEXT_BYTES]);

#endif
