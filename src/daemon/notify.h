/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/* Tell systemd (Type=notify) how we are: "READY=1", "STOPPING=1". One datagram to $NOTIFY_SOCKET;
 * nothing where there is none. 0 or -errno. */
int notify_systemd(const char *state);

#endif
