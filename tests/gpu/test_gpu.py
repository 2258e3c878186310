# SPDX-License-Identifier: Apache-2.0
"""On a real GPU (`make check-gpu`): read-only, and with the memory that is free anyway.

The tests themselves can be tried on a card that is not there:
    build/brim emulate --gpu h200 -- .venv/bin/python -m pytest tests/gpu
"""
import json
import os

import pytest


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
