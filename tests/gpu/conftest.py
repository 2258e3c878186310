# SPDX-License-Identifier: Apache-2.0
"""The fixtures of tests/e2e, on this machine's own GPU."""
import importlib.util
import sys
from pathlib import Path

E2E = Path(__file__).resolve().parents[1] / "e2e"
sys.path.append(str(E2E))  # what its fixtures import

_spec = importlib.util.spec_from_file_location("e2e_fixtures", E2E / "conftest.py")
e2e = sys.modules["e2e_fixtures"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(e2e)
for _name in ("pytest_configure", "build_dir", "is_sanitized", "_skip_foreign_programs",
              "short_dir", "home_env", "bare"):
    globals()[_name] = getattr(e2e, _name)
