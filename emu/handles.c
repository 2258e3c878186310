/* SPDX-License-Identifier: Apache-2.0 */

#include "handles.h"

#include <stdlib.h>

#define SLOT_BITS       20
#define SLOT_MAX        ((UINT32_C(1) << SLOT_BITS) - 1)
#define GENERATION_MASK UINT32_C(0xfffff)
#define ALIGNMENT_BITS                                                                             \
    4 /* like memory from malloc; also keeps clear of the special streams 1, 2                     \
       */

static void *make_handle(uint32_t slot, uint32_t generation)
{
    const uint64_t number = (uint64_t)generation << SLOT_BITS | (slot + 1);

    return (void *)(uintptr_t)(number << ALIGNMENT_BITS); /* NOLINT: a number, not an address */
}

static int take_slot(struct handles *handles, uint32_t *ret_slot)
{
    if (handles->first_free != 0) {
        *ret_slot = handles->first_free - 1;
        handles->first_free = handles->slots[*ret_slot].next_free;
        return 0;
    }
    if (handles->slot_count == handles->slot_room) {
        const uint32_t room = handles->slot_room > 0 ? 2 * handles->slot_room : 16;
        struct handle_slot *const more =
            room > SLOT_MAX ? NULL : realloc(handles->slots, room * sizeof(*more));
        if (!more)
            return -1;
        handles->slots = more;
        handles->slot_room = room;
    }
    *ret_slot = handles->slot_count++;
    handles->slots[*ret_slot] = (struct handle_slot){ 0 };
    return 0;
}

void *handle_new(struct handles *handles, void *object)
{
    uint32_t slot = 0;

    if (take_slot(handles, &slot) < 0)
        return NULL;
    handles->slots[slot].object = object;
    return make_handle(slot, handles->slots[slot].generation);
}

/* Also of a handle that is hidden. */
static struct handle_slot *find_kept(const struct handles *handles, const void *handle)
{
    const uint64_t number = (uint64_t)(uintptr_t)handle >> ALIGNMENT_BITS;
    const uint64_t slot = (number & SLOT_MAX) - 1; /* 0 becomes far too large */

    if (slot >= handles->slot_count ||
        handle != make_handle((uint32_t)slot, handles->slots[slot].generation))
        return NULL;
    return &handles->slots[slot];
}

static struct handle_slot *find_slot(const struct handles *handles, const void *handle)
{
    struct handle_slot *const slot = find_kept(handles, handle);

    return slot && slot->object ? slot : NULL;
}

void *handle_get(const struct handles *handles, const void *handle)
{
    const struct handle_slot *const slot = find_slot(handles, handle);

    return slot ? slot->object : NULL;
}

void handle_free(struct handles *handles, const void *handle)
{
    struct handle_slot *const slot = find_slot(handles, handle);

    if (!slot)
        return;
    slot->object = NULL;
    slot->generation = (slot->generation + 1) & GENERATION_MASK;
    slot->next_free = handles->first_free;
    handles->first_free = (uint32_t)(slot - handles->slots) + 1;
}

void handle_hide(struct handles *handles, const void *handle)
{
    struct handle_slot *const slot = find_slot(handles, handle);

    if (slot)
        slot->object = NULL;
}

void handle_show(struct handles *handles, const void *handle, void *object)
{
    struct handle_slot *const slot = find_kept(handles, handle);

    if (slot)
        slot->object = object;
}
