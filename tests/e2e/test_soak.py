# SPDX-License-Identifier: Apache-2.0
"""The short form of `make soak`: a few batches with everything killed on the way."""
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[1] / "soak" / "soak.py"


def test_batches_survive_kills_foreign_programs_and_late_frees(emulated, build_dir, is_sanitized):
    if is_sanitized:
        pytest.skip("three of twelve sanitized runs did not end well; why is not known yet")
    done = emulated(sys.executable, SOAK, "--batches", "3", "--segments", "60", "--seed", "7",
                    options=("--free-lag", "50ms"),
                    env={"BRIM_BUILD": str(build_dir)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 batches of 60 segments" in done.stdout
