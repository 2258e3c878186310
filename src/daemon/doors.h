/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_DOORS_H
#define DAEMON_DOORS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/*
 * The doors: that a daemon stays where clients look for it.
 *
 * The runtime directory can vanish under a living daemon: logind removes it when its user logs out,
 * while programs and batches may go on, and makes it anew, empty, at the next login. Whoever is
 * connected stays so and is served as before. The directory, its lock and both sockets are made
 * again as soon as that is possible, and every second is tried where it is not.
 *
 *   sockets gone ──settle──▶ made again: new clients come in; followers of events connect again
 *                  │  ▲
 *                  │  └── a second later: the directory cannot be made (nobody is logged in)
 *                  └──▶ another brimd has the place, or nobody is left that is connected or holds
 *                       anything: this one ends, and keeps no gpu from the next
 */

struct daemon;

struct doors {
    uv_fs_event_t watch; /* changes in the runtime directory */
    uv_timer_t timer;    /* until the removal has settled; until the next try */
    uint64_t lost_ms;    /* when they were found gone; 0: they are there */
    bool is_watched;
    bool has_complained;
};

void doors_open(struct daemon *daemon);
/* Where the kernel has no watch left: look by hand. */
void doors_check(struct daemon *daemon);
void doors_close(struct daemon *daemon);

#endif
