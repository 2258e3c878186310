/* SPDX-License-Identifier: Apache-2.0 */
#include "voice.h"

#include <errno.h>
#include <espeak-ng/speak_lib.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define VOICE_FD          3
#define PATH_BYTES        4096
#define SAMPLE_BYTES      2
#define AUDIO_FIRST_BYTES ((size_t)1 << 20)
#define AUDIO_MAX_BYTES   ((size_t)1 << 29)

struct voice_request {
    uint32_t text_bytes; /* with the end of the string */
    char path[PATH_BYTES];
    char text[VOICE_TEXT_MAX];
};

/* The child's audio as it grows; the callback of espeak-ng has no other place for it. */
static struct audio {
    uint8_t *bytes; /* owned */
    size_t size_bytes;
    size_t room_bytes;
    bool is_cut; /* no memory, or more than anybody wants */
} audio;

static int on_samples(short *samples, int count, espeak_EVENT *events)
{
    (void)events;
    if (!samples || count <= 0)
        return 0;
    size_t more_bytes = (size_t)count * SAMPLE_BYTES;
    if (audio.size_bytes + more_bytes > audio.room_bytes) {
        size_t room_bytes = audio.room_bytes ? 2 * audio.room_bytes : AUDIO_FIRST_BYTES;
        uint8_t *bytes = room_bytes <= AUDIO_MAX_BYTES ? realloc(audio.bytes, room_bytes) : NULL;
        if (!bytes) {
            audio.is_cut = true;
            return 1; /* stop speaking */
        }
        audio.bytes = bytes;
        audio.room_bytes = room_bytes;
    }
    memcpy(audio.bytes + audio.size_bytes, samples, more_bytes);
    audio.size_bytes += more_bytes;
    return 0;
}

/* As it lies in the file: little-endian, as every machine is that has this driver. */
struct __attribute__((packed)) wav_header {
    char riff[4];
    uint32_t rest_bytes;
    char wave[8];
    uint32_t format_bytes;
    uint16_t format, channel_count;
    uint32_t rate_hz, rate_bytes;
    uint16_t frame_bytes, sample_bits;
    char data[4];
    uint32_t pcm_bytes;
};

_Static_assert(sizeof(struct wav_header) == VOICE_WAV_BYTES, "a WAV header");

static struct wav_header wav_header(uint32_t pcm_bytes)
{
    return (struct wav_header){
        .riff = { 'R', 'I', 'F', 'F' },
        .rest_bytes = pcm_bytes + VOICE_WAV_BYTES - 8,
        .wave = { 'W', 'A', 'V', 'E', 'f', 'm', 't', ' ' },
        .format_bytes = 16,
        .format = 1, /* PCM */
        .channel_count = 1,
        .rate_hz = VOICE_RATE_HZ,
        .rate_bytes = VOICE_RATE_HZ * SAMPLE_BYTES,
        .frame_bytes = SAMPLE_BYTES,
        .sample_bits = 8 * SAMPLE_BYTES,
        .data = { 'd', 'a', 't', 'a' },
        .pcm_bytes = pcm_bytes,
    };
}

static int write_wav(const char *path)
{
    struct wav_header header = wav_header((uint32_t)audio.size_bytes);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    int r = fd_write_all(fd, &header, sizeof(header));
    if (r == 0 && audio.size_bytes > 0)
        r = fd_write_all(fd, audio.bytes, audio.size_bytes);
    if (close(fd) != 0 && r == 0)
        r = -errno;
    return r;
}

