# SPDX-License-Identifier: Apache-2.0
"""brimd and its helper: hangs, deaths, noise, and facts that no emulated card gives."""
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

import raw_client as raw
from own_daemon import Daemon

GIB = 1 << 30


def with_helper(machine, directory, script):
    """A directory with brimd and a brim-helper of our own beside it."""
    directory.mkdir()
    shutil.copy2(machine.build / "brimd", directory / "brimd")
    helper = directory / "brim-helper"
    helper.write_text(script)
    helper.chmod(0o755)
    return directory / "brimd"


class MadeUp:
    """A brimd whose driver says what the test likes."""

    def __init__(self, machine, directory):
        self.path = machine.state_dir / "facts.json"
        machine.state_dir.mkdir(mode=0o700, exist_ok=True)
        self.say(gpus=[self.gpu("GPU-a")])
        script = (Path(__file__).parent / "fake_helper.py").read_text(encoding="utf-8")
        self.daemon = Daemon(machine, program=with_helper(machine, directory, script))

    @staticmethod
    def gpu(uuid, used=0, processes=()):
        return {"uuid": uuid, "capacity": 8 * GIB, "used": used, "processes": list(processes)}

    def until(self, is_so):
        """Looks at the gpu until it is so: what was said is known with the next facts."""
        deadline = time.monotonic() + 20
        while not is_so(gpu := self.daemon.machine.ps()["gpus"][0]):
            assert time.monotonic() < deadline, gpu
        return gpu

    def say(self, **facts):
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(facts), encoding="utf-8")
        fresh.rename(self.path)


@pytest.fixture
def made_up(emulator, short_dir):
    """The gpu is known: it has been granted on."""
    made_up = MadeUp(emulator, short_dir / "bin")
    client = made_up.daemon.client()
    assert client.acquire(resident=GIB, wait_ms=20000)["type"] == raw.GRANTED
    assert client.ask(raw.RELEASE)["type"] == raw.DONE
    return made_up


def test_who_waits_outlasts_a_helper_that_fails_at_first(emulator, short_dir):
    made_up = MadeUp(emulator, short_dir / "bin")
    made_up.say(noise="00")
    client = made_up.daemon.client()
    client.send(raw.ACQUIRE, raw.claim(resident=GIB, wait_ms=20000))
    made_up.daemon.machine.events.wait(kind="facts_failed")
    made_up.say(gpus=[made_up.gpu("GPU-a")])
    client.wait(raw.GRANTED)


def helper_of(daemon):
    children = f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children"
    with open(children, encoding="ascii") as stream:
        return int(stream.read().split()[0])


def test_a_helper_that_hangs_is_killed_and_nothing_is_granted(emulator, short_dir):
    brimd = with_helper(emulator, short_dir / "bin",
                        "#!/bin/sh\necho $$ >> $BRIM_STATE_DIR/helpers\nexec sleep 1000\n")
    daemon = Daemon(emulator, program=brimd)
    assert daemon.answer == "ready\n"
    refused = daemon.client().acquire(resident=GIB)
    assert refused["type"] == raw.REFUSED
    assert "brim-helper" in refused["text"]
    assert "brim-helper" in emulator.ps()["problem"]
    daemon.stop()
    for pid in (emulator.state_dir / "helpers").read_text().split():
        assert not os.path.exists(f"/proc/{pid}/exe")


def test_a_helper_that_dies_comes_back_and_so_do_the_facts(daemon):
    client = daemon.client()
    client.acquire(name="holder", resident=GIB)
    helper = helper_of(daemon)
    os.kill(helper, signal.SIGKILL)
    daemon.machine.events.wait(kind="facts_failed")
    daemon.machine.events.wait(kind="facts_back")
    assert daemon.client().acquire(name="later", resident=GIB)["type"] == raw.GRANTED


def test_a_helper_that_stops_answering_is_replaced(daemon):
    client = daemon.client()
    client.acquire(name="holder", resident=GIB)
    events = daemon.machine.events
    helper = helper_of(daemon)
    os.kill(helper, signal.SIGSTOP)
    failed = events.wait(kind="facts_failed")
    assert "2 s" in failed["text"]
    events.wait(kind="facts_back")
    assert not os.path.exists(f"/proc/{helper}/exe")


def test_a_gpu_that_falls_off_the_bus_is_said_and_nothing_is_granted_there(made_up):
    daemon = made_up.daemon
    client = daemon.client()
    assert client.acquire(name="holder", resident=GIB)["type"] == raw.GRANTED
    events = daemon.machine.events
    made_up.say(gpus=[])
    assert events.wait(kind="gpu_lost")["gpu"] == 0
    refused = daemon.client().acquire(resident=GIB)
    assert refused["type"] == raw.REFUSED
    assert daemon.machine.lease("holder")["charge_bytes"] == GIB
    made_up.say(gpus=[made_up.gpu("GPU-a")])
    assert daemon.client().acquire(resident=GIB, wait_ms=20000)["type"] in (raw.GRANTED,
                                                                           raw.REFUSED)
    while daemon.client().acquire(resident=GIB)["type"] != raw.GRANTED:
        pass  # the next facts show it again


