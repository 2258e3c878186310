# SPDX-License-Identifier: Apache-2.0
"""The fixtures of tests/e2e, on this machine's own GPU. What is missing for a test is named in its
skip; BRIM_REQUIRE_GPU=1 makes a skip a failure."""
import ctypes
import importlib.util
import os
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
sys.path.append(str(TREE / "tests/e2e"))  # what its fixtures import

_spec = importlib.util.spec_from_file_location("e2e_fixtures", TREE / "tests/e2e/conftest.py")
e2e = sys.modules["e2e_fixtures"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(e2e)
for _name in ("pytest_configure", "build_dir", "is_sanitized", "_skip_foreign_programs",
              "short_dir", "home_env", "bare"):
    globals()[_name] = getattr(e2e, _name)


_torch = {}  # what the first look has found


def missing(what):
    """Ends the test: it cannot be done here."""
    if os.environ.get("BRIM_REQUIRE_GPU") == "1":
        pytest.fail(what)
    pytest.skip(what)


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
    if call:
        missing(f"no GPU: {call}")
    for name in ("LD_LIBRARY_PATH", "BRIM_EMULATED", "BRIM_EMU_SOCKET", "BRIM_LOCK_DIR"):
        if name in os.environ:
            bare.env[name] = os.environ[name]
    return bare


@pytest.fixture
def torch_machine(machine, build_dir):
    """A machine whose `python` has PyTorch and CUDA: $BRIM_TORCH_PYTHON, or the interpreter of these
    tests. To try the tests, BRIM_FAKE_TORCH=torch puts tests/python's FAKE torch in its place, and
    BRIM_FAKE_TORCH=cuda the FAKE torch.cuda of tests/peers into the real one."""
    machine.python = os.environ.get("BRIM_TORCH_PYTHON", sys.executable)
    fake = os.environ.get("BRIM_FAKE_TORCH")
    paths = [TREE / "python"] + {"torch": [TREE / "tests/python/fake"],
                                 "cuda": [TREE / "tests/peers"]}.get(fake, [])
    machine.before = "import cuda_of_torch\ncuda_of_torch.install()\n" if fake == "cuda" else ""
    machine.missing = missing
    machine.env.update(PYTHONPATH=":".join(map(str, paths)), BRIM_BUILD=str(build_dir),
                       BRIM_LIB=str(build_dir / "libbrim.so.0"))
    if "failure" not in _torch:  # importing it takes seconds
        done = machine.run(machine.python, "-c",
                           f"{machine.before}import torch\ntorch.zeros(1, device='cuda')",
                           timeout=150)
        _torch["failure"] = done.returncode != 0 and done.stderr.strip().rpartition("\n")[2]
    if _torch["failure"]:
        missing(f"no PyTorch with CUDA in {machine.python} (another one: BRIM_TORCH_PYTHON=…): "
                + _torch["failure"])
    return machine
