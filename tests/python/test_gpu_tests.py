# SPDX-License-Identifier: Apache-2.0
"""A dry run of what `make check-gpu` does with PyTorch on hardware: the same tests, with the FAKE
torch on the emulated card. What they say where something is missing is tried as well."""
import os
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]


@pytest.fixture
def gpu_tests(build_dir):
    def run(programs, **env):
        return programs.run(sys.executable, "-m", "pytest", "-q", "tests/gpu/test_torch.py",
                            cwd=TREE, env={"BRIM_BUILD": str(build_dir), **env}, timeout=150)
    return run


def test_the_tests_of_hardware_pass_with_a_fake(emulator, gpu_tests):
    done = gpu_tests(emulator, BRIM_FAKE_TORCH="torch")
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a driver here")
def test_without_a_gpu_they_are_skipped_and_name_the_call(bare, gpu_tests):
    done = gpu_tests(bare)
    assert done.returncode == 0 and "4 skipped" in done.stdout, done.stdout
    assert 'no GPU: dlopen("libcuda.so.1")' in done.stdout
    done = gpu_tests(bare, BRIM_REQUIRE_GPU="1")
    assert done.returncode == 1 and "4 errors" in done.stdout, done.stdout


def test_without_torch_they_are_skipped_and_say_how_to_name_one(emulator, gpu_tests):
    done = gpu_tests(emulator)
    assert done.returncode == 0 and "4 skipped" in done.stdout, done.stdout
    assert "no PyTorch with CUDA" in done.stdout and "BRIM_TORCH_PYTHON=" in done.stdout
    assert "No module named 'torch'" in done.stdout
