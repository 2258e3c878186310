/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdlib.h>

/* OWNED(free_fn): the variable owns its value; free_fn(&variable) runs when the scope ends. */
#define OWNED(free_fn) __attribute__((cleanup(free_fn)))

/* Hand ownership of *slot to the caller and leave NULL behind. */
#define TAKE(slot)                                                                                 \
    (__extension__({                                                                               \
        __typeof__(slot) taken_ = (slot);                                                          \
        (slot) = NULL;                                                                             \
        taken_;                                                                                    \
    }))

/* For OWNED(freep) on any pointer from malloc. */
static inline void freep(void *slot)
{
    free(*(void **)slot);
}

#endif
