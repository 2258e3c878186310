# SPDX-License-Identifier: Apache-2.0
"""The power is cut after any call of a batch, or of the daemon, that changes a file.

power_cut.py makes the states in which the disk may be then. In every one of them the store is looked
at; in some, and with BRIM_ALL_CUTS=1 in all, the same command runs again.
"""
import hashlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

import power_cut
import raw_client as raw
from conftest import PATIENCE_S, Events
from own_daemon import Daemon
from trial import Trial, settle

GIB = 1 << 30
AGAIN = 7  # of the states in which the command runs again
SEGMENTS = 3
ALL = bool(os.environ.get("BRIM_ALL_CUTS"))
pytestmark = pytest.mark.timeout(3600 if ALL else 180)


@pytest.fixture(autouse=True)
def _needs_strace(is_sanitized):
    if is_sanitized:
        pytest.skip("what is on the disk does not depend on the build")
    if not shutil.which("strace", path=os.environ["PATH"]):
        pytest.skip("strace is not here")


def some_of(states):
    """All of them when asked for, else some at even distances, the first and the last among them."""
    if ALL:
        return states
    step = max(1, (len(states) - 1) // (AGAIN - 1))
    return [*states[::step], states[-1]]


class Databases:
    """Asks copies of databases as a cut has left them; each must be sound."""

    def __init__(self, directory):
        self.dir = directory
        self.answers = {}

    def ask(self, state, path, table, query):
        """The rows, or none where the cut has left no such table yet."""
        files = {end: state[f"{path}{end}"] for end in ("", "-wal", "-journal")
                 if f"{path}{end}" in state}  # the shared memory is nobody's any more
        key = (query, *sorted(files.items()))
        if key not in self.answers:
            self.answers[key] = self._ask(files, table, query) if any(files.values()) else []
        return self.answers[key]

    def _ask(self, files, table, query):
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir()
        for end, data in files.items():
            (self.dir / f"x.db{end}").write_bytes(data)
        link = sqlite3.connect(self.dir / "x.db")
        try:
            link.execute("PRAGMA synchronous=OFF")
            assert link.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = link.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall()
            return link.execute(query).fetchall() if found else []
        finally:
            link.close()


class Cut(Trial):
    """A batch with a state directory of its own, all that it leaves in one directory."""

    def __init__(self, machine, directory, name):
        super().__init__(machine, directory, name, {"BRIM_STATE_DIR": str(directory / name / "state")},
                         segments=SEGMENTS, workers=1)
        self.out = self.dir / "out"
        self.store = self.dir / "state" / "batches" / name / "batch.db"
        self.databases = Databases(directory / f"{name}.copy")

    def record(self):
        """Runs it to its end; what was done to which file."""
        before = power_cut.Disk([self.dir])
        trace = self.dir.with_suffix(".trace")
        self.open_gate()
        done = self.run(power_cut.strace(trace))
        assert done.returncode == 0, done.stderr
        self.texts = {path.name: path.read_bytes() for path in self.out.iterdir()}
        assert len(self.texts) == SEGMENTS
        return before, list(power_cut.operations(trace, [self.dir], self.dir))

    def done_by(self, state):
        """{index: (attempts, hash)} of the segments that are done by the store."""
        rows = self.databases.ask(state, self.store, "segments",
                                  "SELECT idx, attempts, out_hash FROM segments WHERE state = 2")
        return {index: (attempts, out_hash) for index, attempts, out_hash in rows}


def commits(steps, trial):
    """After how many calls each segment was committed: it has its name, and the store's log is synced."""
    result, named = {}, []
    for number, (name, path, more) in enumerate(steps, 1):
        if name == "rename" and os.path.dirname(more) == str(trial.out):
            named.append(int(Path(more).stem))
        elif name == "sync" and path == f"{trial.store}-wal":
            result.update((index, number) for index in named)
            named = []
    assert sorted(result) == list(range(SEGMENTS)), result
    return result


def losses(trial, disk, steps, committed):
    """What the store says of each state, against the files in it: a list of what is lost."""
    found, states = [], []
    for number, state in power_cut.cuts(steps, disk):
        try:
            done = trial.done_by(state)
        except (sqlite3.DatabaseError, AssertionError) as trouble:
            found.append((number, "store", repr(trouble)))
            continue
        for index, (_, out_hash) in done.items():
            data = state.get(f"{trial.out}/{index:06}.txt")
            if data is None or hashlib.sha256(data).digest() != out_hash:
                found.append((number, "output", index, data))
        found += [(number, "commit", index) for index, at in committed.items()
                  if at <= number and index not in done]
        states.append((number, state, done))
    return found, states


def contents(disk):
    """All of it, the shared memory left out, which is mapped and not written."""
    state = disk.after_cut(power_cut.Fate(1.0, 1.0))
    return {path: data for path, data in state.items() if not path.endswith("-shm")}


def go_on(trial, number, state, done):
    """The same command over one state: all is there, and what was done is not done again."""
    power_cut.put(state, [trial.dir])
    trial.open_gate()
    files = {index: trial.file_of(index) for index in done}
    ended = trial.run()
    what = (number, sorted(state), ended.returncode, ended.stderr)
    assert ended.returncode == 0, what
    assert {path.name: path.read_bytes() for path in trial.out.iterdir()} == trial.texts, what
    assert {index: trial.file_of(index) for index in done} == files, what
    live = {str(path): path.read_bytes() for path in trial.store.parent.iterdir() if path.is_file()}
    after = trial.done_by(live)
    assert sorted(after) == list(range(SEGMENTS)), what
    assert all(after[index] == was for index, was in done.items()), what


def test_a_power_cut_at_any_call_of_a_batch_loses_nothing(daemon, short_dir, record_property):
    trial = Cut(daemon.machine, short_dir, "cut")
    disk, steps = trial.record()
    final = power_cut.Disk([trial.dir])
    found, states = losses(trial, disk, steps, commits(steps, trial))
    assert not found, found[:5]
    assert contents(disk) == contents(final), "not all that was written was recorded"
    again = some_of(states)
    for number, state, done in again:
        go_on(trial, number, state, done)
    trial.close()
    settle(daemon.machine)
    record_property("told", f"power cuts of a batch: {len(states)} states after {len(steps)} calls, "
                            f"{len(again)} gone on from, 0 lost, 0 twice")
    assert len(states) > 4 * len(steps)


WITHOUT = {  # a sync that is not made, and what must be found missing then
    "the output's": (lambda path, trial: path.startswith(f"{trial.out}/"), "output"),
    "the output directory's": (lambda path, trial: path == str(trial.out), "output"),
    "the work directory's": (lambda path, trial: path == str(trial.dir), "output"),
    "the store's log's": (lambda path, trial: path == f"{trial.store}-wal", "commit"),
    "the store's directory's": (lambda path, trial: path == str(trial.store.parent), "commit"),
    "the state directory's": (lambda path, trial: path == str(trial.dir / "state"), "commit"),
}


def test_without_any_one_sync_something_is_lost(daemon, short_dir):
    """That the states above can show a loss: each sync of a batch is needed."""
    trial = Cut(daemon.machine, short_dir, "mutant")
    _, steps = trial.record()
    trial.close()
    for what, (is_left_out, kind) in WITHOUT.items():
        power_cut.put({str(trial.dir): None}, [trial.dir])
        fewer = [step if step[0] != "sync" or not is_left_out(step[1], trial)
                 else ("none", *step[1:]) for step in steps]
        assert fewer != steps, f"{what} sync is not made at all"
        lost = [each for each in losses(trial, power_cut.Disk([trial.dir]), fewer,
                                           commits(steps, trial))[0]
                if each[1] == kind]
        assert lost, f"without {what} sync nothing was lost"


def test_a_segment_begins_on_a_path_that_no_power_cut_has_left_behind(emulator, short_dir):
    """The store may have lost that an attempt was begun, and the disk have kept its file."""
    (short_dir / "in.txt").write_text("one line\n")
    (short_dir / "out").mkdir()
    (short_dir / "out" / ".000000.attempt-1.txt").write_text("of the time before ")
    done = emulator.brim("batch", "run", "b", "--lines", "in.txt", "--out", "out/${SEGMENT}.txt", "--vram",
                         "1GiB", "--each", "--", "sh", "-c", 'echo "$INPUT" >> "$OUT"', cwd=short_dir)
    assert done.returncode == 0, done.stderr
    assert (short_dir / "out" / "000000.txt").read_text() == "one line\n"


class Kept:
    """What the daemon keeps in its state directory: the journal and the events."""

    def __init__(self, machine, directory):
        self.machine = machine
        self.dir = directory / "kept"
        self.dir.mkdir(mode=0o700)
        self.databases = Databases(directory / "copy")

    def start(self, before=()):
        daemon = Daemon(self.machine, env={"BRIM_STATE_DIR": str(self.dir)}, before=before)
        assert daemon.answer == "ready\n", daemon.answer
        return daemon

    def stop(self, daemon):
        assert self.machine.brim("daemon", "stop").returncode == 0
        assert daemon.process.wait(PATIENCE_S) == 0

    def record(self):
        """A daemon's life with leases, a refusal and a release; what it did to which file."""
        trace = self.dir.with_suffix(".trace")
        daemon = self.start(power_cut.strace(trace))
        first, second = daemon.client(), daemon.client()
        first.acquire(name="first", resident=2 * GIB, burst=GIB)
        second.acquire(name="second", resident=GIB)
        first.ask(raw.READY)
        first.acquire(name="none", resident=64 * GIB)
        second.close()
        Events(self.machine).wait(kind="drained", name="second")
        first.close()
        self.stop(daemon)
        return list(power_cut.operations(trace, [self.dir], self.dir))

    def numbers(self, state, name, table, column):
        return [row[0] for row in self.databases.ask(state, self.dir / name, table,
                                                     f"SELECT {column} FROM {table} ORDER BY 1")]

    def look_at(self, number, state):
        """Both files are sound, and what is missing of the events are the last ones."""
        try:
            leases = self.numbers(state, "brimd.sqlite", "lease", "id")
            events = self.numbers(state, "events.sqlite", "events", "number")
        except (sqlite3.DatabaseError, AssertionError) as trouble:
            raise AssertionError(f"after {number} calls: {trouble!r}") from trouble
        assert events == list(range(1, len(events) + 1)), number
        return leases, events

    def start_again(self, number, state):
        """It believes the journal, gives no number twice that is kept, and serves."""
        power_cut.put(state, [self.dir])
        leases, events = self.look_at(number, state)
        daemon = self.start()
        lines = self.machine.brim("events", "--json").stdout.splitlines()
        told = [json.loads(line)["n"] for line in lines if line.startswith("{")]
        assert told == sorted(set(told)) and set(events) < set(told), (number, events, told)
        client = daemon.client()
        granted = client.acquire(name="again", resident=GIB)
        assert granted["type"] == raw.GRANTED and granted["lease"] not in leases, (number, granted)
        client.close()
        self.stop(daemon)
        assert not list(self.dir.glob("*.broken*")), (number, sorted(state))


def test_a_power_cut_at_any_call_of_the_daemon_leaves_its_files_sound(emulator, short_dir,
                                                                      record_property):
    kept = Kept(emulator, short_dir)
    disk = power_cut.Disk([kept.dir])
    steps = kept.record()
    final = power_cut.Disk([kept.dir])
    states = list(power_cut.cuts(steps, disk))
    assert contents(disk) == contents(final), "not all that was written was recorded"
    seen = [kept.look_at(number, state) for number, state in states]
    assert any(leases for leases, _ in seen) and max(len(events) for _, events in seen) > 5
    again = some_of(states)
    for number, state in again:
        kept.start_again(number, state)
    record_property("told", f"power cuts of the daemon: {len(states)} states after {len(steps)} calls, "
                            f"{len(again)} started from, 0 files broken")
