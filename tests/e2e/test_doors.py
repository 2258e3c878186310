# SPDX-License-Identifier: Apache-2.0
"""The runtime directory is removed under a daemon, as logind does it when its user logs out."""
import shutil
import signal
import time

import raw_client as raw
from batch_kit import Batch, read_until
from conftest import PATIENCE_S
from own_daemon import Daemon
from trial import settle

GIB = 1 << 30


def wait_until_back(machine):
    """What the first `brim ps` tells that a daemon answers."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        status = machine.ps()
        if status["daemon"]:
            return status
        assert time.monotonic() < deadline, "the daemon does not come back"


def test_a_removed_directory_is_made_again_and_nobody_notices(daemon):
    machine = daemon.machine
    client, waiter = daemon.client(), daemon.client()
    lease = client.acquire(name="kept", resident=6 * GIB, burst=GIB)
    asked = waiter.send(raw.ACQUIRE, raw.claim(name="waits", resident=8 * GIB, wait_ms=raw.FOR_EVER))
    assert waiter.answer(asked)["type"] == raw.QUEUED
    for _ in range(3):
        shutil.rmtree(daemon.runtime_dir)
        assert client.ask(raw.READY)["type"] == raw.DONE  # before it is back, and behind it
        status = wait_until_back(machine)
        assert status["daemon"]["pid"] == daemon.process.pid
        assert {each["id"] for each in status["leases"]} >= {f"l{lease['lease']}"}
        assert (daemon.runtime_dir.stat().st_mode & 0o777) == 0o700
    assert client.burst()["type"] == raw.BURST_GRANTED
    assert daemon.client().acquire(resident=GIB)["type"] == raw.GRANTED
    client.close()
    assert waiter.answer(asked)["type"] == raw.GRANTED


def test_who_follows_the_events_goes_on(daemon):
    events = daemon.machine.events
    first = events.wait(kind="daemon_started")
    keeps_it = daemon.client()
    shutil.rmtree(daemon.runtime_dir)
    wait_until_back(daemon.machine)
    keeps_it.acquire(name="after", resident=GIB)
    events.wait(kind="granted", name="after", after=first["n"])
    numbers = [event["n"] for event in events.seen]
    assert numbers == sorted(set(numbers))


def test_one_gpu_has_one_arbiter_while_the_place_is_gone(daemon):
    """Whoever starts a daemon meanwhile is told whose gpu it is, or is not needed at all."""
    keep = daemon.client()
    keep.acquire(name="kept", resident=6 * GIB)
    daemon.process.send_signal(signal.SIGSTOP)
    shutil.rmtree(daemon.runtime_dir)
    other = Daemon(daemon.machine)
    daemon.process.send_signal(signal.SIGCONT)
    assert str(daemon.process.pid) in other.answer, other.answer
    assert other.process.wait(20) == 1
    status = wait_until_back(daemon.machine)
    assert status["daemon"]["pid"] == daemon.process.pid
    assert [lease["name"] for lease in status["leases"]] == ["kept"]


def test_a_daemon_that_nobody_needs_any_more_ends_and_leaves_nothing(daemon):
    shutil.rmtree(daemon.runtime_dir)
    assert daemon.process.wait(PATIENCE_S) == 0
    assert not daemon.runtime_dir.exists()
    daemon.runtime_dir.mkdir(mode=0o700)


def test_a_batch_goes_on_while_nobody_is_logged_in(emulator, short_dir):
    """The place cannot even be made: those who are inside are served on."""
    below = short_dir / "user"
    below.mkdir(mode=0o700)
    emulator.env["BRIM_RUNTIME_DIR"] = str(below / "1000" / "brim")
    batch = Batch(emulator, short_dir, count=12)
    running = batch.start("--workers", "2", "--burst", "1GiB", vram="3GiB",
                          env={**batch.lead(), "BURST": "0"})
    batch.next_begin()
    shutil.rmtree(below)
    below.write_text("the user's directory is gone")
    batch.open_gate(24)
    read_until(running.stderr, "all 12 segments done")
    assert running.wait(60) == 0
    batch.check_complete()
    assert batch.summary()["workers_crashed"] == 0
    below.unlink()
    below.mkdir(mode=0o700)  # the next login
    assert emulator.brim("run", "--vram", "1GiB", "--", "true").returncode == 0
    settle(emulator)
    batch.close()
    assert emulator.brim("daemon", "stop").returncode == 0  # this one has its sockets elsewhere
