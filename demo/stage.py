# SPDX-License-Identifier: Apache-2.0
"""What both halves of the demo share: the plan of a run, the workers' log while it grows, waiting.

A half runs inside `brim emulate` (or bare, on a real GPU) as a program of its own:

    python3 demo/with_brim.py PLAN RESULT

reads the plan that demo/run.py wrote and writes its findings as JSON.
"""
import contextlib
import ctypes
import json
import os
import select
import sys
import time
from pathlib import Path

PATIENCE_S = 120.0
_IN_MODIFY = 0x2


class DemoError(Exception):
    """Something did not go as it should; the text says what."""


class Plan:
    """Paths and sizes of one run; what demo/run.py decided."""

    def __init__(self, **members):
        self.__dict__.update(members)

    @classmethod
    def load(cls, path):
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))

    def save(self, path):
        Path(path).write_text(json.dumps(self.__dict__, indent=2), encoding="utf-8")

    @property
    def brim(self):
        return str(Path(self.build) / "brim")

    @property
    def narrator(self):
        return str(Path(self.build) / "examples/narrator/narrator")

    @property
    def foreign(self):
        return str(Path(self.build) / "examples/narrator/foreign")

    def path(self, *names):
        return Path(self.directory, *names)


def read_json(text, what):
    try:
        return json.loads(text)
    except ValueError:
        raise DemoError(f"{what} did not print JSON: {text[:200]!r}") from None


def run_half(main):
    """The body of a half's program."""
    try:
        plan = Plan.load(sys.argv[1])
        result = main(plan)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")
    return 0


class Growth:
    """A file that tells when something is written to it: inotify, which Python's library lacks."""

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, os.fsencode(path), _IN_MODIFY) < 0:
            raise DemoError(f"watch {path}: {os.strerror(ctypes.get_errno())}")

    def wait(self, processes, timeout_s):
        """Until something was written since the last call, or a process ended."""
        with contextlib.ExitStack() as stack:
            ends = []
            for process in processes:
                if process.poll() is None:
                    ends.append(os.pidfd_open(process.pid))
                    stack.callback(os.close, ends[-1])
            if len(ends) == len(processes):
                select.select([self.fd, *ends], [], [], timeout_s)
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 1 << 16)


class WorkersLog:
    """The workers' log, read as it grows. entries: (what, segment, pid) in the log's order."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.touch()
        self.entries = []
        self.done = set()
        self._offset = 0
        self._growth = Growth(self.path)

    def read(self):
        with self.path.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        whole = fresh[:fresh.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8").splitlines():
            what, number, pid, *_ = line.split("\t")
            self.entries.append((what, int(number), int(pid)))
            if what == "done":
                self.done.add(int(number))

    def wait_for(self, is_there, *processes, patience_s=PATIENCE_S, on_look=None):
        """Until is_there(self); False if one of the processes ended before. Gives up when nothing
        new is there for too long."""
        seen, deadline = -1, 0.0
        while True:
            has_ended = any(process.poll() is not None for process in processes)
            self.read()
            if on_look:
                on_look(self)
            if is_there(self):
                return True
            if has_ended:
                return False
            if len(self.entries) > seen:
                seen, deadline = len(self.entries), time.monotonic() + patience_s
            if time.monotonic() > deadline:
                raise DemoError(f"nothing more in {self.path} for {patience_s:.0f} s")
            self._growth.wait(processes, max(0.0, deadline - time.monotonic()))


def process_state(pid):
    """"R", "S", "T" … as the kernel tells; None when the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return stat[stat.rfind(")") + 2]


def segment_at_hand(log, pid):
    """The segment that the worker has begun and not finished; None if it stands between two."""
    log.read()
    last = next((entry for entry in reversed(log.entries) if entry[2] == pid), None)
    return last[1] if last and last[0] == "begin" else None


def signal_if_there(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
