/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_HANDLES_H
#define EMU_HANDLES_H

#include <stddef.h>
#include <stdint.h>

/*
 * Handles of contexts, streams and events: numbers that look like pointers and are never
 * dereferenced. A handle that was destroyed, or never was one, is told from a living one by its
 * slot's generation, also when the slot is in use again.
 */

struct handles {
    struct handle_slot {
        void *object; /* borrowed; NULL: free */
        uint32_t generation;
        uint32_t next_free; /* slot + 1 */
    } * slots;              /* owned */
    uint32_t slot_count, slot_room, first_free;
};

/* NULL: no memory. */
void *handle_new(struct handles *handles, void *object);
/* The object, or NULL for anything that is no living handle. */
void *handle_get(const struct handles *handles, const void *handle);
/* A handle that is kept for an object that is gone, and for the next one. */
void handle_hide(struct handles *handles, const void *handle);
void handle_show(struct handles *handles, const void *handle, void *object);
void handle_free(struct handles *handles, const void *handle);

#endif
