# SPDX-License-Identifier: Apache-2.0
"""The wall clock jumps by hours while everything runs: waits and deadlines do not."""
import json
import struct
import subprocess
import time

import pytest

import raw_client as raw
from batch_kit import Batch, read_until
from own_daemon import Daemon

pytestmark = pytest.mark.not_sanitized  # the sanitizers' own calls would go through the library
GIB = 1 << 30
HOUR = 3600
SHORT_MS = 700
PATIENT_MS = 600_000


class Clock:
    """The wall clock of an emulated machine and of all that is started in it."""

    def __init__(self, machine, path):
        self.path = path
        self.jump(0)
        machine.env.update(LD_PRELOAD=str(machine.build / "tests" / "libjump_clock.so"),
                           JUMP_CLOCK=str(path))

    def jump(self, seconds):
        """So far off from now on."""
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))


@pytest.fixture(name="clock")
def make_clock(emulator, short_dir):
    return Clock(emulator, short_dir / "clock")


@pytest.fixture(name="jumping")
def make_daemon(clock, emulator):
    daemon = Daemon(emulator)
    assert daemon.answer == "ready\n"
    daemon.clock = clock
    return daemon


def now_of(machine):
    return int(machine.run("date", "+%s").stdout)


def test_the_clock_of_these_tests_does_jump(clock, emulator):
    before = now_of(emulator)
    clock.jump(-5 * HOUR)
    assert -5 * HOUR <= now_of(emulator) - before < -4 * HOUR


@pytest.mark.parametrize("jump", [6 * HOUR, -6 * HOUR])
def test_a_wait_ends_after_its_time_wherever_the_clock_jumps(jumping, jump):
    holder, short, patient = (jumping.client() for _ in range(3))
    holder.acquire(name="holder", resident=10 * GIB)
    began = time.monotonic()
    asked = short.send(raw.ACQUIRE, raw.claim(name="short", resident=8 * GIB, wait_ms=SHORT_MS))
    asked_patient = patient.send(raw.ACQUIRE, raw.claim(name="patient", resident=8 * GIB,
                                                        wait_ms=PATIENT_MS))
    assert short.answer(asked)["type"] == raw.QUEUED
    assert patient.answer(asked_patient)["type"] == raw.QUEUED
    jumping.clock.jump(jump)
    refused = short.answer(asked)
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.NO_ROOM
    assert time.monotonic() - began > SHORT_MS / 1000 - 0.01  # it counts whole milliseconds
    holder.close()
    assert patient.answer(asked_patient)["type"] == raw.GRANTED


@pytest.mark.parametrize("jump", [6 * HOUR, -6 * HOUR])
def test_a_command_waits_by_no_wall_clock(jumping, jump):
    machine = jumping.machine
    holder = jumping.client()
    holder.acquire(name="holder", resident=10 * GIB)
    began = time.monotonic()
    waiting = machine.spawn_brim("run", "--vram", "8GiB", "--name", "late", "--max-wait",
                                 f"{SHORT_MS}ms", "--", "true", stderr=subprocess.PIPE)
    machine.events.wait(kind="queued", name="late")
    jumping.clock.jump(jump)
    assert waiting.wait(60) == 124
    assert time.monotonic() - began > SHORT_MS / 1000 - 0.01  # it counts whole milliseconds


def since(machine, name):
    """What `brim ps` says: how long it has it."""
    row = next(line for line in machine.brim("ps").stdout.splitlines() if line.split()[:1] == [name])
    return row.rpartition(" normal ")[2].split(None, 1)[1].strip()


def test_events_keep_their_order_and_tables_stay_sane(jumping):
    machine, clients = jumping.machine, []
    for name, jump in (("one", 0), ("two", 8 * HOUR), ("three", -8 * HOUR)):
        jumping.clock.jump(jump)
        clients.append(jumping.client())
        assert clients[-1].acquire(name=name, resident=GIB)["type"] == raw.GRANTED
    lines = [json.loads(line) for line in machine.brim("events", "--json").stdout.splitlines()]
    assert [line["name"] for line in lines if line["kind"] == "granted"] == ["one", "two", "three"]
    assert [line["n"] for line in lines] == sorted({line["n"] for line in lines})
    assert since(machine, "one") == since(machine, "two") == "0 ms"  # it is before both, by this clock
    jumping.clock.jump(8 * HOUR)
    assert since(machine, "one") == "8 h 00 m" and since(machine, "three") == "16 h 00 m"


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR])
def test_the_first_minute_of_a_daemon_is_a_minute(emulator, clock, short_dir, jump):
    """In the system scope a holder whose lease the journal missed is believed that long."""
    daemon = Daemon(emulator, options=("--scope", "system", "--runtime-dir", short_dir / "run-brim",
                                       "--state-dir", short_dir / "lib-brim"))
    assert daemon.answer == "ready\n"
    daemon.runtime_dir = short_dir / "run-brim"
    clock.jump(jump)
    gpu = daemon.client().acquire(name="any", resident=GIB)["gpus"]
    back = daemon.client().ask(raw.REATTACH, struct.pack("<QIIQ", 77, raw.STATE_IDLE, 0, 0)
                               + raw.claim(name="back", resident=GIB, gpu=gpu))
    assert back["type"] == raw.GRANTED and back["lease"] == 77


def test_a_daemon_that_comes_back_in_another_time_finds_its_leases(jumping):
    machine = jumping.machine
    program = machine.spawn("sleep", "1000")
    granted = jumping.client().acquire(name="kept", resident=3 * GIB, flags=raw.HELD_BY_PROCESS,
                                       pid=program.pid)
    for jump in (-30 * HOUR, 30 * HOUR):
        jumping.stop()
        jumping.clock.jump(jump)
        jumping = Daemon(machine)
        jumping.clock = Clock(machine, machine.cwd / "clock")
        machine.events.wait(kind="restored", name="kept")
        assert machine.lease("kept")["id"] == f"l{granted['lease']}"


def test_a_batch_does_not_care_what_time_it_is(clock, emulator, short_dir):
    batch = Batch(emulator, short_dir, count=12)
    running = batch.start("--timeout", "1m", "--workers", "2", env=batch.lead())
    for jump in (5 * HOUR, -5 * HOUR, 0, 40 * HOUR):
        batch.next_begin()
        clock.jump(jump)
        batch.open_gate(3)
    read_until(running.stderr, "all 12 segments done")
    assert running.wait(60) == 0
    batch.check_complete()
    summary = batch.summary()
    assert summary["workers_crashed"] == summary["segments_retried"] == 0
    assert summary["wall_s"] < 60
    batch.close()
