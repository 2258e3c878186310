# SPDX-License-Identifier: Apache-2.0
"""The short form of `make soak`: a few batches with everything killed on the way."""
import sys
from pathlib import Path

SOAK = Path(__file__).resolve().parents[1] / "soak" / "soak.py"


def test_batches_survive_kills_foreign_programs_and_late_frees(emulated, build_dir, is_sanitized):
    rss_mb = 300 if is_sanitized else 4  # a sanitizer keeps what is freed, to find its late uses
    done = emulated(sys.executable, SOAK, "--batches", "3", "--segments", "60", "--seed", "7",
                    "--rss-mb", rss_mb, options=("--free-lag", "50ms"),
                    env={"BRIM_BUILD": str(build_dir)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 batches of 60 segments" in done.stdout
