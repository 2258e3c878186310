#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The narrator as a Python program: the same work as worker.c, and the same audio, sample for sample.

    brim batch run … -- python3 examples/narrator/worker.py [--log FILE]

It holds 5.2 GB of device memory for its model and takes up to 2.1 GB more for a segment, by its
length. The batch's side is the loop in main(); all else stands for a model: libcuda and libespeak-ng
by ctypes, and canaries in the device memory that show whether anybody else writes there.
"""
import argparse
import ctypes
import hashlib
import os
import signal
import socket
import struct
import sys

import brim

MODEL_BYTES = 5_200_000_000
WORK_BYTES = 2_100_000_000
CHUNK_BYTES = 128 << 20
STEP_BYTES = 2 << 20  # a canary page at the start of each
PAGE_BYTES = 4096
LEAST_WORK_BYTES = 64 << 20
LONGEST_TEXT = 220  # bytes of text that take all of the working memory
CHECKED_CHUNKS = 4
RATE_HZ = 22050
CUDA_OUT_OF_MEMORY = 2


class Voice:
    """A process that has the voice loaded and forks a child a sentence: what espeak-ng said before
    changes what it says next, so a process that has spoken never speaks again (see voice.h)."""

    def __init__(self):
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        if os.fork() == 0:
            try:
                follow_parent(parent)
                # Nothing of the parent's, above all not $BRIM_FD, may live on in here.
                os.dup2(theirs.fileno(), 3)
                os.closerange(4, 1024)
                serve_voice(socket.socket(fileno=3))
            finally:
                os._exit(1)
        theirs.close()

    def speak(self, text, path):
        """(bytes of samples, their SHA-256); OSError where this cannot be spoken."""
        self._link.send(b"\0".join((os.fsencode(path), text.encode())))
        answer = self._link.recv(4096).decode()
        if not answer:
            raise OSError("the voice is gone")
        kind, _, rest = answer.partition(" ")
        if kind != "spoken":
            raise OSError(rest)
        size, sha256 = rest.split()
        return int(size), sha256


def follow_parent(parent):
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def serve_voice(link):
    espeak = ctypes.CDLL("libespeak-ng.so.1")
    samples = bytearray()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def on_samples(wave, count, _events):
        if wave and count > 0:
            samples.extend(ctypes.string_at(wave, 2 * count))
        return 0

    AUDIO_OUTPUT_SYNCHRONOUS, DONT_EXIT, POS_CHARACTER, CHARS_UTF8 = 2, 0x8000, 1, 1
    failure = None
    if espeak.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 200, None, DONT_EXIT) != RATE_HZ:
        failure = "espeak-ng does not start: is espeak-ng-data installed?"
    espeak.espeak_SetSynthCallback(on_samples)
    if not failure and espeak.espeak_SetVoiceByName(b"en") != 0:
        failure = 'espeak-ng has no voice "en": is espeak-ng-data installed?'
    espeak.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
                                    ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]

    def speak(path, text):
        status = espeak.espeak_Synth(text, len(text) + 1, 0, POS_CHARACTER, 0, CHARS_UTF8, None,
                                     None)
        if status != 0:
            return f"failed espeak-ng failed: {status}"
        with open(path, "wb") as file:
            file.write(wav_header(len(samples)))
            file.write(samples)
        return f"spoken {len(samples)} {hashlib.sha256(samples).hexdigest()}"

    while True:
        request = link.recv(1 << 17)
        if not request:
            os._exit(0)
        if failure:
            link.send(f"failed {failure}".encode())
            continue
        own = os.getpid()
        child = os.fork()
        if child == 0:
            follow_parent(own)
            path, _, text = request.partition(b"\0")
            try:
                answer = speak(path, text)
            except OSError as error:
                answer = f"failed writing the audio: {error.strerror}"
            link.send(answer.encode())
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            link.send(b"failed the process that spoke died")


def wav_header(pcm_bytes):
    return struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", pcm_bytes + 36, b"WAVEfmt ", 16, 1, 1, RATE_HZ,
                       2 * RATE_HZ, 2, 16, b"data", pcm_bytes)


class Gpu:
    """The few calls of libcuda that a model needs; MemoryError where the card says no."""

    def __init__(self):
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._device = ctypes.c_int()
        self.call("cuInit", ctypes.c_uint(0))
        self.call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(0))
        self.open()

    def call(self, name, *arguments):
        status = getattr(self._cuda, name)(*arguments)
        if status == CUDA_OUT_OF_MEMORY:
            raise MemoryError(f"{name}: CUDA_ERROR_OUT_OF_MEMORY")
        if status != 0:
            raise OSError(f"{name}: CUDA error {status}")

    def open(self):
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self.call("cuCtxSetCurrent", context)

    def close(self):
        self.call("cuDevicePrimaryCtxRelease_v2", self._device)


class Block:
    """Device memory with known pages in it."""

    def __init__(self, gpu, size, seed):
        self.gpu, self.size, self.seed = gpu, size, seed
        self.address = ctypes.c_uint64()
        gpu.call("cuMemAlloc_v2", ctypes.byref(self.address), ctypes.c_size_t(size))

    def free(self):
        self.gpu.call("cuMemFree_v2", self.address)

    def pages(self):
        for offset in range(0, self.size, STEP_BYTES):
            page = hashlib.shake_128(b"%d %d" % (self.seed, offset)).digest(PAGE_BYTES)
            yield ctypes.c_uint64(self.address.value + offset), page

    def write(self):
        for address, page in self.pages():
            self.gpu.call("cuMemcpyHtoD_v2", address, page, ctypes.c_size_t(PAGE_BYTES))

    def read(self):
        found = ctypes.create_string_buffer(PAGE_BYTES)
        for address, page in self.pages():
            self.gpu.call("cuMemcpyDtoH_v2", found, address, ctypes.c_size_t(PAGE_BYTES))
            yield address, found.raw, page

    def check(self):
        for address, found, page in self.read():
            if found != page:
                # Not an Exception: this worker's model is broken, not this segment.
                raise SystemExit(f"narrator: device memory at {address.value:#x} is not as this "
                                 "process left it: somebody else writes there")


class Model:
    def __init__(self, gpu, size):
        self.gpu = gpu
        self.sizes = [min(CHUNK_BYTES, size - at) for at in range(0, size, CHUNK_BYTES)]
        self.turn = 0
        self.load()
        for chunk in self.chunks:
            chunk.write()

    def load(self):
        # Different for each process and chunk: a neighbour's canary is never taken for ours.
        self.chunks = [Block(self.gpu, size, (os.getpid() << 20) + number)
                       for number, size in enumerate(self.sizes)]

    def check(self, count=None):
        for _ in range(len(self.chunks) if count is None else count):
            self.turn = (self.turn + 1) % len(self.chunks)
            self.chunks[self.turn].check()

    def flush(self):
        """To the host, a new context, and back: what was found there, not what should be there."""
        images = [[found for _, found, _ in chunk.read()] for chunk in self.chunks]
        for chunk in self.chunks:
            chunk.free()
        self.gpu.close()
        self.gpu.open()
        self.load()
        for chunk, image in zip(self.chunks, images):
            for (address, _), page in zip(chunk.pages(), image):
                self.gpu.call("cuMemcpyHtoD_v2", address, page, ctypes.c_size_t(PAGE_BYTES))
        self.check()


def work_bytes(text):
    """As attention does, it grows with the square of the length."""
    length = min(len(text.encode()), LONGEST_TEXT)
    steps = WORK_BYTES // STEP_BYTES * length * length // (LONGEST_TEXT * LONGEST_TEXT)
    return max(steps * STEP_BYTES, LEAST_WORK_BYTES)


class Diary:
    """The workers' own account, for whoever checks the batch (see diary.h)."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if path else None

    def write(self, what, number, size=0, sha256="-", out="-"):
        if self._fd is not None:
            line = f"{what}\t{number}\t{os.getpid()}\t{size}\t{sha256}\t{out}\n"
            os.write(self._fd, line.encode())


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--log")
    voice = Voice()  # before the gpu is touched
    diary = Diary(options.parse_args().log)
    model = Model(Gpu(), MODEL_BYTES // STEP_BYTES * STEP_BYTES)
    done_count = 0

    @brim.on_flush
    def flush():
        model.flush()
        diary.write("flush", done_count)

    for segment in brim.segments():
        with segment:
            diary.write("begin", segment.index, out=segment.out)
            segment.burst(work_bytes(segment.input))
            work = Block(model.gpu, work_bytes(segment.input), (os.getpid() << 20) - 1)
            try:
                work.write()
                size, sha256 = voice.speak(segment.input, segment.out)
                work.check()
                model.check(CHECKED_CHUNKS)
            finally:
                work.free()
            diary.write("done", segment.index, size, sha256, segment.out)
            done_count += 1
    model.check()


if __name__ == "__main__":
    sys.exit(main())