static void hash_audio(char ret_text[VOICE_HASH_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char hash[SHA256_DIGEST_LENGTH];
    SHA256(audio.bytes, audio.size_bytes, hash);
    for (size_t i = 0; i < sizeof(hash); i++) {
        ret_text[2 * i] = digits[hash[i] >> 4];
        ret_text[2 * i + 1] = digits[hash[i] & 15];
    }
    ret_text[2 * sizeof(hash)] = '\0';
}

/* The child: one sentence, one answer, and the end. */
static void speak(const struct voice_request *request)
{
    struct voice_result result = { 0 };
    espeak_ERROR status = espeak_Synth(request->text, request->text_bytes, 0, POS_CHARACTER, 0,
                                       espeakCHARS_UTF8, NULL, NULL);
    if (status != EE_OK)
        snprintf(result.failure, sizeof(result.failure), "espeak-ng failed: %d", (int)status);
    else if (audio.is_cut)
        snprintf(result.failure, sizeof(result.failure), "the audio is too long");
    int r = result.failure[0] ? 0 : write_wav(request->path);
    if (r < 0)
        snprintf(result.failure, sizeof(result.failure), "writing the audio: %s", strerror(-r));
    result.pcm_bytes = audio.size_bytes;
    hash_audio(result.pcm_sha256);
    ssize_t sent = send(VOICE_FD, &result, sizeof(result), MSG_NOSIGNAL);
    _exit(sent == (ssize_t)sizeof(result) ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* NULL, or why there will be no voice. */
static const char *engine_start(void)
{
    if (espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 200, NULL, espeakINITIALIZE_DONT_EXIT) !=
        VOICE_RATE_HZ)
        return "espeak-ng does not start: is espeak-ng-data installed?";
    espeak_SetSynthCallback(on_samples);
    if (espeak_SetVoiceByName("en") != EE_OK)
        return "espeak-ng has no voice \"en\": is espeak-ng-data installed?";
    return NULL;
}

static void answer_failure(const char *failure)
{
    struct voice_result result = { 0 };
    snprintf(result.failure, sizeof(result.failure), "%s", failure);
    if (send(VOICE_FD, &result, sizeof(result), MSG_NOSIGNAL) < 0)
        _exit(EXIT_FAILURE);
}

static void follow_parent(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_FAILURE);
}

static const char *speak_in_child(const struct voice_request *request)
{
    pid_t self = getpid();
    pid_t child = fork();
    if (child == 0) {
        follow_parent(self);
        speak(request);
    }
    if (child < 0)
        return "fork failed";
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return "the process that spoke is lost";
    }
    return status == 0 ? NULL : "the process that spoke died";
}

static void voice_serve(void)
{
    static struct voice_request request;
    const char *no_engine = engine_start();
    while (recv(VOICE_FD, &request, sizeof(request), 0) > 0) {
        const char *failure = no_engine ? no_engine : speak_in_child(&request);
        if (failure)
            answer_failure(failure);
    }
    _exit(EXIT_SUCCESS);
}

int voice_open(struct voice *voice)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    pid_t self = getpid();
    pid_t child = fork();
    if (child < 0) {
        int r = -errno;
        close(fds[0]);
        close(fds[1]);
        return r;
    }
    if (child == 0) {
        follow_parent(self);
        /* Nothing of the parent's, above all not $BRIM_FD, may live on in here. */
        if (dup2(fds[1], VOICE_FD) < 0 || close_range(VOICE_FD + 1, ~0u, 0) < 0)
            _exit(EXIT_FAILURE);
        voice_serve();
    }
    close(fds[1]);
    voice->fd = fds[0];
    return 0;
}

void voice_close(struct voice *voice)
{
    fd_close(&voice->fd);
}

int voice_begin(struct voice *voice, const char *text, const char *path)
{
    static struct voice_request request;
    size_t text_bytes = strlen(text) + 1;
    size_t path_bytes = strlen(path) + 1;
    if (text_bytes > sizeof(request.text) || path_bytes > sizeof(request.path))
        return -ENAMETOOLONG;
    request.text_bytes = (uint32_t)text_bytes;
    memcpy(request.path, path, path_bytes);
    memcpy(request.text, text, text_bytes);
    size_t request_bytes = sizeof(request) - sizeof(request.text) + text_bytes;
    return send(voice->fd, &request, request_bytes, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int voice_end(struct voice *voice, struct voice_result *ret_result)
{
    ssize_t got;
    do {
        got = recv(voice->fd, ret_result, sizeof(*ret_result), 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    if (got != (ssize_t)sizeof(*ret_result))
        return -EPIPE;
    ret_result->failure[sizeof(ret_result->failure) - 1] = '\0';
    ret_result->pcm_sha256[sizeof(ret_result->pcm_sha256) - 1] = '\0';
    return 0;
}
