# SPDX-License-Identifier: Apache-2.0
"""Each driver call that a batch's worker makes fails once: the worker is replaced, the batch does not
care, and what the card shows at the end is what the daemon says. (brimd and brim-helper make no call
of CUDA; NVML's are in test_nvml_failures.py.)"""
import re

import pytest

from conftest import TREE
from test_nvml_failures import failures, order
from trial import Trial, settle

OUT_OF_MEMORY, UNKNOWN = 2, 999
CALLS = sorted({re.sub(r"_v\d+$", "", name) for name in re.findall(
    r"SYMBOL\(library, (cu\w+)\)", (TREE / "tests/e2e/segment_worker.c").read_text())})


@pytest.mark.not_sanitized  # nothing of ours is in the way of these calls
def test_each_driver_call_of_a_worker_fails_once(emulator, short_dir, record_property):
    undisturbed = Trial(emulator, short_dir, "undisturbed", segments=2, workers=1)
    undisturbed.open_gate()
    assert undisturbed.run().returncode == 0
    wanted, hit = undisturbed.outputs(), 0
    undisturbed.close()
    cases = [(name, UNKNOWN) for name in CALLS] + [("cuMemAlloc", OUT_OF_MEMORY)]
    for name, code in cases:
        before = failures(emulator)
        order(emulator, "fail", name, 1, code)
        trial = Trial(emulator, short_dir, f"{name}-{code}", segments=2, workers=1)
        trial.open_gate()
        done = trial.run()
        order(emulator, "clear")
        assert done.returncode == 0, (name, done.stderr)
        assert done.stderr.count("ended with status 1") == 1, (name, done.stderr)
        assert trial.outputs() == wanted and len(trial.committed()) == 2, name
        hit += failures(emulator) - before
        trial.close()
    settle(emulator)
    record_property("told", f"driver calls of a worker: {hit} of {len(cases)} failed once, 0 lost")
    assert hit == len(cases)