def test_without_bytes_of_processes_foreign_is_what_nobody_is_charged(made_up):
    daemon = made_up.daemon
    other = daemon.machine.spawn("sleep", "1000")
    made_up.say(gpus=[made_up.gpu("GPU-a", used=5 * GIB, processes=[[other.pid, None]])])
    gpu = made_up.until(lambda gpu: gpu["foreign_bytes"] == 5 * GIB)
    assert not gpu["has_process_bytes"] and gpu["foreign"][0]["pid"] == other.pid
    client = daemon.client()
    assert client.acquire(resident=2 * GIB)["type"] == raw.GRANTED
    assert client.ask(raw.READY)["type"] == raw.DONE
    made_up.until(lambda gpu: gpu["foreign_bytes"] == 3 * GIB and gpu["charged_bytes"] == 2 * GIB)


def test_one_list_newer_than_its_figure_grants_nothing(made_up):
    """Another program has 6 of the 8 GiB. While the driver is asked, a holder takes its own one: the
    list has it already, and the figure not yet."""
    daemon = made_up.daemon
    mine = [[os.getpid(), GIB]]
    made_up.say(gpus=[made_up.gpu("GPU-a", used=6 * GIB)])
    made_up.until(lambda gpu: gpu["foreign_bytes"] == 6 * GIB)
    holder, waiter = daemon.client(), daemon.client()
    assert holder.acquire(name="holder", resident=GIB)["type"] == raw.GRANTED
    assert waiter.acquire(name="waiter", resident=GIB, wait_ms=60000)["type"] == raw.QUEUED
    made_up.say(once={"gpus": [made_up.gpu("GPU-a", used=6 * GIB, processes=mine)]},
                gpus=[made_up.gpu("GPU-a", used=7 * GIB, processes=mine)])
    gpu = made_up.until(lambda gpu: gpu["used_bytes"] == 7 * GIB)
    assert gpu["foreign_bytes"] == 6 * GIB
    assert daemon.machine.lease("waiter")["state"] == "queued"
    made_up.say(gpus=[made_up.gpu("GPU-a", used=GIB, processes=mine)])
    waiter.wait(raw.GRANTED)


def test_facts_from_before_a_release_do_not_end_its_draining(made_up, short_dir):
    """The driver was asked before the holder took its memory and died, and answers afterwards."""
    gate = short_dir / "gate"
    os.mkfifo(gate)
    calm = [made_up.gpu("GPU-a")]
    for turn in range(50):  # a machine that lets the answer wait too long makes it newer: LATE_MAX_MS
        client, name = made_up.daemon.client(), f"holder-{turn}"
        client.send(raw.ACQUIRE, raw.claim(name=name, resident=4 * GIB, wait_ms=20000))
        client.wait(raw.GRANTED)
        left = [made_up.gpu("GPU-a", used=4 * GIB, processes=[[os.getpid(), 4 * GIB]])]
        made_up.say(once={"gate": str(gate), "gpus": calm}, gpus=left)
        with gate.open("wb"):  # it is asked
            assert client.ask(raw.RELEASE)["type"] == raw.DONE
        gpu = made_up.until(lambda gpu: gpu["used_bytes"] == 4 * GIB)
        if gpu["draining_bytes"] == 4 * GIB:
            break
        made_up.say(gpus=calm)
        made_up.daemon.machine.events.wait(kind="drained", name=name)
    assert gpu["draining_bytes"] == 4 * GIB and gpu["foreign_bytes"] == 0


@pytest.mark.parametrize("noise", [
    pytest.param("00", id="short"),
    pytest.param("ff" * 4000, id="long"),
    pytest.param("02000000ffffffff" + "00" * 200, id="of_another_question"),
    pytest.param("0300000001000000", id="half_an_end"),
])
def test_a_helper_that_talks_nonsense_is_replaced(made_up, noise):
    daemon = made_up.daemon
    events = daemon.machine.events
    made_up.say(noise=noise)
    client = daemon.client()
    client.send(raw.ACQUIRE, raw.claim(resident=GIB, wait_ms=20000))
    assert "brim-helper" in events.wait(kind="facts_failed")["text"]
    made_up.say(gpus=[made_up.gpu("GPU-a")])
    client.wait(raw.GRANTED)


def test_what_the_driver_cannot_say_is_shown(made_up):
    made_up.say(status=-5, problem="nvmlInit: the driver is of another version")
    made_up.daemon.machine.ps()
    made_up.daemon.machine.events.wait(kind="facts_failed")
    while (answer := made_up.daemon.client().acquire(resident=GIB))["type"] == raw.GRANTED:
        pass  # on facts of the last quarter of a second
    assert "nvmlInit" in answer["text"]
    assert "nvmlInit" in made_up.daemon.machine.ps()["problem"]


def test_a_process_name_of_any_bytes_is_shown(made_up, short_dir):
    odd = short_dir / os.fsdecode(b"\xff\x1b[31m")
    shutil.copy2("/bin/sleep", odd)
    program = made_up.daemon.machine.spawn(odd, "1000")
    made_up.say(gpus=[made_up.gpu("GPU-a", used=GIB, processes=[[program.pid, GIB]])])
    gpu = made_up.until(lambda gpu: gpu["foreign"])
    assert [one["name"] for one in gpu["foreign"]] == ["??[31m"]
