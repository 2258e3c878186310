/* SPDX-License-Identifier: Apache-2.0 */

#include "driver.h"

#include <stddef.h>
#include <stdlib.h>

static const struct emu_driver drivers[] = {
    { 570, 12080, "570.86.10" },
    { 580, 13000, "580.65.06" },
    { 595, 13020, "595.84" },
    { 610, 13030, "610.57.04" },
};

const struct emu_driver *driver_find(int branch)
{
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        if (drivers[i].branch == branch)
            return &drivers[i];
    }
    return NULL;
}

/* From the environment, because a version is asked for before there is a connection. */
const struct emu_driver *driver_own(void)
{
    const char *const text = secure_getenv(EMU_DRIVER_VARIABLE);
    const struct emu_driver *const found = text ? driver_find((int)strtol(text, NULL, 10)) : NULL;

    return found ? found : driver_find(EMU_DRIVER_DEFAULT);
}
