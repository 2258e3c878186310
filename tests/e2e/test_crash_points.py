# SPDX-License-Identifier: Apache-2.0
"""Every crash point of src/base/crash.h is hit once, and nothing is lost there or done twice.

A batch of a few segments runs with one point armed. Whoever passes it dies by SIGKILL: the batch,
a worker, brimd, brim run. The same command then goes on to the end, and what it leaves must be
what an undisturbed run leaves. A program that dies leaves a mark, by which the test counts.
"""
import json
import re
import signal
import subprocess
import time

import pytest

from conftest import PATIENCE_S, TREE, build_option
from trial import Trial, settle

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
# The batch holds its leases until the daemon has died there: for some it has to come back first, for
# others both workers need a lease, and a quick one may be done before the other has its own.
GATED = ("daemon_decided", "daemon_answered", "daemon_restoring", "daemon_restored",
         "daemon_reattached")
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


class Crash(Trial):
    """A batch with one point armed; for those of brim run, a program under a lease."""

    def __init__(self, machine, directory, point):
        super().__init__(machine, directory, point.replace("_", "-"))
        self.point = point
        self.is_batch = not point.startswith("run_")
        self.marks = self.dir / "marks"
        self.marks.mkdir()
        self.env = {"BRIM_CRASH": ARMED.get(point, point), "BRIM_CRASH_MARKS": str(self.marks)}
        if point not in GATED:
            self.open_gate()

    def words(self):
        return super().words() if self.is_batch else ("run", "--vram", "1GiB", "--", "true")

    def is_hit(self):
        return (self.marks / self.point).exists()

    def run_until_hit(self):
        """Its segments wait until somebody has died at the point."""
        running = self.machine.spawn_brim(*self.words(), cwd=self.dir, env=self.env,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_hit() and time.monotonic() < deadline:
            self.machine.brim("batch", "show", self.name)
        self.open_gate()
        _, stderr = running.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(running.args, running.returncode, None, stderr)


def survive(trial, wanted):
    """Runs a batch into its point and on to its end: how many segments were lost, done twice."""
    point = trial.point
    trial.machine.brim("daemon", "stop")
    ended = trial.run_until_hit() if point in GATED else trial.run()
    before = trial.committed()
    assert ended.returncode in (0, *KILLED), (point, ended.returncode, ended.stderr)
    if ended.returncode != 0:
        ended = trial.run()
    assert ended.returncode == 0, (point, ended.returncode, ended.stderr)
    after = trial.committed()
    settle(trial.machine)
    if not trial.is_batch:
        return 0, 0
    assert trial.outputs() == wanted, (point, list((trial.dir / "out").iterdir()))
    summary = json.loads((trial.dir / "summary.json").read_text())
    assert summary["segments_done"] == trial.segments
    lost = sum(file is None for _, file in before.values()) + trial.segments - len(after)
    return lost, sum(after.get(index) != was for index, was in before.items())


def test_every_crash_point_is_survived(emulator, build_dir, short_dir, record_property):
    if build_option(build_dir, "crash_points") == "disabled":
        pytest.skip("this build has no crash points")
    undisturbed = Crash(emulator, short_dir, "undisturbed")
    assert undisturbed.run().returncode == 0
    wanted = undisturbed.outputs()
    undisturbed.close()
    hit, lost, twice = [], 0, 0
    for point in POINTS:
        trial = Crash(emulator, short_dir, point)
        more_lost, more_twice = survive(trial, wanted)
        trial.close()
        hit += [point] if trial.is_hit() else []
        lost += more_lost
        twice += more_twice
    line = f"crash points: hit {len(hit)} of {len(POINTS)}, {lost} lost, {twice} twice"
    record_property("told", line)
    assert hit == POINTS, f"{line}; never hit: {set(POINTS) - set(hit)}"
    assert (lost, twice) == (0, 0), line


@pytest.mark.parametrize("armed", ["daemon_decided", "journal_begun:2", "journal_half:2",
                                   "journal_committed:2", "daemon_answered"])
def test_a_program_under_run_has_one_lease_wherever_the_daemon_dies(emulator, build_dir, short_dir,
                                                                   armed):
    """brim run becomes a program that knows nothing of leases: nobody could ask for it again."""
    if build_option(build_dir, "crash_points") == "disabled":
        pytest.skip("this build has no crash points")
    marks = short_dir / "marks"
    marks.mkdir()
    emulator.brim("daemon", "stop")
    process = emulator.spawn_brim("run", "--name", "one", "--vram", "1GiB", "--", "sh", "-c",
                                  "echo; exec cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  env={"BRIM_CRASH": armed, "BRIM_CRASH_MARKS": str(marks)})
    assert process.stdout.readline() == "\n"
    emulator.brim("daemon", "start")
    assert [path.name for path in marks.iterdir()] == [armed.split(":")[0]]
    deadline = time.monotonic() + PATIENCE_S
    while not (leases := emulator.ps()["leases"]) and time.monotonic() < deadline:
        pass
    assert [(lease["pid"], lease["charge_bytes"]) for lease in leases] == [(process.pid, 1 << 30)]
    process.stdin.close()
    assert process.wait(PATIENCE_S) == 0
    settle(emulator)
