# SPDX-License-Identifier: Apache-2.0
"""brimd and the driver: whose bytes are whose, helpers that hang, and whose gpu it is."""
import struct
import subprocess
import time

import pytest

import raw_client as raw
from own_daemon import Daemon

GIB = 1 << 30


def test_one_gpu_has_one_arbiter_and_the_other_daemon_says_who(daemon, short_dir):
    other_dirs = [short_dir / "r2", short_dir / "s2"]
    other = Daemon(daemon.machine, options=("--runtime-dir", other_dirs[0],
                                            "--state-dir", other_dirs[1]))
    assert other.answer == "ready\n"
    other.runtime_dir = other_dirs[0]
    refused = other.client().acquire(resident=GIB)
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.NO_GPU
    assert f"pid {daemon.process.pid}" in refused["text"]
    done = daemon.machine.brim("ps", "--json", env={"BRIM_RUNTIME_DIR": str(other_dirs[0])})
    assert f"pid {daemon.process.pid}" in done.stdout
    daemon.stop()
    while other.client().acquire(resident=GIB)["type"] != raw.GRANTED:
        pass  # it tries again every few seconds


def test_a_running_program_can_be_adopted(daemon):
    program = daemon.machine.spawn("sleep", "1000")
    client = daemon.client()
    granted = client.acquire(name="adopted", resident=11 * GIB,
                             flags=raw.ADOPT | raw.HELD_BY_PROCESS, pid=program.pid)
    assert granted["type"] == raw.GRANTED
    client.close()
    assert daemon.machine.lease("adopted")["pid"] == program.pid
    again = daemon.client().acquire(name="again", resident=GIB, pid=program.pid,
                                    flags=raw.ADOPT | raw.HELD_BY_PROCESS)
    assert again["type"] == raw.REFUSED and f"under lease l{granted['lease']}" in again["text"]
    program.kill()
    program.wait(20)
    daemon.machine.events.wait(kind="released", name="adopted")


def test_nobody_is_adopted_with_more_than_the_card_has(daemon):
    program = daemon.machine.spawn("sleep", "1000")
    refused = daemon.client().acquire(name="huge", resident=100 * GIB, pid=program.pid,
                                      flags=raw.ADOPT | raw.HELD_BY_PROCESS)
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.NEVER_FITS
    assert daemon.client().acquire(resident=GIB)["type"] == raw.GRANTED


def hog(machine, *before, size="5GB"):
    """A program that holds device memory, perhaps under another one; waits until it has it."""
    program = machine.spawn(*before, machine.build / "tests" / "hog", "--bytes", size,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout.readline().startswith("holding")
    return program


def wait_for_foreign(machine, least):
    """Facts are a moment old; each look asks for fresh ones."""
    deadline = time.monotonic() + 20
    while True:
        gpu = machine.ps()["gpus"][0]
        if gpu["foreign_bytes"] >= least:
            return gpu
        assert time.monotonic() < deadline, gpu


def test_a_program_without_a_lease_is_foreign_by_its_name(daemon):
    program = hog(daemon.machine)
    gpu = wait_for_foreign(daemon.machine, 5 * 10**9)
    foreign = gpu["foreign"]
    assert [(one["pid"], one["name"]) for one in foreign] == [(program.pid, "hog")]
    assert gpu["foreign_bytes"] == foreign[0]["bytes"] >= 5 * 10**9
    refused = daemon.client().acquire(resident=8 * GIB)
    assert refused["type"] == raw.REFUSED and "foreign" in refused["text"]


def test_foreign_memory_that_comes_back_lets_a_waiter_in(daemon):
    program = hog(daemon.machine)
    wait_for_foreign(daemon.machine, 5 * 10**9)
    client = daemon.client()
    assert client.acquire(resident=8 * GIB, wait_ms=60000)["type"] == raw.QUEUED
    program.kill()
    assert client.wait(raw.GRANTED)["charge"] == 8 * GIB


def wait_for_measure(machine, name, least):
    """Facts come five times a second; each look is one step."""
    deadline = time.monotonic() + 20
    while True:
        lease = machine.lease(name)
        if lease and lease["measured_bytes"] >= least:
            return lease
        assert time.monotonic() < deadline, lease


@pytest.mark.parametrize("command", [
    pytest.param([], id="itself"),
    pytest.param(["sh", "-c", '"$@"; true', "sh"], id="child"),
    pytest.param(["sh", "-c", '(exec 3<&0; setsid sh -c \'"$@" <&3; exit 0\' sh "$@" &) '
                              '; exec sleep 1000', "sh"], id="left_its_parents"),
])
def test_the_bytes_of_a_program_under_a_lease_are_its_own(daemon, command):
    hog(daemon.machine, daemon.machine.build / "brim", "run", "--vram", "6GiB", "--name", "own",
        "--", *command)
    lease = wait_for_measure(daemon.machine, "own", 5 * 10**9)
    assert lease["overdraft_bytes"] == 0
    gpu = daemon.machine.ps()["gpus"][0]
    assert gpu["foreign"] == [] and gpu["foreign_bytes"] == 0


def test_more_than_was_asked_for_is_an_overdraft_and_an_event(daemon):
    events = daemon.machine.events
    hog(daemon.machine, daemon.machine.build / "brim", "run", "--vram", "3GiB", "--name", "over",
        "--")
    event = events.wait(kind="overdraft", name="over")
    assert event["bytes"] > 10**9
    assert wait_for_measure(daemon.machine, "over", 5 * 10**9)["charge_bytes"] >= 5 * 10**9


def test_bytes_bound_to_a_worker_follow_it(daemon):
    client = daemon.client()
    client.acquire(name="batch", resident=6 * GIB)
    worker = hog(daemon.machine)
    assert client.ask(raw.BIND, struct.pack("<IIQ", worker.pid, 0, 0))["type"] == raw.DONE
    wait_for_measure(daemon.machine, "batch", 5 * 10**9)
    assert daemon.machine.ps()["gpus"][0]["foreign_bytes"] == 0


def test_the_system_scope_has_a_socket_for_its_group(emulator, short_dir):
    dirs = [short_dir / "run-brim", short_dir / "lib-brim"]
    daemon = Daemon(emulator, options=("--scope", "system", "--runtime-dir", dirs[0],
                                       "--state-dir", dirs[1]))
    assert daemon.answer == "ready\n"
    assert dirs[0].stat().st_mode & 0o777 == 0o750
    assert (dirs[0] / "lease.sock").stat().st_mode & 0o777 == 0o660
    assert (dirs[1] / "brimd.sqlite").stat().st_mode & 0o777 == 0o600
    daemon.runtime_dir = dirs[0]
    assert daemon.client().acquire(resident=GIB)["type"] == raw.GRANTED


def test_the_reserve_is_as_large_as_was_said(emulator):
    daemon = Daemon(emulator, options=("--reserve", "2GiB"))
    assert emulator.ps()["gpus"][0]["reserve_bytes"] == 2 * GIB
    assert daemon.client().acquire(resident=int(10.5 * GIB))["code"] == raw.NEVER_FITS


def test_what_starts_after_the_release_is_not_of_the_lease(daemon):
    client = daemon.client()
    client.acquire(name="done", resident=GIB)
    assert client.ask(raw.RELEASE)["type"] == raw.DONE
    program = hog(daemon.machine)
    foreign = wait_for_foreign(daemon.machine, 5 * 10**9)["foreign"]
    assert [one["pid"] for one in foreign] == [program.pid]
