/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_DRIVER_H
#define EMU_DRIVER_H

/*
 * The driver that is emulated: its branch decides what it says of itself and which of the known
 * hazards it has (docs/emulator.md).
 */

#define EMU_DRIVER_VARIABLE "BRIM_EMU_DRIVER"
#define EMU_DRIVER_DEFAULT  580

struct emu_driver {
    int branch;
    int cuda_version;
    const char *version;
};

/* NULL: not a branch that is emulated. */
const struct emu_driver *driver_find(int branch);
/* In the libraries: the one of the emulator that this process runs in. */
const struct emu_driver *driver_own(void);

#endif
