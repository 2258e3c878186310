/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/refusals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int refusals_init(struct refusals *refusals)
{
    refusals->next_id = 1;
    refusals->ring = calloc(REFUSALS_KEPT, sizeof(*refusals->ring));
    return refusals->ring ? 0 : -ENOMEM;
}

void refusals_deinit(struct refusals *refusals)
{
    for (size_t i = 0; refusals->ring && i < REFUSALS_KEPT; i++)
        free(refusals->ring[i].text);
    free(refusals->ring);
    refusals->ring = NULL;
}

static const struct refusal_record *put(struct refusals *refusals,
                                        const struct refusal_record *record, uint64_t id)
{
    struct refusal_record *place = &refusals->ring[id % REFUSALS_KEPT];
    char *text = strdup(record->text ? record->text : "");

    if (!text)
        return NULL;
    free(place->text);
    *place = *record;
    place->id = id;
    place->text = text;
    return place;
}

const struct refusal_record *refusals_add(struct refusals *refusals,
                                          const struct refusal_record *record)
{
    const struct refusal_record *kept = put(refusals, record, refusals->next_id);

    if (kept)
        refusals->next_id++;
    return kept;
}

int refusals_restore(struct refusals *refusals, const struct refusal_record *record)
{
    if (record->id == 0 || record->id == UINT64_MAX)
        return -EINVAL;
    if (!put(refusals, record, record->id))
        return -ENOMEM;
    if (record->id >= refusals->next_id)
        refusals->next_id = record->id + 1;
    return 0;
}

const struct refusal_record *refusals_find(const struct refusals *refusals, uint64_t id)
{
    const struct refusal_record *record = &refusals->ring[id % REFUSALS_KEPT];

    return id != 0 && record->id == id ? record : NULL;
}

const struct refusal_record *refusals_find_name(const struct refusals *refusals, const char *name)
{
    const struct refusal_record *newest = NULL;

    for (size_t i = 0; i < REFUSALS_KEPT; i++) {
        const struct refusal_record *record = &refusals->ring[i];
        if (record->id != 0 && (!newest || record->id > newest->id) &&
            strcmp(record->name, name) == 0)
            newest = record;
    }
    return newest;
}
