/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PYTORCH_H
#define CLI_PYTORCH_H

/*
 * The setting of PyTorch's allocator for a program that brim run starts: segments that grow and
 * shrink, so that what the janitor gives back is as much as it can be.
 *
 * It is left alone, and that is said on stderr, where
 *
 *     the operator has a setting            under either of its two names
 *     the engine refuses it                 vLLM in sleep mode, SGLang with its memory saver
 *     the program makes a MemPool           its script says so: the pool's allocator may refuse it
 *     the program may be checkpointed       BRIM_PARK=checkpoint: a driver that checkpoints a
 *                                           process may not take such segments along
 */

/* Sets this process's environment for command, NULL at its end. 0, or a negative errno. */
int pytorch_set_allocator(char *const *command);

#endif
