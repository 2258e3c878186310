# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the Python package's tests: those of tests/e2e, and the package in this process.

    def test_it(machine):              # an emulated card; brim works in this process
        with brim.lease("a", resident="1GiB"):
            assert machine.lease("a")

    def test_it(script):               # the same card; another interpreter
        script("import brim; …").returncode
"""
import gc
import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
PACKAGE = TREE / "python"
sys.path.insert(0, str(PACKAGE))
sys.path.append(str(TREE / "tests/e2e"))

_spec = importlib.util.spec_from_file_location("e2e_fixtures", TREE / "tests/e2e/conftest.py")
e2e = sys.modules["e2e_fixtures"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(e2e)
for _name in ("pytest_configure", "build_dir", "is_sanitized", "_skip_foreign_programs",
              "short_dir", "home_env", "start_emulator", "emulator", "emulated", "bare"):
    globals()[_name] = getattr(e2e, _name)


@pytest.fixture
def python_env(build_dir):
    return {"PYTHONPATH": str(PACKAGE), "BRIM_LIB": str(build_dir / "libbrim.so.0"),
            "BRIM_BUILD": str(build_dir)}


@pytest.fixture
def machine(emulator, python_env, monkeypatch):
    """An emulated RTX 4070 Ti whose daemon this very process talks to."""
    for name, value in {**emulator.env, **python_env}.items():
        monkeypatch.setenv(name, value)
    yield emulator
    import brim._calls
    brim._calls.release_all()


@pytest.fixture
def script(emulator, python_env):
    """script(text, *arguments): runs it in an interpreter of its own, on the emulated card."""
    emulator.env.update(python_env)

    def run(text, *arguments, **options):
        return emulator.run(sys.executable, "-c", text, *arguments, **options)

    def start(text, *arguments, **options):
        options.setdefault("stdout", subprocess.PIPE)
        return emulator.spawn(sys.executable, "-u", "-c", text, *arguments, **options)

    run.start = start
    run.machine = emulator
    return run


@pytest.fixture
def torch_script(script):
    """The same with the fake torch of tests/python/fake in reach."""
    script.machine.env["PYTHONPATH"] += f":{TREE / 'tests/python/fake'}"
    return script


@pytest.fixture
def no_leftovers(machine):
    """The test leaves as many descriptors open as it found, and no thread."""
    def count():
        return len(os.listdir("/proc/self/fd"))

    assert machine.events  # its pipe is not the test's
    gc.collect()
    before = count()
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("brim "):
            thread.join(60)
            assert not thread.is_alive()
    gc.collect()
    assert count() == before
