/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_API_SERVER_H
#define TESTS_API_SERVER_H

#include <stddef.h>
#include <sys/types.h>

/*
 * The API in a process of its own with a made-up source, and requests as bytes over its socket.
 * POST /v1/trim is the tests' handle: the name "flood" appends many events, any other name one.
 */

#define API_ANSWER_BYTES (512 * 1024)
#define API_PATIENCE_MS  8000 /* longer than the server's own time-outs */

void api_server_start(void);
pid_t api_server_pid(void);
const char *api_server_directory(void);
/* After POST /v1/shutdown: its wait status; and then away with its directory; both in one. */
int api_server_wait(void);
void api_server_clean(void);
int api_server_stop(void);

int api_connect(void);
void api_send(int fd, const char *text, size_t bytes);
/* Read until the other end closes, or until `until` was seen. Returns the bytes, -1 on a time-out.
 */
ssize_t api_receive(int fd, char *answer, const char *until);
/* Send a whole request; its status (0: closed without one), and its body, which lasts until the
 * next one, in *ret_body (may be NULL). */
int api_ask(const char *method, const char *target, const char *body, const char **ret_body);

#endif
