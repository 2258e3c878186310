# SPDX-License-Identifier: Apache-2.0
"""Drivers that tell less: no process's bytes, no memory at all, a gpu that is gone."""
import json
import subprocess

GIB = 1 << 30
MIB = 1 << 20
CONTEXT = 256 * MIB


def first_gpu(machine):
    return json.loads(machine.brim("ps", "--json").stdout)["gpus"][0]


def hold(machine, size, *before):
    program = machine.spawn(*before, machine.build / "tests" / "hog", "--bytes", size,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout.readline().startswith("holding")
    return program


def test_without_process_bytes_foreign_is_what_no_lease_is_charged_for(start_emulator):
    machine = start_emulator(options=("--wsl",))
    hold(machine, "3GiB", machine.build / "brim", "run", "--vram", "4GiB", "--")
    while (gpu := first_gpu(machine))["has_process_bytes"]:
        pass  # a sample from before there was any process
    assert gpu["charged_bytes"] == 4 * GIB and gpu["foreign_bytes"] == 0
    hold(machine, "2GiB")
    while (gpu := first_gpu(machine))["foreign_bytes"] == 0:
        pass  # the next sample shows it
    used = 3 * GIB + CONTEXT + 2 * GIB + CONTEXT
    assert gpu["used_bytes"] == used and gpu["foreign_bytes"] == used - 4 * GIB
    refused = machine.brim("run", "--vram", "9GiB", "--max-wait", "0", "--", "true")
    assert refused.returncode == 124 and "foreign" in refused.stderr


def test_unified_memory_is_refused_in_plain_words(emulated):
    done = emulated("brim", "run", "--vram", "2GiB", "--", "true", options=("--unified",))
    assert done.returncode == 125
    assert "shares the machine's memory" in done.stderr


def test_one_lost_gpu_does_not_take_the_other_with_it(start_emulator):
    machine = start_emulator(options=("--gpu", "6GiB"))
    assert machine.brim("run", "--vram", "2GiB", "--", "true").returncode == 0
    assert machine.brim("emulate", "--control", "lost 0").returncode == 0
    while not first_gpu(machine)["lost"]:
        pass  # the next sample shows it
    assert machine.brim("run", "--gpu", "0", "--vram", "2GiB", "--", "true").returncode == 125
    assert machine.brim("run", "--vram", "2GiB", "--", "true").returncode == 0


def test_foreign_programs_come_and_go_as_they_are_ordered(start_emulator):
    machine = start_emulator()
    def control(order):
        return machine.brim("emulate", "--control", order)
    def card():
        return json.loads(machine.brim("emulate", "--stats").stdout)["gpus"][0]
    before = card()["used_bytes"]
    assert control("bandwidth profile").returncode == 0
    assert control("every 50ms hog 0 1GiB 20ms").returncode == 0
    while card()["allocations"] < 3:
        pass  # each takes its memory once
    assert control("clear").returncode == 0
    while card()["used_bytes"] != before:
        pass  # the last one goes when its time is over
    refused = control("every now hog 0 1GiB")
    assert refused.returncode == 2 and "write it like" in refused.stderr


def test_a_hanging_driver_costs_a_helper_and_not_the_daemon(start_emulator):
    machine = start_emulator()
    assert machine.brim("run", "--vram", "2GiB", "--", "true").returncode == 0
    assert machine.brim("emulate", "--control", "hang nvmlDeviceGetMemoryInfo 1").returncode == 0
    # The hung helper misses its deadline; the next one asks anew.
    assert machine.brim("run", "--vram", "2GiB", "--", "true").returncode == 0
    stats = json.loads(machine.brim("emulate", "--stats").stdout)
    assert stats["injected_faults"] == 1
