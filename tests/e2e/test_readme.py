# SPDX-License-Identifier: Apache-2.0
"""The README's examples, as they are printed: files are written, commands run, screens compared.

A fenced block whose first line names a file is that file. A `console` block is a command after "$ "
and what it prints, on both outputs; figures may differ, "…" stands for anything, and lines that the
README leaves out may be there.
"""
import os
import re
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
README = TREE / "README.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.M | re.S)
SEGMENTS = 60


def blocks(kind):
    return [(name, body) for word, name, body in BLOCK.findall(README.read_text()) if word == kind]


def pattern(line):
    """A screen's line as a regular expression: any number or duration, any run of blanks or of a
    bar."""
    parts = [re.escape(part) for part in line.strip().split("…")]
    text = ".*".join(parts)
    text = re.sub(r"(\d+\\?\.)?\d+", r"[\\d.]+", text)
    text = re.sub(r"(\[\\d\.\]\+\\ )(ms|s)\b", r"\1(ms|s)", text)
    text = re.sub(r"(\\ )+", r"\\s+", text)
    return re.sub(r"[█▚░·]{2,}", "[█▚░·]+", text)


def assert_screen(expected, printed):
    lines = iter(printed.splitlines())
    for wanted in filter(str.strip, expected.splitlines()):
        assert any(re.fullmatch(pattern(wanted), line.strip()) for line in lines), \
            f"not printed (or not in this order): {wanted}\n--- printed:\n{printed}"


@pytest.mark.not_sanitized
def test_the_examples_do_what_the_readme_shows(bare, short_dir, build_dir):
    for kind in ("python", "yaml"):
        for name, body in blocks(kind):
            if name:
                (short_dir / name).write_text(body)
    (short_dir / "book.txt").write_text("".join(f"sentence {i}\n" for i in range(SEGMENTS)))
    screens = blocks("console")
    assert len(screens) >= 3
    for _, body in screens:
        command, _, expected = body.partition("\n")
        assert command.startswith("$ ")
        done = bare.run("sh", "-c", command[2:] + " 2>&1", env={
            "COLUMNS": "80", "PYTHONPATH": str(TREE / "python"),  # what pip install . would do
            "BRIM_LIB": str(build_dir / "libbrim.so.0")})
        assert_screen(expected, done.stdout)
    # The batch among them: every segment once, each in its place.
    results = sorted(os.listdir(short_dir / "out"))
    assert [(short_dir / "out" / name).read_text() for name in results] \
        == [f"SENTENCE {i}" for i in range(SEGMENTS)]
