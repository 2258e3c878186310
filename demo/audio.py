# SPDX-License-Identifier: Apache-2.0
"""Segments' WAV files -> one FLAC file, and back to samples.

FLAC loses nothing: what was joined can be found again in it, sample for sample.
"""
import hashlib
import struct
import subprocess

RATE_HZ = 22050
HEADER_BYTES = 44
_RAW = ("--force-raw-format", "--endian=little", "--sign=signed")
_SHAPE = ("--channels=1", "--bps=16", f"--sample-rate={RATE_HZ}")


class AudioError(Exception):
    """What failed, on what."""


def samples(path):
    """The samples of one segment's WAV file, as bytes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror}") from None
    if len(data) < HEADER_BYTES or data[:4] != b"RIFF" or data[36:40] != b"data":
        raise AudioError(f"{path}: not a WAV file of the narrator's")
    size, = struct.unpack("<I", data[40:44])
    if size != len(data) - HEADER_BYTES:
        raise AudioError(f"{path}: {len(data) - HEADER_BYTES} bytes of samples, its head says {size}")
    return data[HEADER_BYTES:]


def digest(paths):
    """SHA-256 of the samples of all files, one behind the other."""
    total = hashlib.sha256()
    for path in paths:
        total.update(samples(path))
    return total.hexdigest()


def join(paths, target):
    """Write the samples of all files, in their order, into one FLAC file."""
    target.unlink(missing_ok=True)
    encoder = subprocess.Popen(
        ["flac", "--silent", "--fast", "--force-raw-format", "--endian=little", "--sign=signed",
         *_SHAPE, "-o", str(target), "-"], stdin=subprocess.PIPE)
    try:
        for path in paths:
            encoder.stdin.write(samples(path))
        encoder.stdin.close()
    except (AudioError, BrokenPipeError):
        encoder.kill()
        encoder.wait()
        raise
    if encoder.wait() != 0:
        raise AudioError(f"{target}: flac ended with {encoder.returncode}")


class Decoder:
    """The samples of a FLAC file as a stream that can be looked ahead in."""

    def __init__(self, path):
        self.path = path
        self._process = subprocess.Popen(
            ["flac", "--silent", "--decode", "--stdout", *_RAW, str(path)], stdout=subprocess.PIPE)
        self._ahead = bytearray()
        self._hash = hashlib.sha256()
        self.offset = 0

    def peek(self, size):
        """The next bytes, fewer at the end, without taking them."""
        while len(self._ahead) < size:
            more = self._process.stdout.read(max(1 << 20, size - len(self._ahead)))
            if not more:
                break
            self._ahead += more
        return memoryview(self._ahead)[:size]

    def take(self, size):
        """Step over bytes that peek() has shown."""
        self._hash.update(self._ahead[:size])
        del self._ahead[:size]
        self.offset += size

    def close(self):
        """Reads to the end; the SHA-256 of all samples."""
        while self._ahead or self.peek(1):
            self.take(len(self._ahead))
        if self._process.wait() != 0:
            raise AudioError(f"{self.path}: flac cannot decode it ({self._process.returncode})")
        return self._hash.hexdigest()
