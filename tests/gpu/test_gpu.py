# SPDX-License-Identifier: Apache-2.0
"""On a real GPU (`make check-gpu`): read-only, and with the memory that is free anyway.

Skipped where there is none, naming the call that failed; BRIM_REQUIRE_GPU=1 makes that a failure.
The tests themselves can be tried on a card that is not there:
    build/brim emulate --gpu h200 -- .venv/bin/python -m pytest tests/gpu
"""
import ctypes
import json
import os

import pytest

def failing_call():
    """The first call of the driver that fails here, as text; None where there is a GPU."""
    for library, call in (("libcuda.so.1", lambda it: it.cuInit(0)),
                          ("libnvidia-ml.so.1", lambda it: it.nvmlInit_v2())):
        try:
            status = call(ctypes.CDLL(library))
        except OSError as trouble:
            return f'dlopen("{library}"): {trouble}'
        if status != 0:
            return f"the first call of {library} returned {status}"
    return None


@pytest.fixture
def machine(bare):
    call = failing_call()
    if call and os.environ.get("BRIM_REQUIRE_GPU") == "1":
        pytest.fail(f"no GPU: {call}")
    if call:
        pytest.skip(f"no GPU: {call}")
    for name in ("LD_LIBRARY_PATH", "BRIM_EMULATED", "BRIM_EMU_SOCKET", "BRIM_LOCK_DIR"):
        if name in os.environ:
            bare.env[name] = os.environ[name]
    return bare


def test_ps_shows_the_cards_of_this_machine(machine):
    done = machine.brim("ps", "--json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert status["emulated"] == ("BRIM_EMULATED" in os.environ)
    assert status["problem"] is None
    for gpu in status["gpus"]:
        assert gpu["uuid"].startswith("GPU-")
        assert gpu["capacity_bytes"] > 1 << 30
        assert gpu["used_bytes"] <= gpu["capacity_bytes"]


def test_a_program_runs_under_a_lease_on_a_real_card(machine):
    done = machine.brim("run", "--vram", "300MiB", "--max-wait", "0", "--",
                        "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    if done.returncode == 124:
        pytest.skip("the card is full: " + done.stderr)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("GPU-")


def test_more_than_the_card_has_is_refused_for_ever(machine):
    done = machine.brim("run", "--vram", "4000GiB", "--", "true")
    assert done.returncode == 123
