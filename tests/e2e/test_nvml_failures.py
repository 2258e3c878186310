# SPDX-License-Identifier: Apache-2.0
"""Each NVML call that brim-helper makes fails once, while it starts and while leases are held."""
import json
import re
import time

import raw_client as raw
from conftest import PATIENCE_S, TREE
from own_daemon import Daemon

GIB = 1 << 30
UNKNOWN = 999  # NVML_ERROR_UNKNOWN
# v2 of a call is the same call to the emulator's orders.
CALLS = sorted({re.sub(r"_v\d+$", "", name) for name in re.findall(
    r"X\(\w+,\s*(nvml\w+)\)", (TREE / "src/driver/nvml.h").read_text())} - {
        # The first has no status; the emulator knows the answers to the others without its server.
        "nvmlErrorString", "nvmlShutdown", "nvmlSystemGetDriverVersion"})


def order(machine, *words):
    done = machine.brim("emulate", "--control", " ".join(map(str, words)))
    assert done.returncode == 0, done.stderr


def failures(machine):
    return json.loads(machine.brim("emulate", "--stats").stdout)["injected_faults"]


def grant(daemon, name):
    """A lease, in the end; where no gpu could be read at first, the refusal names what failed."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        client = daemon.client()
        answer = client.acquire(name=name, resident=GIB, wait_ms=30000)
        while answer["type"] == raw.QUEUED:
            answer = client.answer(answer["seq"])
        if answer["type"] == raw.GRANTED:
            return client
        assert answer["code"] == raw.NO_GPU and time.monotonic() < deadline, answer
        assert "nvml" in answer["text"] or "brim-helper" in answer["text"], answer
        client.close()


def fail_once(machine, name):
    """A daemon that meets the failure at its start, and again while somebody holds a lease."""
    before = failures(machine)
    order(machine, "fail", name, 1, UNKNOWN)
    daemon = Daemon(machine)
    holder = grant(daemon, "holder")
    order(machine, "clear")
    order(machine, "fail", name, 1, UNKNOWN)
    with_room = grant(daemon, "later")
    order(machine, "clear")
    last = grant(daemon, "last")
    status = machine.ps()
    assert sorted(lease["name"] for lease in status["leases"]) == ["holder", "last", "later"], name
    gpu = status["gpus"][0]
    assert gpu["charged_bytes"] == 3 * GIB and gpu["foreign_bytes"] == 0, (name, gpu)
    assert not status.get("problem"), (name, status["problem"])
    for client in (holder, with_room, last):
        assert client.ask(raw.RELEASE)["type"] == raw.DONE
    daemon.stop()
    return failures(machine) - before


def test_each_nvml_call_fails_once(emulator, record_property):
    assert len(CALLS) > 5
    hit = {name: fail_once(emulator, name) for name in CALLS}
    never = sorted(name for name, count in hit.items() if count == 0)
    line = (f"NVML calls: {len(hit) - len(never)} of {len(hit)} failed once, "
            f"{sum(hit.values())} failures outlived")
    record_property("told", line)
    assert not never, line
