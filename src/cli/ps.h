/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PS_H
#define CLI_PS_H

/* `brim` without arguments: `brim ps`, and the likeliest next commands. Returns the exit status. */
int ps_and_next(void);

#endif
