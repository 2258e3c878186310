# SPDX-License-Identifier: Apache-2.0
"""The fixtures of tests/python, with the real torch of requirements.txt. What has no GPU gets the
FAKE torch.cuda of cuda_of_torch.py over the emulated card; the rest of torch is torch."""
import importlib.util
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]

_spec = importlib.util.spec_from_file_location("python_fixtures", TREE / "tests/python/conftest.py")
python = sys.modules["python_fixtures"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(python)
for _name in ("pytest_configure", "build_dir", "is_sanitized", "_skip_foreign_programs",
              "short_dir", "home_env", "start_emulator", "emulator", "emulated", "bare",
              "python_env", "script"):
    globals()[_name] = getattr(python, _name)


@pytest.fixture
def cuda_script(script):
    """script(text, …) with the FAKE torch.cuda in its place before the text begins."""
    script.machine.env["PYTHONPATH"] += f":{TREE / 'tests/peers'}"
    before = "import torch, cuda_of_torch\ncuda_of_torch.install()\n"

    def run(text, *arguments, **options):
        return script(before + text, *arguments, **options)

    run.start = lambda text, *rest, **options: script.start(before + text, *rest, **options)
    run.machine = script.machine
    return run
