/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

/*
 * The commands of `brim`, one file each. A command gets its own arguments, argv[0] being its name
 * ("ps"), prints to stdout what was asked for and to stderr what went wrong, and returns the exit
 * status. main.c lists them; a command that only some builds have is not listed there.
 */

#define COMMAND_OK      0
#define COMMAND_FAILED  1
#define COMMAND_USAGE   2 /* usage or configuration */
#define COMMAND_NO_FIT  3 /* can never fit */
#define COMMAND_NO_ROOM 4 /* no room in time */

int cmd_ps(int argc, char **argv);
int cmd_why(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_batch(int argc, char **argv);
int cmd_trim(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_flush(int argc, char **argv);
int cmd_emulate(int argc, char **argv);
int cmd_daemon(int argc, char **argv);

#endif
