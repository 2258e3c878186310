# SPDX-License-Identifier: Apache-2.0
"""Other Pythons than the one that runs the tests: those that lie beside it (as pyenv puts them),
and the oldest one's grammar where it is not there."""
import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python/brim"
OLDEST = (3, 9)


def version(python):
    return tuple(map(int, python.parts[-3].split(".")[:2]))


BESIDE = sorted(Path(sys.base_prefix).parent.glob("[23].*/bin/python"), key=version)
NEW = [python for python in BESIDE if version(python) >= OLDEST] or [Path(sys.executable)]


def name(python):
    return python.parts[-3] if python in BESIDE else "this one"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_every_file_is_of_the_oldest_pythons_grammar(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=OLDEST)


PROGRAM = """
import asyncio, os, sys, threading, warnings
warnings.simplefilter("error")
import brim, brim.torch
import torch

lines = []
with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
    brim.torch.attach(lease)
    @lease.burst()
    def answer():
        return lease.state
    lines.append(answer())
    with lease.burst(), brim.session():
        lines.append(brim.ps()["leases"][0]["state"])

async def main():
    async with brim.lease("b", resident="1GiB", burst="1GiB") as lease, lease.burst():
        lines.append(lease.state)
    async with brim.stage("c", resident="1GiB", say=lines.append) as s:
        s.keep(torch.zeros(1 << 20))
asyncio.run(main())
try:
    brim.lease("d", resident="40GiB").acquire()
except brim.NeverFits as refused:
    lines.append(refused.asked_bytes >> 30)
print(*lines, sep="\\n")
"""


@pytest.mark.parametrize("python", NEW, ids=name)
def test_the_package_works(torch_script, python):
    done = torch_script.machine.run(python, "-X", "dev", "-c", PROGRAM,
                                    env={"PYTHONDONTWRITEBYTECODE": "1"})
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[:3] == ["busy"] * 3 and lines[3].startswith("c: released ") and lines[4] == "40"


@pytest.mark.parametrize("python", BESIDE or NEW, ids=name)
def test_any_python_starts_as_ever_beside_the_janitor(emulator, short_dir, python):
    """What a program starts inherits the environment, whatever its age."""
    (short_dir / "sitecustomize.py").write_text("print('its own')\n")
    (short_dir / "torch.py").write_text("class cuda:\n    is_initialized = lambda: False\n")
    done = emulator.brim("run", "--vram", "1GiB", "--python-janitor", "--", python, "-c",
                         "import sitecustomize, torch, threading\n"
                         "print([t.name for t in threading.enumerate()].count('brim janitor'))",
                         env={"PYTHONPATH": str(short_dir), "PYTHONDONTWRITEBYTECODE": "1"})
    janitors = int(python not in BESIDE or version(python) >= OLDEST)
    assert (done.returncode, done.stdout) == (0, f"its own\n{janitors}\n"), done.stderr
