# SPDX-License-Identifier: Apache-2.0
"""Every crash point of src/base/crash.h is hit once, and nothing is lost there or done twice.

A batch of a few segments runs with one point armed. Whoever passes it dies by SIGKILL: the batch,
a worker, brimd, brim run. The same command then goes on to the end, and what it leaves must be
what an undisturbed run leaves. A program that dies leaves a mark, by which the test counts.
"""
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

from conftest import PATIENCE_S, TREE, build_option

MIB = 1 << 20
SEGMENTS = 4
POINTS = re.findall(r"^    X\((\w+)\)", (TREE / "src/base/crash.h").read_text(), re.MULTILINE)
# What must happen before the point can be reached at all, or how often it is passed before.
ARMED = {
    "batch_begun": "batch_begun:2",
    "batch_sent": "batch_sent:3",
    "batch_committed": "batch_committed:2",
    "worker_segment_taken": "worker_segment_taken:2",
    # The first transaction only reserves numbers, before brimd answers anybody.
    "journal_begun": "journal_begun:2",
    "journal_half": "journal_half:2",
    "journal_committed": "journal_committed:2",
    "daemon_decided": "daemon_decided:2",
    "daemon_answered": "daemon_answered:2",
    "daemon_restoring": "journal_committed:2,daemon_restoring",
    "daemon_restored": "journal_committed:2,daemon_restored",
    "daemon_reattached": "journal_committed:2,daemon_reattached",
}
# The batch holds its leases until the daemon has come back and has died there.
GATED = ("daemon_restoring", "daemon_restored", "daemon_reattached")
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


class Trial:
    """A batch of its own directory and name for one point."""

    def __init__(self, machine, directory, point):
        self.machine = machine
        self.dir = directory / point
        self.name = point.replace("_", "-")
        self.marks = self.dir / "marks"
        self.marks.mkdir(parents=True)
        (self.dir / "in.txt").write_text("".join(f"line {n}\n" for n in range(SEGMENTS)))
        os.mkfifo(self.dir / "gate")
        self.gate = os.open(self.dir / "gate", os.O_RDWR | os.O_CLOEXEC)
        if point not in GATED:
            self.open_gate()
        self.env = {"BRIM_CRASH": ARMED.get(point, point), "BRIM_CRASH_MARKS": str(self.marks)}

    def open_gate(self):
        os.write(self.gate, b"x" * SEGMENTS * 4)

    def words(self):
        if self.name.startswith("run-"):
            return ("run", "--vram", "1GiB", "--", "true")
        return ("batch", "run", self.name, "--lines", "in.txt", "--out", "out/${SEGMENT}.txt",
                "--vram", "1GiB", "--workers", "2", "--summary", "summary.json", "--",
                self.machine.build / "tests" / "e2e" / "segment_worker", 64 * MIB, "gate")

    def run(self):
        return self.machine.brim(*self.words(), cwd=self.dir, env=self.env)

    def run_until(self, point):
        """The batch's segments wait until somebody has died at the point."""
        running = self.machine.spawn_brim(*self.words(), cwd=self.dir, env=self.env,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + PATIENCE_S
        while not (self.marks / point).exists() and time.monotonic() < deadline:
            self.machine.brim("batch", "show", self.name)
        self.open_gate()
        _, stderr = running.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(running.args, running.returncode, None, stderr)

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


def survive(machine, directory, point, wanted):
    """Runs a batch into the point and on to its end; how many segments it lost, did twice."""
    trial = Trial(machine, directory, point)
    machine.brim("daemon", "stop")
    first = trial.run_until(point) if point in GATED else trial.run()
    dead = (trial.marks / point).exists()
    done = trial.committed()
    assert first.returncode in (0, *KILLED), (point, first.returncode, first.stderr)
    if first.returncode != 0:
        first = trial.run()
    assert first.returncode == 0, (point, first.returncode, first.stderr)
    after = trial.committed()
    if not trial.name.startswith("run-"):
        assert trial.outputs() == wanted, (point, list((trial.dir / "out").iterdir()))
        assert json.loads((trial.dir / "summary.json").read_text())["segments_done"] == SEGMENTS
    os.close(trial.gate)
    settle(machine)
    lost = sum(file is None for _, file in done.values()) + (
        0 if trial.name.startswith("run-") else SEGMENTS - len(after))
    twice = sum(after.get(index) != before for index, before in done.items())
    return dead, lost, twice


def test_every_crash_point_is_survived(emulator, build_dir, short_dir, record_property):
    if build_option(build_dir, "crash_points") == "disabled":
        pytest.skip("this build has no crash points")
    undisturbed = Trial(emulator, short_dir, "undisturbed")
    assert undisturbed.run().returncode == 0
    wanted = undisturbed.outputs()
    hit, lost, twice = [], 0, 0
    for point in POINTS:
        begun = time.monotonic()
        is_hit, more_lost, more_twice = survive(emulator, short_dir, point, wanted)
        print(f"{point}: {time.monotonic() - begun:.1f} s")
        hit += [point] if is_hit else []
        lost += more_lost
        twice += more_twice
    line = f"crash points: hit {len(hit)} of {len(POINTS)}, {lost} lost, {twice} twice"
    print(line)
    record_property("told", line)
    assert hit == POINTS, f"{line}; never hit: {set(POINTS) - set(hit)}"
    assert (lost, twice) == (0, 0), line
