/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NARRATOR_VOICE_H
#define NARRATOR_VOICE_H

#include <stdint.h>

/*
 * The voice: a sentence becomes a WAV file (mono, 16 bit), always the same bytes for the same
 * sentence. espeak-ng itself does not promise that: what it said before changes phase and noise of
 * what it says next, and it cannot be reset. So a process that has spoken never speaks again: the
 * voice is a small process that has the library loaded and forks a child a sentence.
 *
 *     narrator ---- text, path ----> voice --fork--> child: speaks, writes the file
 *         ^------------- bytes, hash, or what went wrong ------'
 *
 * voice_open() comes first in a program: before the GPU is touched, before threads, and before
 * descriptors are opened that a child must not keep alive. The voice ends with its parent, however
 * that ends.
 */

#define VOICE_TEXT_MAX   (64 * 1024)
#define VOICE_RATE_HZ    22050
#define VOICE_WAV_BYTES  44 /* the header before the samples */
#define VOICE_HASH_BYTES 65 /* SHA-256 in hexadecimal digits, and the end of the string */
#define VOICE_FAIL_BYTES 128

struct voice {
    int fd; /* owned; to the voice process */
};

struct voice_result {
    uint64_t pcm_bytes; /* of samples, the WAV header not counted */
    char pcm_sha256[VOICE_HASH_BYTES];
    char failure[VOICE_FAIL_BYTES]; /* empty: it worked */
};

/* Start the voice process; 0 or -errno. */
int voice_open(struct voice *voice);
void voice_close(struct voice *voice);

/* Begin to speak text into a file at path; one sentence at a time. 0 or -errno. */
int voice_begin(struct voice *voice, const char *text, const char *path);

/* Wait until it is done. 0 (see failure), or -errno where the voice process is gone. */
int voice_end(struct voice *voice, struct voice_result *ret_result);

#endif
