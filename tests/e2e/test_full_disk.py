# SPDX-License-Identifier: Apache-2.0
"""The disk is full: under the state directory of the daemon and of a batch. What stands where a file
belongs is told, nothing is lost, and when there is room again it goes on.

Outputs that do not fit are in test_batch_workers.py.
"""
import os
import time

import pytest

import raw_client as raw
from conftest import PATIENCE_S
from own_daemon import Daemon
from trial import Trial, settle

GIB = 1 << 30


class SmallDisk:
    """A filesystem of 1 MiB as the state directory."""

    def __init__(self, machine, path):
        self.machine = machine
        self.path = path
        self.env = {"BRIM_STATE_DIR": str(path)}
        self.filler = path / "filler"

    def fill(self, room=0):
        """Leaves `room` bytes."""
        with self.filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        os.truncate(self.filler, self.filler.stat().st_size - room)

    def make_room(self):
        self.filler.unlink()

    def daemon(self):
        daemon = Daemon(self.machine, env=self.env)
        assert daemon.answer == "ready\n", daemon.answer
        return daemon

    def wait_for_log(self, text):
        """brimd's log says it; each event that is told is a reason to look again."""
        log = self.machine.state_dir / "brimd-test.log"
        deadline = time.monotonic() + PATIENCE_S
        while text not in log.read_text():
            assert time.monotonic() < deadline, f"no {text!r} in {log.read_text()}"
            self.machine.brim("ps")


@pytest.fixture(name="disk")
def make_disk(emulator, short_dir):
    path = short_dir / "small"
    path.mkdir(mode=0o700)
    mounted = emulator.run("mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", path)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    yield SmallDisk(emulator, path)
    emulator.run("umount", "-l", path)


def hold(daemon, name):
    """A lease that lives with its process, as one of `brim run` does."""
    program = daemon.machine.spawn("sleep", "1000")
    granted = daemon.client().acquire(name=name, resident=GIB, flags=raw.HELD_BY_PROCESS, pid=program.pid)
    assert granted["type"] == raw.GRANTED
    return granted["lease"]


def numbers(machine):
    lines = machine.brim("events", "--since", 0).stdout.splitlines()
    return [int(line.split()[0]) for line in lines if line.strip()]


def test_a_daemon_whose_disk_is_full_grants_and_writes_when_there_is_room(disk):
    daemon = disk.daemon()
    first = hold(daemon, "first")
    disk.wait_for_log("kind=granted")
    disk.fill()
    second = hold(daemon, "second")
    disk.wait_for_log(f'event=write_failed reason="{disk.path}/brimd.sqlite: the disk is full')
    disk.wait_for_log(f'event=write_failed reason="{disk.path}/events.sqlite: the disk is full')
    assert {lease["name"] for lease in disk.machine.ps()["leases"]} == {"first", "second"}
    before = numbers(disk.machine)
    disk.make_room()
    disk.wait_for_log("area=journal event=written_again")
    disk.wait_for_log("area=history event=written_again")
    daemon.kill()
    disk.daemon()
    assert {lease["id"] for lease in disk.machine.ps()["leases"]} == {f"l{first}", f"l{second}"}
    after = numbers(disk.machine)
    assert after[:len(before)] == before and len(after) > len(before)


def test_a_daemon_starts_on_a_full_disk_and_finds_what_there_was(disk):
    daemon = disk.daemon()
    first = hold(daemon, "first")
    daemon.stop()
    disk.fill()
    daemon = disk.daemon()
    disk.machine.events.wait(kind="restored", name="first")
    assert [lease["id"] for lease in disk.machine.ps()["leases"]] == [f"l{first}"]
    second = hold(daemon, "second")
    disk.make_room()
    disk.wait_for_log("area=journal event=written_again")
    daemon.kill()
    disk.daemon()
    assert {lease["id"] for lease in disk.machine.ps()["leases"]} == {f"l{first}", f"l{second}"}


def test_a_daemon_that_never_had_room_makes_its_journal_when_it_has(disk):
    disk.fill()
    daemon = disk.daemon()
    lease = hold(daemon, "kept")
    disk.make_room()
    disk.wait_for_log("area=journal event=written_again")
    daemon.kill()
    disk.daemon()
    assert [each["id"] for each in disk.machine.ps()["leases"]] == [f"l{lease}"]


def test_a_command_starts_the_daemon_on_a_full_disk(disk):
    disk.fill()
    done = disk.machine.brim("run", "--vram", "1GiB", "--", "echo", "it runs", env=disk.env)
    assert (done.returncode, done.stdout) == (0, "it runs\n"), done.stderr


def test_a_batch_on_a_full_disk_says_which_file_and_goes_on_where_it_stopped(disk, short_dir):
    disk.daemon()
    trial = Trial(disk.machine, short_dir, "full", disk.env)
    said = 0
    # From nothing at all to almost enough: each has another call that fails.
    for room in (0, 4096, 8192, 16384, 24576, 32768, 49152, 65536, 98304):
        disk.fill(room)
        trial.open_gate()
        done = trial.run()
        assert done.returncode in (0, 1), (room, done.stderr)
        if done.returncode == 1:
            told = [line for line in done.stderr.splitlines() if "make room and run the batch again" in line]
            assert len(told) == 1 and str(disk.path) in told[0], (room, done.stderr)
            said += 1
        disk.make_room()
    assert said > 3
    trial.open_gate()
    done = trial.run()
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (trial.dir / "out").iterdir())
    assert names == [f"{index:06}.txt" for index in range(trial.segments)]
    trial.close()
    settle(disk.machine)
