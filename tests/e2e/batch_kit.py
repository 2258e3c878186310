# SPDX-License-Identifier: Apache-2.0
"""What the tests of batches share: a batch whose workers a test leads step by step."""
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("batch_worker.py")
PATIENCE_S = 60


class Batch:
    """A batch `b` over lines, and the two FIFOs by which a test leads its workers."""

    def __init__(self, machine, directory, count=50):
        self.machine = machine
        self.dir = directory / "work"
        self.dir.mkdir()
        self.write_input(count)
        self.gate = self._fifo("gate")
        self.tell = self._fifo("tell")
        self._told = os.fdopen(os.dup(self.tell), "r", encoding="utf-8")

    def _fifo(self, name):
        os.mkfifo(self.dir / name)
        return os.open(self.dir / name, os.O_RDWR | os.O_CLOEXEC)

    def write_input(self, count, changed=()):
        lines = [f"line {n}{' changed' if n in changed else ''}\n" for n in range(count)]
        (self.dir / "in.txt").write_text("\n".join(lines), encoding="utf-8")
        self.texts = [line.strip().upper() + "\n" for line in lines]

    def words(self, *options, vram="5.5GB", command=(sys.executable, WORKER)):
        return ["batch", "run", "b", "--lines", "in.txt", "--out", "out/${SEGMENT}.txt", "--vram", vram,
                "--summary", "summary.json", *options, "--", *command]

    def run(self, *options, env=None, **more):
        words = self.words(*options, **more)
        return self.machine.brim(*words, env=env, cwd=self.dir)

    def start(self, *options, env=None, **more):
        words = self.words(*options, **more)
        return self.machine.spawn_brim(*words, env=env, cwd=self.dir, stderr=subprocess.PIPE)

    def lead(self):
        """The environment that puts workers under the two FIFOs."""
        return {"GATE": str(self.dir / "gate"), "TELL": str(self.dir / "tell")}

    def open_gate(self, count=1):
        os.write(self.gate, b"x" * count)

    def next_begin(self):
        _, name, pid = self._told.readline().split()
        return name, int(pid)

    def forget(self):
        """What workers told that are gone now, and what was meant for them."""
        for fifo in (self.tell, self.gate):
            while select.select([fifo], [], [], 0)[0]:
                os.read(fifo, 1 << 16)
        self._told.close()
        self._told = os.fdopen(os.dup(self.tell), "r", encoding="utf-8")

    def summary(self):
        return json.loads((self.dir / "summary.json").read_text())

    def show(self):
        return json.loads(self.machine.brim("batch", "show", "b", "--json").stdout)

    def outputs(self):
        return sorted(path.name for path in (self.dir / "out").iterdir())

    def check_complete(self):
        assert self.outputs() == [f"{n:06}.txt" for n in range(len(self.texts))]
        for n, text in enumerate(self.texts):
            assert (self.dir / "out" / f"{n:06}.txt").read_text() == text

    def close(self):
        self._told.close()
        os.close(self.gate)
        os.close(self.tell)


@pytest.fixture(name="batch")
def make_batch(emulator, short_dir):
    made = Batch(emulator, short_dir)
    yield made
    made.close()


def wait_gone(pid):
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    gone, _, _ = select.select([pidfd], [], [], PATIENCE_S)
    os.close(pidfd)
    return bool(gone)


def read_until(stream, word):
    for line in stream:
        if word in line:
            return line
    raise AssertionError(f"it ended without a line with {word!r}")
