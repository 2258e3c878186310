# SPDX-License-Identifier: Apache-2.0
"""One small batch that something happens to, and what must hold afterwards.

Its workers have device memory, its outputs are known, and what its store says to be done can be
compared with the files before and after.
"""
import hashlib
import json
import os
import shutil
import sqlite3
import time

from conftest import PATIENCE_S

MIB = 1 << 20
SEGMENTS = 4


class Trial:
    """A batch of its own directory and name."""

    def __init__(self, machine, directory, name, env=None, segments=SEGMENTS, workers=2):
        self.machine = machine
        self.dir = directory / name
        self.dir.mkdir(parents=True)
        self.name = name
        self.env = env or {}
        self.segments = segments
        self.workers = workers
        (self.dir / "in.txt").write_text("".join(f"line {n}\n" for n in range(segments)))
        os.mkfifo(self.dir / "gate")
        self.gate = os.open(self.dir / "gate", os.O_RDWR | os.O_CLOEXEC)

    def open_gate(self):
        """Each segment begins with a byte of it; these are enough for all and their repetitions."""
        os.write(self.gate, b"x" * self.segments * 4)

    def words(self):
        return ("batch", "run", self.name, "--lines", "in.txt", "--out", "out/${SEGMENT}.txt",
                "--vram", "1GiB", "--workers", self.workers, "--summary", "summary.json", "--",
                self.machine.build / "tests" / "e2e" / "segment_worker", 64 * MIB, "gate")

    def run(self, before=()):
        """To its end; `before` is what runs it instead of the shell."""
        return self.machine.run(*before, self.machine.build / "brim", *self.words(), cwd=self.dir,
                                env=self.env)

    def close(self):
        os.close(self.gate)

    def committed(self):
        """The files of the segments that are done by the store, as the crash has left it."""
        store = self.machine.state_dir / "batches" / self.name
        copy = self.dir / "store"
        shutil.rmtree(copy, ignore_errors=True)
        if not (store / "batch.db").exists():
            return {}
        shutil.copytree(store, copy)
        with sqlite3.connect(copy / "batch.db") as link:
            try:
                rows = link.execute("SELECT idx, attempts FROM segments WHERE state = 2").fetchall()
            except sqlite3.OperationalError:  # killed before there was a table
                rows = []
        link.close()
        return {index: (attempts, self.file_of(index)) for index, attempts in rows}

    def file_of(self, index):
        try:
            info = (self.dir / "out" / f"{index:06}.txt").stat()
        except FileNotFoundError:
            return None
        return info.st_ino, info.st_mtime_ns, info.st_size

    def outputs(self):
        """One hash over the names and contents of all that lies in the output directory."""
        digest = hashlib.sha256()
        for path in sorted((self.dir / "out").iterdir()):
            digest.update(f"{path.name}\0{len(path.read_bytes())}\0".encode() + path.read_bytes())
        return digest.hexdigest()


def settle(machine):
    """The card is empty, and the daemon says the same: nothing charged, draining or foreign."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        status = machine.ps()
        gpu = status["gpus"][0]
        used = json.loads(machine.brim("emulate", "--stats").stdout)["gpus"][0]["used_bytes"]
        left = [status["leases"], used, *(gpu[f"{name}_bytes"] for name in
                                          ("used", "charged", "draining", "foreign"))]
        if not any(left):
            return
        assert time.monotonic() < deadline, f"something is left: {left}"
