# SPDX-License-Identifier: Apache-2.0
"""The package's types, as strict as mypy can be: its own files, and a program that uses it; and the
style of the tree's Python, by ruff."""
import os
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]


def mypy(cache, *arguments):
    return subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache,
                           "--config-file", TREE / "pyproject.toml", *arguments],
                          env={**os.environ, "MYPYPATH": str(TREE / "python")},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_package_is_strictly_typed(tmp_path):
    done = mypy(tmp_path, TREE / "python/brim")
    assert done.returncode == 0, done.stdout


def test_so_is_a_program_that_uses_it(tmp_path):
    done = mypy(tmp_path, TREE / "tests/peers/sample.py")
    assert done.returncode == 0, done.stdout


def test_what_is_wrong_is_found(tmp_path):
    """Decorated functions keep their types, and so does what is made later than the import."""
    (tmp_path / "wrong.py").write_text(
        "import brim\n"
        "lease = brim.lease('a', resident=1.5)\n"
        "@lease.burst()\n"
        "def answer(text: str) -> str:\n    return text\n"
        "answer(1)\n"
        "brim.stage('a')\n"
        "brim.nothing()\n")
    done = mypy(tmp_path / "cache", tmp_path / "wrong.py")
    lines = [line.split(":")[1] for line in done.stdout.splitlines() if ": error: " in line]
    assert lines == ["2", "6", "7", "8"], done.stdout


def test_the_trees_python_is_clean():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=TREE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
